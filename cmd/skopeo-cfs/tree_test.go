package main

import (
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
	"github.com/skopeo-cfs/skopeo-cfs/internal/trees"
)

// layersOf reads the layers of an image in a repository.
func layersOf(t testing.TB, repo string, image fixtures.Image) [][]byte {
	t.Helper()
	r, err := composefsrepo.Open(t.Context(), repo, nil)
	require.NoError(t, err)
	defer r.Close()
	opened, err := r.ImageByDigest(t.Context(), image.Manifest)
	require.NoError(t, err)
	var layers [][]byte
	for i := range opened.Layers {
		content, err := opened.OpenLayer(t.Context(), i)
		require.NoError(t, err)
		data, err := io.ReadAll(content)
		require.NoError(t, err)
		require.NoError(t, content.Close())
		layers = append(layers, data)
	}
	return layers
}

// assertTree demands that a directory is what the layers make up, file by file.
func assertTree(t testing.TB, layers [][]byte, at string) {
	t.Helper()
	image, err := trees.OfLayers(layers)
	require.NoError(t, err)
	assert.NoError(t, image.Compare(at))
}
