package zerocopy_test

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/containers/image/v5/copy"
	"github.com/containers/image/v5/signature"
	"github.com/containers/image/v5/types"
	"github.com/containers/storage"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
	"github.com/skopeo-cfs/skopeo-cfs/internal/genimage"
	"github.com/skopeo-cfs/skopeo-cfs/internal/reflinks"
	"github.com/skopeo-cfs/skopeo-cfs/internal/repomaker"
	"github.com/skopeo-cfs/skopeo-cfs/zerocopy"
)

// small is an image that takes a moment.
var small = genimage.Spec{Files: 1500, Bytes: 40 << 20, Layers: 4, Seed: 7}

// untouched checks that a store has nothing at all.
func untouched(t testing.TB, store storage.Store) {
	t.Helper()
	layers, err := store.Layers()
	require.NoError(t, err)
	assert.Empty(t, layers)
	images, err := store.Images()
	require.NoError(t, err)
	assert.Empty(t, images)
	checkStore(t, store)
}

// inodes returns the inodes of the layers' directories.
func inodes(t testing.TB, store storage.Store) map[string]uint64 {
	t.Helper()
	layers, err := store.Layers()
	require.NoError(t, err)
	found := map[string]uint64{}
	for _, l := range layers {
		var stat unix.Stat_t
		require.NoError(t, unix.Stat(filepath.Join(store.GraphRoot(), "overlay", l.ID, "diff"), &stat))
		found[l.ID] = stat.Ino
	}
	return found
}

func TestTwoCopiesAtOnce(t *testing.T) {
	for name, secondFast := range map[string]bool{"both fast": true, "one plain": false} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			repo, _ := generated(t, dir, small)
			store := openStore(t, dir, "overlay")
			first, firstOutput := copyProcess(dir, repo, "image", true)
			second, secondOutput := copyProcess(dir, repo, "image", secondFast)
			require.NoError(t, first.Start())
			require.NoError(t, second.Start())
			wait(t, first, firstOutput)
			after := inodes(t, store)
			assert.Len(t, after, small.Layers)
			wait(t, second, secondOutput)
			assert.Equal(t, after, inodes(t, store), "the second copy has replaced layers of the first")
			checkStore(t, store)
		})
	}
}

func TestLayersThatAppearMeanwhileStay(t *testing.T) {
	dir := t.TempDir()
	repo, _ := generated(t, dir, small)
	store := openStore(t, dir, "overlay")
	var once sync.Once
	var before map[string]uint64
	_, stats, err := zerocopy.Image(t.Context(), insecurePolicy(t), in(t, store, copied), composefs(t, repo, "image"), nil, &zerocopy.Options{
		Report: func(zerocopy.Event) {
			once.Do(func() { // something is staged by now, and nothing applied
				require.NoError(t, copyPlain(t, store, repo, "image"))
				before = inodes(t, store)
			})
		},
	})
	require.NoError(t, err)
	assert.Equal(t, small.Layers, stats.Found)
	assert.Len(t, before, small.Layers)
	assert.Equal(t, before, inodes(t, store))
	checkStore(t, store)
}

func TestSecondCopyFindsAllLayers(t *testing.T) {
	dir := t.TempDir()
	repo, _ := generated(t, dir, small)
	store := openStore(t, dir, "overlay")
	stats, err := copyFast(t, store, repo, "image")
	require.NoError(t, err)
	assert.Equal(t, zerocopy.Stats{Staged: small.Layers, Files: int64(small.Files), Shared: stats.Shared, Written: stats.Written}, stats)
	assert.Equal(t, small.Bytes, stats.Shared+stats.Written)
	before := inodes(t, store)
	stats, err = copyFast(t, store, repo, "image")
	require.NoError(t, err)
	assert.Equal(t, zerocopy.Stats{Found: small.Layers}, stats)
	assert.Equal(t, before, inodes(t, store))
	checkStore(t, store)
}

// cancelAt copies the small image and cancels that with the n-th event of a kind.
func cancelAt(t testing.TB, store storage.Store, repo string, state zerocopy.State, n int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var mutex sync.Mutex
	var cancelled time.Time
	_, _, err := zerocopy.Image(ctx, insecurePolicy(t), in(t, store, copied), composefs(t, repo, "image"), nil, &zerocopy.Options{
		Report: func(e zerocopy.Event) {
			mutex.Lock()
			defer mutex.Unlock()
			if e.State != state {
				return
			}
			if n--; n == 0 {
				cancelled = time.Now()
				cancel()
			}
		},
	})
	require.ErrorIs(t, err, context.Canceled)
	assert.Less(t, time.Since(cancelled), 10*time.Second)
}

func TestCancelLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	repo, _ := generated(t, dir, small)
	store := openStore(t, dir, "overlay")
	for _, after := range []int{1, 5, 20} {
		cancelAt(t, store, repo, zerocopy.Reading, after)
		untouched(t, store)
	}
	_, err := copyFast(t, store, repo, "image")
	require.NoError(t, err)
	checkStore(t, store)
}

// Layers that are in the store stay: others may have begun to use them. The next
// copy does.
func TestCancelLeavesCompleteLayers(t *testing.T) {
	dir := t.TempDir()
	repo, _ := generated(t, dir, small)
	for _, driver := range []string{"overlay", "vfs"} {
		t.Run(driver, func(t *testing.T) {
			store := openStore(t, filepath.Join(dir, driver), driver)
			cancelAt(t, store, repo, zerocopy.Done, 2)
			checkStaging(t, store)
			assert.Empty(t, complaints(t, store, "layer not referenced"))
			images, err := store.Images()
			require.NoError(t, err)
			assert.Empty(t, images)
			stats, err := copyFast(t, store, repo, "image")
			require.NoError(t, err)
			assert.GreaterOrEqual(t, stats.Found, 2)
			assert.Empty(t, complaints(t, store))
			checkStaging(t, store)
		})
	}
}

func TestKillLeavesWhatIsCleanedUp(t *testing.T) {
	dir := t.TempDir()
	repo, added := generated(t, dir, small)
	store := openStore(t, dir, "overlay")
	other := fixtures.Unpack(t, "sha256")

	started := time.Now()
	cmd, output := copyProcess(dir, repo, "image", true)
	require.NoError(t, cmd.Start())
	wait(t, cmd, output)
	whole := time.Since(started)
	_, err := store.DeleteImage(added.Config.Digest.Encoded(), true)
	require.NoError(t, err)

	const kills = 12
	for i := range kills {
		cmd, _ := copyProcess(dir, repo, "image", true)
		require.NoError(t, cmd.Start())
		time.Sleep(whole * time.Duration(i) / kills)
		_ = cmd.Process.Kill()
		if cmd.Wait() == nil { // it was faster
			_, err := store.DeleteImage(added.Config.Digest.Encoded(), true)
			require.NoError(t, err)
		}
		// Layers may be there that no image uses yet, and nothing else is.
		_, err := copyFast(t, store, other, "hello")
		require.NoError(t, err)
		assert.Empty(t, complaints(t, store, append(hello, "layer not referenced")...))
		checkStaging(t, store)
	}
	_, err = copyFast(t, store, repo, "image")
	require.NoError(t, err)
	assert.Empty(t, complaints(t, store, hello...))
}

func TestFullDiskLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	repo, _ := generated(t, dir, small)
	for name, mkfs := range map[string][]string{
		"ext4": {"mkfs.ext4", "-q", "-m", "0"},
	} {
		for _, megabytes := range []int64{16, 32, 44} {
			t.Run(fmt.Sprintf("%s of %d MB", name, megabytes), func(t *testing.T) {
				at := reflinks.Mount(t, megabytes<<20, mkfs...)
				store := openStore(t, at, "overlay")
				_, err := copyFast(t, store, repo, "image")
				require.ErrorIs(t, err, unix.ENOSPC)
				untouched(t, store)
				_, err = copyFast(t, store, fixtures.Unpack(t, "sha256"), "sizes")
				require.NoError(t, err)
			})
		}
	}
}

func TestDamageIsNamedAndLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	repo, _ := generated(t, dir, genimage.Spec{Files: 200, Bytes: 4 << 20, Layers: 2, Seed: 1})
	store := openStore(t, dir, "overlay")
	objects, err := filepath.Glob(filepath.Join(repo, "objects/*/*"))
	require.NoError(t, err)
	checked := 0
	for _, object := range objects {
		info, err := os.Stat(object)
		require.NoError(t, err)
		if info.Size() < 50_000 {
			continue // mostly files of the image from here on
		}
		content, err := os.ReadFile(object)
		require.NoError(t, err)
		for name, damaged := range map[string][]byte{
			"altered":   append(append([]byte{}, content[:40_000]...), make([]byte, len(content)-40_000)...),
			"truncated": content[:40_000],
			"overlong":  append(append([]byte{}, content...), 0),
		} {
			require.NoError(t, os.WriteFile(object, damaged, 0o600))
			_, err = copyFast(t, store, repo, "image")
			require.Error(t, err, name)
			assert.ErrorContains(t, err, filepath.Base(object), name)
		}
		require.NoError(t, os.WriteFile(object, content, 0o600))
		if checked++; checked == 3 {
			break
		}
	}
	assert.Equal(t, 3, checked)
	untouched(t, store)
	_, err = copyFast(t, store, repo, "image")
	require.NoError(t, err)
}

func TestLayerThatIsAnotherOneIsRefused(t *testing.T) {
	dir := t.TempDir()
	repo, _ := made(t, dir, repomaker.Image{Layers: []repomaker.Layer{{
		Tar: tarOf(t, tar.Header{Name: "file", Typeflag: tar.TypeReg, Mode: 0o644}),
		Alter: func(offset int64, inline []byte) {
			if offset == 512+400 {
				inline[0] = 1 // where zeros fill the block up
			}
		},
	}}})
	store := openStore(t, dir, "overlay")
	_, err := copyFast(t, store, repo, "image")
	assert.ErrorIs(t, err, composefsrepo.ErrDigestMismatch)
	untouched(t, store)
}

func TestPolicyIsAskedBeforeAnythingIsStaged(t *testing.T) {
	dir := t.TempDir()
	store := openStore(t, dir, "overlay")
	policy, err := signature.NewPolicyContext(&signature.Policy{Default: []signature.PolicyRequirement{signature.NewPRReject()}})
	require.NoError(t, err)
	_, _, err = zerocopy.Image(t.Context(), policy, in(t, store, copied), composefs(t, fixtures.Unpack(t, "sha256"), "hello"), nil, &zerocopy.Options{
		Report: func(e zerocopy.Event) { t.Errorf("staged: %v", e) },
	})
	var rejected signature.PolicyRequirementError
	assert.True(t, errors.As(err, &rejected), "%v", err)
	untouched(t, store)
}

// A manifest may claim that any blob is this layer. It is believed for this copy
// alone.
func TestForgedDigestLeavesNoTrace(t *testing.T) {
	dir := t.TempDir()
	repo, added := made(t, dir, repomaker.Image{Listing: repomaker.Pretended, Layers: []repomaker.Layer{{
		Tar: tarOf(t, tar.Header{Name: "file", Typeflag: tar.TypeReg, Mode: 0o644}),
	}}})
	store := openStore(t, dir, "overlay")
	cache := filepath.Join(dir, "cache")
	sys := &types.SystemContext{BlobInfoCacheDir: cache}
	manifest, _, err := zerocopy.Image(t.Context(), insecurePolicy(t), in(t, store, copied), composefs(t, repo, "image"),
		&copy.Options{SourceCtx: sys, DestinationCtx: sys}, nil)
	require.NoError(t, err)
	assert.Equal(t, added.Manifest.Digest, digest.FromBytes(manifest))

	repository, err := composefsrepo.Open(t.Context(), repo, nil)
	require.NoError(t, err)
	defer repository.Close()
	image, err := repository.ImageByTag(t.Context(), "localhost/image:latest")
	require.NoError(t, err)
	forged := image.Layers[0].Descriptor.Digest
	assert.NotEqual(t, image.Layers[0].DiffID, forged)
	_, err = store.LayersByCompressedDigest(forged)
	assert.ErrorIs(t, err, storage.ErrLayerUnknown)
	_, err = store.LayersByUncompressedDigest(forged)
	assert.ErrorIs(t, err, storage.ErrLayerUnknown)
	_ = filepath.WalkDir(cache, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			content, err := os.ReadFile(path)
			require.NoError(t, err)
			assert.NotContains(t, string(content), forged.Encoded())
		}
		return nil
	})
}
