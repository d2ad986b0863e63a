package zerocopy_test

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containers/image/v5/copy"
	imagestorage "github.com/containers/image/v5/storage"
	"github.com/containers/image/v5/types"
	encconfig "github.com/containers/ocicrypt/config"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/semaphore"

	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
	"github.com/skopeo-cfs/skopeo-cfs/zerocopy"
)

func TestResolvedReference(t *testing.T) {
	repo, want := fixtures.Unpack(t, "sha256"), fixtures.Layouts(t, "sha256")["hello"]
	store := openStore(t, t.TempDir(), "overlay")
	var resolved types.ImageReference
	_, err := zerocopy.Copy(t.Context(), insecurePolicy(t), in(t, store, copied), composefs(t, repo, "hello"), &copy.Options{ReportResolvedReference: &resolved})
	require.NoError(t, err)
	_, image, err := imagestorage.ResolveReference(resolved)
	require.NoError(t, err)
	assert.Equal(t, want.Config.Encoded(), image.ID)
}

// buildah asks for layers to be decrypted, if there are such, whatever it pulls.
func TestKeysToDecryptWithChangeNothing(t *testing.T) {
	repo, want := fixtures.Unpack(t, "sha256"), fixtures.Layouts(t, "sha256")["hello"]
	store := openStore(t, t.TempDir(), "overlay")
	options := &copy.Options{OciDecryptConfig: &encconfig.DecryptConfig{}}
	manifest, err := zerocopy.Copy(t.Context(), insecurePolicy(t), in(t, store, copied), composefs(t, repo, "hello"), options)
	require.NoError(t, err)
	assert.Equal(t, want.Manifest, digest.FromBytes(manifest))
}

func TestReportWriter(t *testing.T) {
	repo, want := fixtures.Unpack(t, "sha256"), fixtures.Layouts(t, "sha256")["hello"]
	store := openStore(t, t.TempDir(), "overlay")
	for _, state := range []string{"", " skipped: already exists"} {
		var out bytes.Buffer
		_, err := zerocopy.Copy(t.Context(), insecurePolicy(t), in(t, store, copied), composefs(t, repo, "hello"), &copy.Options{ReportWriter: &out})
		require.NoError(t, err)
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		for _, layer := range want.Layers {
			assert.Contains(t, lines, "Copying blob "+layer.DiffID.String()+state)
		}
		assert.Contains(t, lines, "Copying config "+want.Config.String())
		assert.Equal(t, len(want.Layers), strings.Count(out.String(), "Copying blob"))
	}
}

// The events on the channel add up, for layers of both ways.
func TestProgressChannel(t *testing.T) {
	dir := t.TempDir()
	repo, added := generated(t, dir, small)
	sizes := map[digest.Digest]int64{}
	for _, layer := range added.Layers {
		sizes[layer.Digest] = layer.Size
	}
	for _, driver := range []string{"overlay", "vfs"} {
		t.Run(driver, func(t *testing.T) {
			store := openStore(t, dir+"/"+driver, driver)
			for _, last := range []types.ProgressEvent{types.ProgressEventDone, types.ProgressEventSkipped} {
				channel := make(chan types.ProgressProperties)
				updates, ends := map[digest.Digest]uint64{}, map[digest.Digest]types.ProgressEvent{}
				var reading sync.WaitGroup
				reading.Go(func() {
					for p := range channel {
						updates[p.Artifact.Digest] += p.OffsetUpdate
						ends[p.Artifact.Digest] = p.Event
					}
				})
				_, err := zerocopy.Copy(t.Context(), insecurePolicy(t), in(t, store, copied), composefs(t, repo, "image"),
					&copy.Options{Progress: channel, ProgressInterval: time.Millisecond})
				close(channel)
				reading.Wait()
				require.NoError(t, err)
				for d, size := range sizes {
					assert.Equal(t, last, ends[d])
					if last == types.ProgressEventDone {
						assert.EqualValues(t, size, updates[d])
					}
				}
				assert.Equal(t, types.ProgressEventDone, ends[added.Config.Digest])
			}
		})
	}
}

// Nobody takes the events: a cancel is heard all the same.
func TestCancelWithProgressThatNobodyReads(t *testing.T) {
	store := openStore(t, t.TempDir(), "overlay")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := zerocopy.Copy(ctx, insecurePolicy(t), in(t, store, copied), composefs(t, fixtures.Unpack(t, "sha256"), "hello"),
		&copy.Options{Progress: make(chan types.ProgressProperties), ProgressInterval: time.Millisecond})
	assert.Error(t, err)
	checkStaging(t, store)
}

func TestSemaphoreIsHonored(t *testing.T) {
	dir := t.TempDir()
	repo, _ := generated(t, dir, small)
	store := openStore(t, dir, "overlay")
	one := semaphore.NewWeighted(1)
	var mutex sync.Mutex
	at := -1
	_, _, err := zerocopy.Image(t.Context(), insecurePolicy(t), in(t, store, copied), composefs(t, repo, "image"),
		&copy.Options{ConcurrentBlobCopiesSemaphore: one}, &zerocopy.Options{Report: func(e zerocopy.Event) {
			mutex.Lock()
			defer mutex.Unlock()
			if e.State == zerocopy.Reading && e.Bytes < e.Size {
				at = e.Layer
				assert.False(t, one.TryAcquire(1), "layer %d is read without the semaphore", e.Layer)
			}
		}})
	require.NoError(t, err)
	assert.NotEqual(t, -1, at)
	assert.True(t, one.TryAcquire(1), "the semaphore is not released")
}

// A conversion of the manifest is the caller's wish, and changes its digest.
func TestManifestIsConvertedOnRequest(t *testing.T) {
	repo := fixtures.Unpack(t, "sha256")
	store := openStore(t, t.TempDir(), "overlay")
	const schema2 = "application/vnd.docker.distribution.manifest.v2+json"
	manifest, err := zerocopy.Copy(t.Context(), insecurePolicy(t), in(t, store, copied), composefs(t, repo, "sizes"), &copy.Options{ForceManifestMIMEType: schema2})
	require.NoError(t, err)
	assert.Contains(t, string(manifest), schema2)
	image, err := store.Image(copied)
	require.NoError(t, err)
	assert.Contains(t, image.Digests, digest.FromBytes(manifest), "%v %s", image.Digests, fixtures.Layouts(t, "sha256")["sizes"].Manifest)
	checkStaging(t, store)
}

func TestPreserveDigests(t *testing.T) {
	repo := fixtures.Unpack(t, "sha256")
	for _, driver := range []string{"overlay", "vfs"} {
		store := openStore(t, t.TempDir(), driver)
		_, err := zerocopy.Copy(t.Context(), insecurePolicy(t), in(t, store, copied), composefs(t, repo, "hello"), &copy.Options{PreserveDigests: true})
		require.NoError(t, err)
		checkImage(t, store, fixtures.Layouts(t, "sha256")["hello"])
	}
}

func TestOptionsThatAreRefused(t *testing.T) {
	repo := fixtures.Unpack(t, "sha256")
	store := openStore(t, t.TempDir(), "overlay")
	for name, options := range map[string]*copy.Options{
		"signing":                        {SignBySigstorePrivateKeyFile: "key"},
		"encryption":                     {OciEncryptLayers: &[]int{}},
		"a forced compression format":    {ForceCompressionFormat: true},
		"a timestamp of the destination": {DestinationTimestamp: &time.Time{}},
	} {
		_, err := zerocopy.Copy(t.Context(), insecurePolicy(t), in(t, store, copied), composefs(t, repo, "hello"), options)
		assert.ErrorIs(t, err, zerocopy.ErrOption)
		assert.ErrorContains(t, err, name)
	}
	untouched(t, store)
}
