package sources

import (
	"strings"

	"github.com/containers/image/v5/manifest"
	"github.com/containers/image/v5/types"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/internal/blobannotations"
)

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
		Annotations: blobannotations.Without(d.Annotations),
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
