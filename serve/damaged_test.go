package serve_test

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/damaged"
	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
	"github.com/skopeo-cfs/skopeo-cfs/internal/repomaker"
	"github.com/skopeo-cfs/skopeo-cfs/serve"
)

// requireBroken demands that a client was sent less than it was promised, or nothing.
func requireBroken(t testing.TB, a answer) {
	t.Helper()
	if a.status != http.StatusInternalServerError {
		require.Error(t, a.err, "status %d", a.status)
	}
}

// withImage calls use with an opened image.
func withImage(t testing.TB, repository string, d digest.Digest, use func(*composefsrepo.Image)) {
	t.Helper()
	repo, err := composefsrepo.Open(t.Context(), repository, nil)
	require.NoError(t, err)
	defer repo.Close()
	image, err := repo.ImageByDigest(t.Context(), d)
	require.NoError(t, err)
	use(image)
}

// No client gets the whole of a layer that is wrong, in whatever way it asks.
func TestDamagedLayers(t *testing.T) {
	for name, change := range map[string]func(*repomaker.Image){
		"headers": damaged.AlterHeaders(0),
		"cut":     damaged.Cut(t, 0, damaged.BetweenEntries),
	} {
		t.Run(name, func(t *testing.T) {
			path := t.TempDir()
			added := damaged.Add(t, path, fsverity.SHA256, repomaker.Options{}, "hello", change)
			s := start(t, serve.Options{Repository: path})
			blob := "/v2/hello/blobs/" + added.Layers[0].Digest.String()
			for _, header := range [][]string{nil, {"Accept-Encoding", "zstd"}, {"Range", "bytes=1-2"}} {
				requireBroken(t, s.get(t, blob, header...))
			}
			assert.ErrorIs(t, s.reported(), composefsrepo.ErrDigestMismatch)
			whole := s.get(t, "/v2/hello/blobs/"+added.Layers[1].Digest.String())
			assert.Equal(t, added.Layers[1].Digest, digest.FromBytes(whole.body), "the others are not affected")
		})
	}
}

func TestAlteredObject(t *testing.T) {
	repository := fixtures.Unpack(t, "sha256")
	want := fixtures.Expected(t)["sizes"]
	s := start(t, serve.Options{Repository: repository})
	blob := "/v2/sizes/blobs/" + want.Layers[0].DiffID.String()
	require.NoError(t, s.get(t, blob).err)
	withImage(t, repository, want.Manifest, func(image *composefsrepo.Image) { damaged.AlterObject(t, repository, image, 0) })
	for _, header := range [][]string{nil, {"Accept-Encoding", "zstd"}, {"Range", "bytes=0-"}} {
		requireBroken(t, s.get(t, blob, header...))
	}
	assert.ErrorIs(t, s.reported(), composefsrepo.ErrVerity, "after it had been checked")

	s = start(t, serve.Options{Repository: repository})
	requireBroken(t, s.get(t, blob))
	requireBroken(t, s.get(t, blob, "Range", "bytes=0-1"))
	assert.ErrorIs(t, s.reported(), composefsrepo.ErrVerity)
}

// Objects that were written anew, as when a repository is copied, are hashed again.
func TestObjectsReplaced(t *testing.T) {
	repository := fixtures.Unpack(t, "sha256")
	d := fixtures.Expected(t)["sizes"].Layers[0].DiffID
	s := start(t, serve.Options{Repository: repository})
	blob := "/v2/sizes/blobs/" + d.String()
	require.Equal(t, d, digest.FromBytes(s.get(t, blob).body))
	objects, err := filepath.Glob(filepath.Join(repository, "objects/*/*"))
	require.NoError(t, err)
	for _, path := range objects {
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(path+".new", data, 0o644))
		require.NoError(t, os.Rename(path+".new", path))
	}
	assert.Equal(t, d, digest.FromBytes(s.get(t, blob).body))
	assert.Equal(t, http.StatusPartialContent, s.get(t, blob, "Range", "bytes=5-9").status)
	assert.NoError(t, s.reported())
}

// A missing object or stream is no image, or a broken layer, and no hang.
func TestMissing(t *testing.T) {
	t.Parallel()
	repository := fixtures.Unpack(t, "sha256")
	want := fixtures.Expected(t)["hello"]
	s := start(t, serve.Options{Repository: repository})
	blob := "/v2/hello/blobs/" + want.Layers[0].DiffID.String()
	require.Equal(t, 200, s.ask(t, http.MethodHead, blob).status)
	var stream string
	withImage(t, repository, want.Manifest, func(image *composefsrepo.Image) {
		name := image.Layers[0].Verity.String()
		stream = filepath.Join(repository, "objects", name[:2], name[2:])
	})
	require.NoError(t, os.Remove(stream))
	assert.Equal(t, 404, s.get(t, blob).status)
	assert.Equal(t, 404, s.get(t, "/v2/hello/manifests/latest").status)
	require.NoError(t, os.RemoveAll(filepath.Join(repository, "streams")))
	require.Eventually(t, func() bool { return s.get(t, "/v2/hello/manifests/latest").status == 404 }, 10*time.Second, 50*time.Millisecond)
}

// Garbage is collected although clients never let go of the repository, and they are
// served again afterwards.
func TestCollectionBeside(t *testing.T) {
	t.Parallel()
	repository := fixtures.Unpack(t, "sha256")
	want := fixtures.Expected(t)["sizes"].Layers[0]
	s := start(t, serve.Options{Repository: repository, Rate: 1 << 20})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 4)
	for range cap(ended) {
		go func() { // a client that is sent something all the time
			for ctx.Err() == nil {
				r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/v2/sizes/blobs/"+want.DiffID.String(), nil)
				response, err := http.DefaultTransport.RoundTrip(r)
				if err == nil {
					_, err = io.Copy(io.Discard, response.Body)
					response.Body.Close()
				}
				if err != nil {
					ended <- err
					return
				}
			}
			ended <- nil
		}()
	}
	time.Sleep(200 * time.Millisecond)
	dir, err := os.Open(repository)
	require.NoError(t, err)
	defer dir.Close()
	locked := make(chan error, 1)
	go func() { locked <- unix.Flock(int(dir.Fd()), unix.LOCK_EX) }()
	select {
	case err := <-locked:
		require.NoError(t, err)
	case <-time.After(time.Minute):
		t.Fatal("the repository stays locked")
	}
	waiting := make(chan int, 1)
	go func() { waiting <- s.get(t, "/v2/hello/tags/list").status }()
	time.Sleep(300 * time.Millisecond)
	require.NoError(t, unix.Flock(int(dir.Fd()), unix.LOCK_UN))
	assert.Equal(t, 200, <-waiting)
	cancel()
	for range cap(ended) {
		assert.NoError(t, <-ended, "a client that was being sent a layer waits")
	}
	assert.NoError(t, s.reported())
}
