package identity

import (
	"context"

	"github.com/containers/image/v5/types"

	"github.com/skopeo-cfs/skopeo-cfs/internal/sources"
	"github.com/skopeo-cfs/skopeo-cfs/source"
)

// With returns a reference to the image that ref refers to, a composefs reference,
// with another manifest: its image sources are *source.Source, and opening them fails
// with an error of Accept where the manifest is not the image's. What policies are
// applied to stays the same. Other references stay as they are.
func With(ref types.ImageReference, manifest []byte) types.ImageReference {
	return sources.Mended(ref, func(_ context.Context, s *source.Source) (types.ImageSource, error) {
		image, err := Accept(s.Image(), manifest, "")
		if err != nil {
			return nil, err
		}
		return s.With(image), nil
	})
}
