package zerocopy_test

import (
	"archive/tar"
	"os"
	"path/filepath"
	"testing"

	"github.com/containers/storage"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
	"github.com/skopeo-cfs/skopeo-cfs/internal/genimage"
	"github.com/skopeo-cfs/skopeo-cfs/internal/reflinks"
	"github.com/skopeo-cfs/skopeo-cfs/internal/repomaker"
	"github.com/skopeo-cfs/skopeo-cfs/zerocopy"
)

// blocks returns how much of a filesystem is in use, in bytes.
func blocks(t testing.TB, at string) int64 {
	t.Helper()
	unix.Sync()
	var stat unix.Statfs_t
	require.NoError(t, unix.Statfs(at, &stat))
	return int64(stat.Blocks-stat.Bfree) * stat.Bsize
}

// checkCopy copies the small image both ways and compares.
func checkCopy(t testing.TB, repo, plainDir, fastDir string) zerocopy.Stats {
	t.Helper()
	plain, fast := openStore(t, plainDir, "overlay"), openStore(t, fastDir, "overlay")
	stats, err := copyFast(t, fast, repo, "image")
	require.NoError(t, err)
	require.NoError(t, copyPlain(t, plain, repo, "image"))
	sameLayers(t, plain, fast)
	assert.Equal(t, complaints(t, plain), complaints(t, fast))
	checkStaging(t, fast)
	return stats
}

func TestBlocksAreShared(t *testing.T) {
	for name, mkfs := range map[string][]string{
		"XFS":   {"mkfs.xfs", "-q", "-m", "reflink=1"},
		"btrfs": {"mkfs.btrfs", "-q"},
	} {
		t.Run(name, func(t *testing.T) {
			at := reflinks.Mount(t, 1<<30, mkfs...)
			repo, _ := generated(t, at, small)
			before := blocks(t, at)
			store := openStore(t, filepath.Join(at, "fast"), "overlay")
			stats, err := copyFast(t, store, repo, "image")
			require.NoError(t, err)
			assert.Greater(t, stats.Shared, small.Bytes*9/10)
			// Small images have much of what is not content.
			assert.Less(t, blocks(t, at)-before, small.Bytes/4)
			require.NoError(t, os.MkdirAll(filepath.Join(at, "again"), 0o755))
			checkCopy(t, repo, filepath.Join(at, "again/plain"), filepath.Join(at, "again/fast"))
		})
	}
}

// As /sysroot is on a host that bootc has booted.
func TestBlocksAreSharedThroughAReadOnlyMount(t *testing.T) {
	at := reflinks.XFS(t)
	require.NoError(t, os.Mkdir(filepath.Join(at, "sysroot"), 0o755))
	repo, _ := generated(t, filepath.Join(at, "sysroot"), small)
	mounted := t.TempDir()
	require.NoError(t, unix.Mount(filepath.Dir(repo), mounted, "", unix.MS_BIND, ""))
	t.Cleanup(func() { require.NoError(t, unix.Unmount(mounted, unix.MNT_DETACH)) })
	require.NoError(t, unix.Mount("", mounted, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	stats, err := copyFast(t, openStore(t, at, "overlay"), filepath.Join(mounted, "repository"), "image")
	require.NoError(t, err)
	assert.Greater(t, stats.Shared, small.Bytes*9/10)
}

func TestContentsAreCopiedWhereTheyCannotBeShared(t *testing.T) {
	xfs := reflinks.XFS(t)
	ext4 := reflinks.Mount(t, 512<<20, "mkfs.ext4", "-q")
	tmpfs := t.TempDir()
	require.NoError(t, unix.Mount("tmpfs", tmpfs, "tmpfs", 0, ""))
	t.Cleanup(func() { require.NoError(t, unix.Unmount(tmpfs, unix.MNT_DETACH)) })
	for name, dirs := range map[string]struct{ repo, store string }{
		"ext4":           {ext4, ext4},
		"tmpfs":          {tmpfs, tmpfs},
		"from XFS":       {xfs, ext4},
		"from ext4":      {ext4, xfs},
		"tmpfs from XFS": {xfs, tmpfs},
	} {
		t.Run(name, func(t *testing.T) {
			repoDir, storeDir := filepath.Join(dirs.repo, name+" repo"), filepath.Join(dirs.store, name)
			require.NoError(t, os.MkdirAll(repoDir, 0o755))
			repo, _ := generated(t, repoDir, small)
			stats := checkCopy(t, repo, storeDir+" plain", storeDir+" fast")
			assert.Zero(t, stats.Shared)
			assert.Equal(t, small.Bytes, stats.Written)
		})
	}
}

// Where layers can't be staged, the store extracts them, and the image is the same.
func TestStoresThatTakeNoStagedLayers(t *testing.T) {
	// A store of composefs images looks for the program that makes them.
	bin := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(bin, "mkcomposefs"), []byte("#!/bin/true\n"), 0o755))
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	repo := fixtures.Unpack(t, "sha256")
	for name, store := range map[string]storage.Store{
		"vfs":              openStore(t, t.TempDir(), "vfs"),
		"composefs images": openStore(t, t.TempDir(), "overlay", "overlay.use_composefs=true"),
	} {
		t.Run(name, func(t *testing.T) {
			for _, layout := range []string{"hello", "kinds", "trailers", "many", "zstd", "rootdir", "repeated"} {
				stats, err := copyFast(t, store, repo, layout)
				require.NoError(t, err, layout)
				assert.Zero(t, stats.Staged, layout)
				assert.NotZero(t, stats.Extracted, layout)
				checkImage(t, store, fixtures.Layouts(t, "sha256")[layout])
			}
		})
	}
}

func TestExtractionByRequest(t *testing.T) {
	at := reflinks.XFS(t)
	repo, added := generated(t, at, small)
	store := openStore(t, at, "overlay")
	manifest, stats, err := zerocopy.Image(t.Context(), insecurePolicy(t), in(t, store, copied), composefs(t, repo, "image"), nil, &zerocopy.Options{Extract: true})
	require.NoError(t, err)
	assert.Equal(t, zerocopy.Stats{Extracted: small.Layers}, stats)
	assert.Equal(t, added.Manifest.Digest, digest.FromBytes(manifest))
	checkStore(t, store)
}

// The store judges what is unusual, layer by layer.
func TestUnusualLayersAreExtracted(t *testing.T) {
	file := func(name string) tar.Header {
		return tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644}
	}
	link := func(kind byte, name, target string) tar.Header {
		return tar.Header{Name: name, Typeflag: kind, Linkname: target, Mode: 0o777}
	}
	for name, headers := range map[string][]tar.Header{
		"through a symlink":       {link(tar.TypeSymlink, "s", "../../../.."), file("s/outside")},
		"through an absolute one": {link(tar.TypeSymlink, "s", "/tmp"), file("s/outside")},
		"climbing":                {file("../../outside")},
		"hard link to outside":    {link(tar.TypeLink, "a", "../../../../etc/passwd")},
		"file as a directory":     {file("a"), file("a/b")},
		"over a symlink":          {link(tar.TypeSymlink, "a", "/etc/passwd"), file("/a")},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			repo, added := made(t, dir, repomaker.Image{Listing: repomaker.Pretended, Layers: []repomaker.Layer{
				{Tar: tarOf(t, file("fine"))}, {Tar: tarOf(t, headers...)}, {Tar: tarOf(t, file("fine/too"))},
			}})
			plain, fast := openStore(t, filepath.Join(dir, "plain"), "overlay"), openStore(t, filepath.Join(dir, "fast"), "overlay")
			plainErr := copyPlain(t, plain, repo, "image")
			stats, err := copyFast(t, fast, repo, "image")
			if plainErr != nil {
				require.Error(t, err)
				// The store's error does not name the entry, but our reader knows it.
				assert.ErrorContains(t, err, headers[len(headers)-1].Name)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, 1, stats.Extracted)
			assert.Equal(t, 2, stats.Staged)
			image, err := fast.Image(copied)
			require.NoError(t, err)
			assert.Equal(t, added.Manifest.Digest, image.Digest)
			wanted, err := plain.Layers()
			require.NoError(t, err)
			for _, w := range wanted {
				assert.Equal(t, listLayer(t, plain, w.ID), listLayer(t, fast, w.ID))
			}
		})
	}
}

func TestGeneratedImageOfManyLayers(t *testing.T) {
	at := reflinks.XFS(t)
	repo, _ := generated(t, at, genimage.Spec{Files: 600, Bytes: 8 << 20, Layers: 30, Seed: 3})
	checkCopy(t, repo, filepath.Join(at, "plain"), filepath.Join(at, "fast"))
}
