package source

import (
	"context"

	"github.com/containers/image/v5/types"

	"github.com/skopeo-cfs/skopeo-cfs/internal/sources"
)

// Repaired returns a reference to the image that ref refers to, a composefs
// reference, with the zeros that some importers lost at the end of layers. All
// layers are read when an image source is opened; that fails where something
// else is wrong with one of them. Other references stay as they are.
func Repaired(ref types.ImageReference) types.ImageReference {
	return sources.Mended(ref, func(ctx context.Context, s *Source) (types.ImageSource, error) {
		repaired, faults, err := s.image.Repaired(ctx)
		for _, fault := range faults {
			if err == nil {
				err = fault
			}
		}
		if err != nil {
			return nil, err
		}
		return s.With(repaired), nil
	})
}
