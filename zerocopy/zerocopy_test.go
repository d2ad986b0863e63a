package zerocopy_test

import (
	"testing"

	"github.com/containers/storage"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
	"github.com/skopeo-cfs/skopeo-cfs/internal/reflinks"
)

func TestLayersAreThoseOfThePlainWay(t *testing.T) {
	for i, name := range fixtures.Repositories {
		if testing.Short() && i > 0 {
			break
		}
		at := reflinks.XFS(t)
		require.NoError(t, fixtures.UnpackTo(at, name))
		repo := at + "/" + name
		for layout, want := range fixtures.Layouts(t, name) {
			if layout == "dup" || layout == "sbom" {
				continue // no image for containers-storage
			}
			t.Run(name+"/"+layout, func(t *testing.T) {
				plain := openStore(t, at+"/plain-"+layout, "overlay")
				fast := openStore(t, at+"/fast-"+layout, "overlay")
				image := "@" + want.Manifest.String()
				require.NoError(t, copyPlain(t, plain, repo, image))
				stats, err := copyFast(t, fast, repo, image)
				require.NoError(t, err)
				assert.Equal(t, len(want.Layers), stats.Staged)

				sameLayers(t, plain, fast)
				checkImage(t, fast, want)
				// The store has complaints of what extraction makes of some layers.
				assert.Equal(t, complaints(t, plain), complaints(t, fast))
				checkStaging(t, fast)
			})
		}
	}
}

// checkImage checks that the copied image is a fixture with its own manifest and
// config.
func checkImage(t testing.TB, store storage.Store, want fixtures.Image) {
	t.Helper()
	img, err := store.Image(copied)
	require.NoError(t, err)
	assert.Equal(t, want.Config.Encoded(), img.ID)
	assert.Equal(t, want.Manifest, img.Digest)
	config, err := store.ImageBigData(img.ID, want.Config.String())
	require.NoError(t, err)
	assert.Equal(t, want.Config, digest.FromBytes(config))
}
