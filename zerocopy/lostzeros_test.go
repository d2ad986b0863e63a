package zerocopy_test

import (
	"os"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/damaged"
	"github.com/skopeo-cfs/skopeo-cfs/internal/reflinks"
	"github.com/skopeo-cfs/skopeo-cfs/internal/repomaker"
	"github.com/skopeo-cfs/skopeo-cfs/source"
	"github.com/skopeo-cfs/skopeo-cfs/zerocopy"
)

// Layers whose trailing zeros an importer lost arrive as they were, without being
// asked for: the same records and directories as from a repository that has all.
func TestLostZerosAreAdded(t *testing.T) {
	for name, test := range map[string]struct {
		algorithm fsverity.Algorithm
		options   repomaker.Options
		listing   repomaker.Listing
	}{
		"sha256":       {algorithm: fsverity.SHA256},
		"sha512":       {algorithm: fsverity.SHA512},
		"sha256 old":   {algorithm: fsverity.SHA256, options: repomaker.Options{OldHeader: true, NoMeta: true}},
		"sha512 old":   {algorithm: fsverity.SHA512, options: repomaker.Options{OldHeader: true, NoMeta: true}},
		"uncompressed": {algorithm: fsverity.SHA512, listing: repomaker.Uncompressed},
	} {
		t.Run(name, func(t *testing.T) {
			at := reflinks.XFS(t)
			list := func(image *repomaker.Image) { image.Listing = test.listing }
			added := damaged.Add(t, at+"/whole", test.algorithm, test.options, "trailers", list)
			test.options.LoseTrailer = true
			damaged.Add(t, at+"/lacking", test.algorithm, test.options, "trailers", list)
			plain := openStore(t, at+"/plain", "overlay")
			require.NoError(t, copyPlain(t, plain, at+"/whole", "trailers"))
			fast := openStore(t, at+"/fast", "overlay")
			require.ErrorIs(t, copyPlain(t, fast, at+"/lacking", "trailers"), composefsrepo.ErrLostZeros)

			stats, err := copyFast(t, fast, at+"/lacking", "trailers")
			require.NoError(t, err)
			assert.Equal(t, len(added.Layers), stats.Staged+stats.Found)
			sameLayers(t, plain, fast)
			image, err := fast.Image(copied)
			require.NoError(t, err)
			assert.Equal(t, added.Config.Digest.Encoded(), image.ID)
			assert.Equal(t, added.Manifest.Digest, image.Digest)
			id := image.TopLayer
			for _, want := range slices.Backward(added.Layers) {
				layer, err := fast.Layer(id)
				require.NoError(t, err)
				assert.Equal(t, want.Digest, layer.UncompressedDigest)
				assert.Equal(t, want.Size, layer.UncompressedSize)
				id = layer.Parent
			}
			checkStore(t, fast)
		})
	}
}

// An image without a manifest gets one made from its streams, which are not of
// the right size: it has to be repaired first.
func TestLostZerosWithoutManifest(t *testing.T) {
	at := reflinks.XFS(t)
	options := repomaker.Options{LoseTrailer: true}
	added := damaged.Add(t, at+"/repo", fsverity.SHA256, options, "trailers", nil)
	require.NoError(t, os.Remove(at+"/repo/streams/oci-manifest-"+added.Manifest.Digest.String()))
	ref := composefs(t, at+"/repo", "@"+added.Config.Digest.String())
	store := openStore(t, at, "overlay")
	copyIt := func(repair bool) error {
		src := ref
		if repair {
			src = source.Repaired(ref)
		}
		manifest, _, err := zerocopy.Image(t.Context(), insecurePolicy(t), in(t, store, copied), src, nil, nil)
		if err == nil {
			image, imageErr := store.Image(copied)
			require.NoError(t, imageErr)
			assert.Equal(t, digest.FromBytes(manifest), image.Digest)
		}
		return err
	}
	err := copyIt(false)
	assert.ErrorIs(t, err, composefsrepo.ErrLostZeros)
	require.NoError(t, copyIt(true))
	err = copyIt(false) // now that the layers are there
	assert.ErrorIs(t, err, composefsrepo.ErrLostZeros)
	checkStore(t, store)
}
