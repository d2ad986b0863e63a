package composefsrepo_test

import (
	"bytes"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/internal/original"
)

// An image takes each manifest that has its config and as many layers, and keeps its
// layers.
func TestWithManifest(t *testing.T) {
	o := original.New(t, "hello")
	for name, way := range original.Ways {
		image := o.Open(t, way)
		other, err := image.WithManifest(o.Manifest)
		require.NoError(t, err, name)
		assert.Equal(t, o.Digest, other.ManifestDigest)
		assert.False(t, other.Synthesised)
		assert.Equal(t, way == original.Collected, image.Synthesised)
		for i, l := range other.Layers {
			assert.Equal(t, o.Layers[i], l.Descriptor)
			assert.Equal(t, image.Layers[i].DiffID, l.DiffID)
			assert.NoError(t, other.CheckObjects(t.Context(), i))
		}
		_, err = image.WithManifest(bytes.Replace(o.Manifest, []byte(o.ID), []byte(digest.FromString("x")), 1))
		assert.ErrorIs(t, err, composefsrepo.ErrOtherImage)
		_, err = image.WithManifest(original.New(t, "trailers").Manifest)
		assert.ErrorIs(t, err, composefsrepo.ErrOtherImage)
		_, err = image.WithManifest(original.IndexOf(t, map[string][]byte{"amd64": o.Manifest}))
		assert.ErrorIs(t, err, composefsrepo.ErrIndex)
		_, err = image.WithManifest(nil)
		assert.ErrorIs(t, err, composefsrepo.ErrInvalidImage)
	}
}
