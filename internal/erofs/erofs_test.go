package erofs_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/erofs"
	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
)

var algorithms = map[string]fsverity.Algorithm{"sha256": fsverity.SHA256, "sha512": fsverity.SHA512}

// images returns the EROFS images of a fixture, by the digests that name them.
func images(t testing.TB, repository string) map[string][]byte {
	t.Helper()
	links, err := filepath.Glob(filepath.Join(fixtures.Unpack(t, repository), "images/*"))
	require.NoError(t, err)
	all := map[string][]byte{}
	for _, link := range links {
		data, err := os.ReadFile(link)
		require.NoError(t, err)
		all[filepath.Base(link)] = data
	}
	require.NotEmpty(t, all)
	return all
}

// objects returns the objects of an image.
func objects(t testing.TB, data []byte, a fsverity.Algorithm) (map[fsverity.Digest]bool, error) {
	found := map[fsverity.Digest]bool{}
	err := erofs.Objects(t.Context(), bytes.NewReader(data), int64(len(data)), a, func(d fsverity.Digest) error {
		found[d] = true
		return nil
	})
	return found, err
}

// The objects of the EROFS images that importers made of images are objects of
// their layers, and all of them where no layer has anything in place of another's.
func TestObjectsAreThoseOfTheLayers(t *testing.T) {
	for repository, algorithm := range algorithms {
		repo, err := composefsrepo.Open(t.Context(), fixtures.Unpack(t, repository), nil)
		require.NoError(t, err)
		defer repo.Close()
		for name, data := range images(t, repository) {
			found, err := objects(t, data, algorithm)
			require.NoError(t, err)
			d, err := fsverity.Parse(name)
			require.NoError(t, err)
			named, err := repo.ImagesOfEROFS(t.Context(), d)
			require.NoError(t, err)
			require.NotEmpty(t, named)
			inLayers := objectsOf(t, repo, named[0])
			for d := range found {
				assert.True(t, inLayers[d])
			}
			switch named[0].Tag {
			case "localhost/sizes:latest", "localhost/many:latest", "localhost/kinds:latest":
				assert.Equal(t, inLayers, found, named[0].Tag)
			}
		}
	}
}

// objectsOf returns the objects in the layers of an image.
func objectsOf(t *testing.T, repo *composefsrepo.Repo, named composefsrepo.NamedImage) map[fsverity.Digest]bool {
	t.Helper()
	image, err := repo.ImageByDigest(t.Context(), named.Manifest)
	require.NoError(t, err)
	all := map[fsverity.Digest]bool{}
	for i := range image.Layers {
		chunks, err := image.LayerChunks(t.Context(), i)
		require.NoError(t, err)
		defer chunks.Close()
		for {
			chunk, err := chunks.Next()
			if err == io.EOF {
				break
			}
			require.NoError(t, err)
			if !chunk.Object.IsZero() {
				all[chunk.Object] = true
			}
		}
	}
	return all
}

func TestWhatIsNoImageIsRefused(t *testing.T) {
	for _, data := range images(t, "sha256") {
		for n := 0; n < len(data); n += 511 {
			_, err := objects(t, data[:n], fsverity.SHA256)
			assert.ErrorIs(t, err, erofs.ErrInvalid, "%d of %d bytes", n, len(data))
		}
		for name, at := range map[string]int{
			"composefs": 0, "version": 4, "EROFS": 1024, "compatible": 1024 + 8 + 1, "blocks": 1024 + 12, "slots": 1024 + 13, "root": 1024 + 15,
			"metadata": 1024 + 40, "incompatible": 1024 + 80 + 1, "compression": 1024 + 84, "devices": 1024 + 86, "prefixes": 1024 + 91, "packed": 1024 + 96,
		} {
			altered := bytes.Clone(data)
			altered[at] ^= 0x40
			_, err := objects(t, altered, fsverity.SHA256)
			assert.ErrorIs(t, err, erofs.ErrInvalid, name)
		}
		return // one will do
	}
}

// An image of the first epoch has a name for every whiteout.
func TestNamesForWhiteoutsMustBeThere(t *testing.T) {
	for _, data := range images(t, "sha256") {
		altered := bytes.Replace(data, []byte("a0a1a2a3"), []byte("a0a1b2a3"), 1)
		require.NotEqual(t, data, altered)
		_, err := objects(t, altered, fsverity.SHA256)
		assert.ErrorContains(t, err, "00 to ff")
		return
	}
}

type failing struct{}

func (failing) ReadAt([]byte, int64) (int, error) { return 0, os.ErrPermission }

func TestErrorsArePassedOn(t *testing.T) {
	err := erofs.Objects(t.Context(), failing{}, 1<<20, fsverity.SHA256, nil)
	assert.ErrorIs(t, err, os.ErrPermission)
	assert.NotErrorIs(t, err, erofs.ErrInvalid)
	for _, data := range images(t, "sha512") {
		err := erofs.Objects(t.Context(), bytes.NewReader(data), int64(len(data)), fsverity.SHA512, func(fsverity.Digest) error { return os.ErrExist })
		if !errors.Is(err, os.ErrExist) {
			assert.NoError(t, err) // it has no objects
		}
	}
}

// Whatever the file, reading it ends, and without a panic.
func FuzzObjects(f *testing.F) {
	var smallest []byte // which is quick to read, and to change
	for _, data := range images(f, "sha256") {
		if smallest == nil || len(data) < len(smallest) {
			smallest = data
		}
	}
	f.Add(smallest)
	f.Fuzz(func(t *testing.T, data []byte) {
		calls := 0
		_ = erofs.Objects(t.Context(), bytes.NewReader(data), int64(len(data)), fsverity.SHA256, func(fsverity.Digest) error {
			calls++
			return nil
		})
		assert.LessOrEqual(t, calls, len(data)*8)
	})
}
