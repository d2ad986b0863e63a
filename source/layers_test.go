package source_test

import (
	"testing"

	"github.com/containers/image/v5/manifest"
	"github.com/containers/image/v5/types"
	"github.com/opencontainers/go-digest"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/source"
)

var (
	compressed = digest.FromString("the compressed blob")
	tar        = digest.FromString("the tar")
)

// sourceOf returns the source of an image with the layer.
func sourceOf(l composefsrepo.Layer) *source.Source {
	return source.New(nil, nil, &composefsrepo.Image{Layers: []composefsrepo.Layer{l}})
}

func TestLayersAreUncompressed(t *testing.T) {
	for mediaType, want := range map[string]string{
		imgspecv1.MediaTypeImageLayerGzip:                              imgspecv1.MediaTypeImageLayer,
		imgspecv1.MediaTypeImageLayerZstd:                              imgspecv1.MediaTypeImageLayer,
		imgspecv1.MediaTypeImageLayer:                                  imgspecv1.MediaTypeImageLayer, // of an importer that recompressed
		"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip": "application/vnd.oci.image.layer.nondistributable.v1.tar",
		"application/vnd.oci.image.layer.nondistributable.v1.tar+zstd": "application/vnd.oci.image.layer.nondistributable.v1.tar",
		"application/vnd.example.layer.v1.tar+gzip":                    "application/vnd.example.layer.v1.tar",
		manifest.DockerV2Schema2LayerMediaType:                         manifest.DockerV2SchemaLayerMediaTypeUncompressed,
		manifest.DockerV2Schema2ForeignLayerMediaTypeGzip:              manifest.DockerV2Schema2ForeignLayerMediaType,
	} {
		t.Run(mediaType, func(t *testing.T) {
			s := sourceOf(composefsrepo.Layer{
				Descriptor: imgspecv1.Descriptor{MediaType: mediaType, Digest: compressed, Size: 10},
				DiffID:     tar, Size: 100,
			})
			infos, err := s.LayerInfosForCopy(t.Context(), nil)
			require.NoError(t, err)
			require.Len(t, infos, 1)
			assert.Equal(t, types.BlobInfo{Digest: tar, Size: 100, MediaType: want, Annotations: infos[0].Annotations}, infos[0])
			assert.Empty(t, infos[0].Annotations)
			assert.True(t, s.ChangesManifest())
		})
	}
}

func TestLayersThatStayAreNotReplaced(t *testing.T) {
	for name, l := range map[string]composefsrepo.Layer{
		"the tar itself": {Descriptor: imgspecv1.Descriptor{MediaType: imgspecv1.MediaTypeImageLayer, Digest: tar, Size: 100}, DiffID: tar, Size: 100},
		"a blob":         {Descriptor: imgspecv1.Descriptor{MediaType: "application/spdx+json", Digest: compressed, Size: 10}, Size: 10},
	} {
		t.Run(name, func(t *testing.T) {
			infos, err := sourceOf(l).LayerInfosForCopy(t.Context(), nil)
			require.NoError(t, err)
			assert.Nil(t, infos)
			assert.False(t, sourceOf(l).ChangesManifest())
		})
	}
	t.Run("no layers", func(t *testing.T) {
		infos, err := source.New(nil, nil, &composefsrepo.Image{}).LayerInfosForCopy(t.Context(), nil)
		require.NoError(t, err)
		assert.Nil(t, infos)
	})
}

// Where one layer changes, the list has all of them, those that stay as they are
// in the manifest.
func TestLayersOfBothKinds(t *testing.T) {
	same := imgspecv1.Descriptor{
		MediaType: imgspecv1.MediaTypeImageLayer, Digest: tar, Size: 100,
		URLs: []string{"https://example.com/tar"}, Annotations: map[string]string{"io.containers.estargz.x": "of this blob"},
	}
	changed := imgspecv1.Descriptor{MediaType: imgspecv1.MediaTypeImageLayerGzip, Digest: compressed, Size: 10, URLs: []string{"https://example.com/gzip"}}
	s := source.New(nil, nil, &composefsrepo.Image{Layers: []composefsrepo.Layer{
		{Descriptor: same, DiffID: tar, Size: 100},
		{Descriptor: changed, DiffID: tar, Size: 100},
		{Descriptor: same, DiffID: tar, Size: 100},
	}})
	infos, err := s.LayerInfosForCopy(t.Context(), nil)
	require.NoError(t, err)
	kept := types.BlobInfo{Digest: tar, Size: 100, MediaType: same.MediaType, URLs: same.URLs, Annotations: same.Annotations}
	assert.Equal(t, kept, infos[0])
	assert.Equal(t, kept, infos[2])
	assert.Equal(t, tar, infos[1].Digest)
	assert.Empty(t, infos[1].URLs, "of the compressed blob")
}

func TestAnnotationsOfTheCompressedBlobAreDropped(t *testing.T) {
	annotations := map[string]string{
		"io.github.containers.zstd-chunked.manifest-checksum": "x",
		"io.github.containers.zstd-chunked.manifest-position": "1:2:3:4",
		"containerd.io/snapshot/stargz/toc.digest":            "x",
		"io.containers.estargz.uncompressed-size":             "1",
		"io.github.containers":                                "kept",
		"ostree.diff":                                         "kept",
		"org.opencontainers.image.title":                      "kept",
	}
	s := sourceOf(composefsrepo.Layer{
		Descriptor: imgspecv1.Descriptor{MediaType: imgspecv1.MediaTypeImageLayerZstd, Digest: compressed, Size: 10, Annotations: annotations},
		DiffID:     tar, Size: 100,
	})
	infos, err := s.LayerInfosForCopy(t.Context(), nil)
	require.NoError(t, err)
	assert.Equal(t, map[string]string{
		"io.github.containers": "kept", "ostree.diff": "kept", "org.opencontainers.image.title": "kept",
	}, infos[0].Annotations)
	assert.Len(t, annotations, 7, "the image's are not touched")
}
