package composefsrepo_test

import (
	"context"
	"io"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
)

// open opens a repository for the time of a test.
func open(t testing.TB, path string) *composefsrepo.Repo {
	t.Helper()
	repo, err := composefsrepo.Open(context.Background(), path, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, repo.Close()) })
	return repo
}

// Every layout in every fixture repository has the digests that it should have,
// by its tag, by its manifest's digest and by its config's.
func TestFixtures(t *testing.T) {
	for _, name := range fixtures.Repositories {
		repo := open(t, fixtures.Unpack(t, name))
		for layout, want := range fixtures.Layouts(t, name) {
			t.Run(name+"/"+layout, func(t *testing.T) {
				image, err := repo.ImageByDigest(t.Context(), want.Manifest)
				require.NoError(t, err)
				checkImage(t, image, want)
				if layout != "emptylayers" {
					tagged, err := repo.ImageByTag(t.Context(), "localhost/"+layout+":latest")
					require.NoError(t, err)
					assert.Equal(t, image, tagged)
				}
				byConfig, err := repo.ImageByDigest(t.Context(), want.Config)
				require.NoError(t, err)
				assert.Equal(t, want.Config, byConfig.ConfigDescriptor.Digest)
				assert.False(t, byConfig.Synthesised)
			})
		}
	}
}

func checkImage(t *testing.T, image *composefsrepo.Image, want fixtures.Image) {
	assert.Equal(t, want.Manifest, digest.FromBytes(image.Manifest))
	assert.Equal(t, want.Manifest, image.ManifestDigest)
	assert.Equal(t, want.Config, digest.FromBytes(image.Config))
	require.Len(t, image.Layers, len(want.Layers)+len(want.Blobs))
	for i, l := range append(want.Layers, want.Blobs...) {
		got := image.Layers[i]
		assert.Equal(t, l.Digest, got.Descriptor.Digest)
		assert.Equal(t, l.Size, got.Descriptor.Size)
		assert.Equal(t, l.DiffID, got.DiffID)
		wantDigest, wantSize := l.DiffID, l.DiffSize
		if l.DiffID == "" {
			wantDigest, wantSize = l.Digest, l.Size
		}
		assert.Equal(t, wantDigest, got.Digest())
		assert.Equal(t, wantSize, got.Size)

		content, err := image.OpenLayer(t.Context(), i)
		require.NoError(t, err)
		data, err := io.ReadAll(content)
		require.NoError(t, err)
		require.NoError(t, content.Close())
		assert.Equal(t, wantDigest, digest.FromBytes(data))
		assert.Len(t, data, int(wantSize))
	}
}
