package source

import (
	"context"
	"strings"

	"github.com/containers/image/v5/manifest"
	"github.com/containers/image/v5/types"
	"github.com/opencontainers/go-digest"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
)

// LayerInfosForCopy returns the layers to copy instead of the manifest's: the
// uncompressed ones. It returns nil where those are the manifest's, so that
// such an image keeps its manifest, and the digest of that, wherever it goes.
func (s *Source) LayerInfosForCopy(_ context.Context, instance *digest.Digest) ([]types.BlobInfo, error) {
	if err := noInstance(instance); err != nil {
		return nil, err
	}
	if !s.ChangesManifest() {
		return nil, nil
	}
	infos := make([]types.BlobInfo, len(s.image.Layers))
	for i, l := range s.image.Layers {
		infos[i] = LayerInfo(l)
	}
	return infos, nil
}

// ChangesManifest tells whether a copy has other layers than the manifest
// names, and so another manifest: where the repository has only uncompressed
// what the manifest has compressed.
func (s *Source) ChangesManifest() bool {
	for _, l := range s.image.Layers {
		if l.Digest() != l.Descriptor.Digest {
			return true
		}
	}
	return false
}

// LayerInfo describes what a copy gets of a layer: its descriptor where that is
// of the same blob, else the uncompressed tar.
func LayerInfo(l composefsrepo.Layer) types.BlobInfo {
	d := l.Descriptor
	if l.Digest() == d.Digest {
		return types.BlobInfo{Digest: d.Digest, Size: l.Size, URLs: d.URLs, Annotations: d.Annotations, MediaType: d.MediaType}
	}
	return types.BlobInfo{
		Digest:      l.Digest(),
		Size:        l.Size,
		MediaType:   uncompressedType(d.MediaType),
		Annotations: composefsrepo.WithoutBlobAnnotations(d.Annotations),
	}
}

// uncompressedType returns the media type of the tar in a layer of a media
// type.
func uncompressedType(mediaType string) string {
	switch mediaType {
	case manifest.DockerV2Schema2LayerMediaType:
		return manifest.DockerV2SchemaLayerMediaTypeUncompressed
	case manifest.DockerV2Schema2ForeignLayerMediaTypeGzip:
		return manifest.DockerV2Schema2ForeignLayerMediaType
	}
	if base, _, ok := strings.Cut(mediaType, "+"); ok {
		return base // as in …tar+gzip, …tar+zstd
	}
	return imgspecv1.MediaTypeImageLayer
}
