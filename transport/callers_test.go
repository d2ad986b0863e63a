package transport_test

import (
	"encoding/json"
	"io"
	"testing"

	"github.com/containers/image/v5/image"
	"github.com/containers/image/v5/manifest"
	"github.com/containers/image/v5/pkg/blobinfocache/none"
	"github.com/containers/image/v5/types"
	"github.com/opencontainers/go-digest"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
)

// What copy, libimage, buildah and skopeo ask of an image, of each image that there
// is.
func TestWhatCallersAsk(t *testing.T) {
	for _, repository := range fixtures.Repositories {
		path := fixtures.Unpack(t, repository)
		for layout, want := range fixtures.Layouts(t, repository) {
			t.Run(repository+"/"+layout, func(t *testing.T) {
				ref := parse(t, "["+path+"]@"+want.Manifest.String())
				src, err := ref.NewImageSource(t.Context(), nil)
				require.NoError(t, err)
				defer src.Close()
				assert.True(t, src.HasThreadSafeGetBlob())
				askInstances(t, src)
				signatures, err := src.GetSignatures(t.Context(), nil)
				require.NoError(t, err)
				assert.Empty(t, signatures)

				raw, mediaType, err := src.GetManifest(t.Context(), nil)
				require.NoError(t, err)
				assert.Equal(t, want.Manifest, digest.FromBytes(raw))
				assert.False(t, manifest.MIMETypeIsMultiImage(mediaType))
				if layout != "sbom" { // an artifact, with a config that is no image's
					askImage(t, ref, want)
				}
			})
		}
	}
}

// askInstances asks for what only a list of manifests has.
func askInstances(t *testing.T, src types.ImageSource) {
	t.Helper()
	instance := digest.FromString("instance")
	_, _, err := src.GetManifest(t.Context(), &instance)
	assert.ErrorContains(t, err, instance.String())
	_, err = src.GetSignatures(t.Context(), &instance)
	assert.Error(t, err)
	_, err = src.LayerInfosForCopy(t.Context(), &instance)
	assert.Error(t, err)
}

// askImage asks what is asked of an opened image.
func askImage(t *testing.T, ref types.ImageReference, want fixtures.Image) {
	t.Helper()
	// The platform that a caller wants chooses among the images of a list. This is
	// one image, whatever its platform.
	sys := &types.SystemContext{ArchitectureChoice: "s390x", OSChoice: "linux", VariantChoice: "v9"}
	img, err := ref.NewImage(t.Context(), sys)
	require.NoError(t, err)
	defer img.Close()
	assert.Equal(t, ref.StringWithinTransport(), img.Reference().StringWithinTransport())
	assert.Equal(t, want.Config, img.ConfigInfo().Digest)
	config, err := img.ConfigBlob(t.Context())
	require.NoError(t, err)
	assert.Equal(t, want.Config, digest.FromBytes(config))
	oci, err := img.OCIConfig(t.Context())
	require.NoError(t, err)
	var stored imgspecv1.Image
	require.NoError(t, json.Unmarshal(config, &stored))
	assert.Equal(t, stored.RootFS, oci.RootFS)
	assert.Equal(t, stored.Config, oci.Config)

	inspected, err := img.Inspect(t.Context())
	require.NoError(t, err)
	assert.Equal(t, stored.Architecture, inspected.Architecture)
	require.Len(t, inspected.LayersData, len(want.Layers))
	infos := img.LayerInfos()
	require.Len(t, infos, len(want.Layers))
	updated, err := img.LayerInfosForCopy(t.Context())
	require.NoError(t, err)
	for i, layer := range want.Layers {
		assert.Equal(t, layer.Digest, infos[i].Digest)
		assert.Equal(t, layer.Size, infos[i].Size)
		if updated != nil {
			assert.Equal(t, layer.DiffID, updated[i].Digest)
			assert.Equal(t, layer.DiffSize, updated[i].Size)
		}
	}
	size, err := img.Size()
	require.NoError(t, err)
	assert.NotZero(t, size)
}

// libimage finds out what an image is before it copies it.
func TestUnparsedInstance(t *testing.T) {
	ref := parse(t, "["+fixtures.Unpack(t, "sha512")+"]hello")
	src, err := ref.NewImageSource(t.Context(), nil)
	require.NoError(t, err)
	defer src.Close()
	unparsed := image.UnparsedInstance(src, nil)
	raw, _, err := unparsed.Manifest(t.Context())
	require.NoError(t, err)
	assert.Equal(t, fixtures.Layouts(t, "sha512")["hello"].Manifest, digest.FromBytes(raw))
	signatures, err := unparsed.Signatures(t.Context())
	require.NoError(t, err)
	assert.Empty(t, signatures)
	assert.Equal(t, "localhost/hello:latest", unparsed.Reference().DockerReference().String())
	assert.Nil(t, ref.DockerReference(), "hello is no full name")
	img, err := image.FromUnparsedImage(t.Context(), nil, unparsed)
	require.NoError(t, err)
	assert.Equal(t, "localhost/hello:latest", img.Reference().DockerReference().String())
}

// A blob that is asked for by digest alone, as skopeo's proxy does.
func TestBlobsWithoutSize(t *testing.T) {
	src := openSource(t, "["+fixtures.Unpack(t, "sha512")+"]hello")
	for _, layer := range fixtures.Layouts(t, "sha512")["hello"].Layers {
		blob, size, err := src.GetBlob(t.Context(), types.BlobInfo{Digest: layer.DiffID, Size: -1}, none.NoCache)
		require.NoError(t, err)
		assert.Equal(t, layer.DiffSize, size)
		d, err := digest.FromReader(blob)
		require.NoError(t, err)
		assert.Equal(t, layer.DiffID, d)
		_, err = io.Copy(io.Discard, blob)
		require.NoError(t, err)
		require.NoError(t, blob.Close())
	}
}
