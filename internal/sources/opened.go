package sources

import (
	"context"

	"github.com/containers/image/v5/types"
)

// Opened returns a reference that is ref except for its image source, which is the
// given one. Closing that must not end it.
func Opened(ref types.ImageReference, src types.ImageSource) types.ImageReference {
	return openedReference{ref, src}
}

type openedReference struct {
	types.ImageReference
	source types.ImageSource
}

// NewImageSource returns the source.
func (r openedReference) NewImageSource(context.Context, *types.SystemContext) (types.ImageSource, error) {
	return r.source, nil
}

// NewImage returns the image of the source.
func (r openedReference) NewImage(ctx context.Context, sys *types.SystemContext) (types.ImageCloser, error) {
	return NewImage(ctx, sys, r)
}
