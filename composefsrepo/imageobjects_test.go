package composefsrepo_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/damaged"
	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
	"github.com/skopeo-cfs/skopeo-cfs/internal/repomaker"
)

// objectOf returns the first object of a layer.
func objectOf(t *testing.T, image *composefsrepo.Image, n int) fsverity.Digest {
	t.Helper()
	chunks, err := image.LayerChunks(t.Context(), n)
	require.NoError(t, err)
	defer chunks.Close()
	for {
		chunk, err := chunks.Next()
		require.NoError(t, err)
		if !chunk.Object.IsZero() {
			return chunk.Object
		}
	}
}

func TestSizesOfObjects(t *testing.T) {
	path := t.TempDir()
	damaged.Add(t, path, fsverity.SHA256, repomaker.Options{}, "hello", nil)
	image, err := open(t, path).ImageByTag(t.Context(), "hello")
	require.NoError(t, err)
	d := objectOf(t, image, 2)
	size, err := image.ObjectSize(d)
	require.NoError(t, err)
	assert.EqualValues(t, 200_000, size)
	ok, err := image.SizesAddUp(t.Context(), 2)
	require.NoError(t, err)
	assert.True(t, ok)

	object := filepath.Join(path, "objects", d.String()[:2], d.String()[2:])
	for name, test := range map[string]struct {
		damage func() error
		want   error
	}{
		"shorter": {func() error { return os.Truncate(object, 199_999) }, nil},
		"longer":  {func() error { return os.Truncate(object, 200_001) }, nil},
		"missing": {func() error { return os.Remove(object) }, composefsrepo.ErrMissingObject},
		"no file": {func() error { return errors.Join(os.Remove(object), os.Mkdir(object, 0o755)) }, composefsrepo.ErrNotRegular},
	} {
		require.NoError(t, os.RemoveAll(object))
		require.NoError(t, os.WriteFile(object, make([]byte, 200_000), 0o644))
		require.NoError(t, test.damage(), name)
		ok, err := image.SizesAddUp(t.Context(), 2)
		require.NoError(t, err)
		assert.False(t, ok, name)
		_, err = image.ObjectSize(d)
		assert.ErrorIs(t, err, test.want, name)
	}
	_, err = image.ObjectSize(fsverity.Digest{})
	assert.ErrorIs(t, err, composefsrepo.ErrMissingObject)
}

func TestCheckStream(t *testing.T) {
	path := fixtures.Unpack(t, "sha512")
	image, err := open(t, path).ImageByTag(t.Context(), "localhost/hello:latest")
	require.NoError(t, err)
	chunks, err := image.LayerChunks(t.Context(), 0)
	require.NoError(t, err)
	defer chunks.Close()
	require.NoError(t, chunks.CheckStream(t.Context()))
	name := image.Layers[0].Verity.String()
	stream := filepath.Join(path, "objects", name[:2], name[2:])
	data, err := os.ReadFile(stream)
	require.NoError(t, err)
	data[len(data)/2] ^= 1
	require.NoError(t, os.WriteFile(stream, data, 0o644))
	assert.ErrorIs(t, chunks.CheckStream(t.Context()), composefsrepo.ErrVerity)
}
