package source_test

import (
	"testing"

	"github.com/containers/image/v5/transports/alltransports"
	"github.com/containers/image/v5/types"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/damaged"
	"github.com/skopeo-cfs/skopeo-cfs/internal/repomaker"
	"github.com/skopeo-cfs/skopeo-cfs/source"
	_ "github.com/skopeo-cfs/skopeo-cfs/transport"
)

// damagedReference returns a reference to an image of a new repository.
func damagedReference(t testing.TB, change func(*repomaker.Image)) (types.ImageReference, repomaker.Added) {
	t.Helper()
	repo := t.TempDir()
	added := damaged.Add(t, repo, fsverity.SHA256, repomaker.Options{LoseTrailer: true}, "trailers", change)
	ref, err := alltransports.ParseImageName("composefs:[" + repo + "]trailers")
	require.NoError(t, err)
	return ref, added
}

// A repaired image is announced with its real sizes before a layer is read, and
// is the same image.
func TestRepairedImagesHaveTheirSizes(t *testing.T) {
	ref, added := damagedReference(t, nil)
	repaired := source.Repaired(ref)
	assert.Equal(t, ref.StringWithinTransport(), repaired.StringWithinTransport())
	src, err := repaired.NewImageSource(t.Context(), nil)
	require.NoError(t, err)
	defer src.Close()
	raw, _, err := src.GetManifest(t.Context(), nil)
	require.NoError(t, err)
	assert.Equal(t, added.Manifest.Digest, digest.FromBytes(raw))
	infos, err := src.LayerInfosForCopy(t.Context(), nil)
	require.NoError(t, err)
	require.Len(t, infos, len(added.Layers))
	for i, want := range added.Layers {
		assert.Equal(t, want.Digest, infos[i].Digest)
		assert.Equal(t, want.Size, infos[i].Size)
	}
	img, err := repaired.NewImage(t.Context(), nil)
	require.NoError(t, err)
	defer img.Close()
	assert.Equal(t, added.Config.Digest, img.ConfigInfo().Digest)
}

// An image that can't be repaired is none.
func TestWhatCannotBeRepairedIsAnError(t *testing.T) {
	ref, _ := damagedReference(t, damaged.AlterHeaders(0))
	_, err := source.Repaired(ref).NewImageSource(t.Context(), nil)
	assert.ErrorIs(t, err, composefsrepo.ErrDigestMismatch)
	_, err = source.Repaired(ref).NewImage(t.Context(), nil)
	assert.ErrorIs(t, err, composefsrepo.ErrDigestMismatch)
}
