package source

import (
	"context"

	"github.com/containers/image/v5/types"
	"github.com/opencontainers/go-digest"

	"github.com/skopeo-cfs/skopeo-cfs/internal/sources"
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
		infos[i] = sources.LayerInfo(l)
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
