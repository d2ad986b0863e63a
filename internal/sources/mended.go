// Package sources has the code that the image sources of this module share.
package sources

import (
	"context"
	"errors"

	"github.com/containers/image/v5/image"
	"github.com/containers/image/v5/types"
)

// Mended returns a reference that is ref except for its image sources: where ref's
// is an S, the source that mend makes of it. Closing that has to close the one that
// mend was given; where mend fails, it is closed here.
func Mended[S types.ImageSource](ref types.ImageReference, mend func(context.Context, S) (types.ImageSource, error)) types.ImageReference {
	return mendedReference[S]{ref, mend}
}

type mendedReference[S types.ImageSource] struct {
	types.ImageReference
	mend func(context.Context, S) (types.ImageSource, error)
}

// NewImageSource returns the mended source.
func (r mendedReference[S]) NewImageSource(ctx context.Context, sys *types.SystemContext) (types.ImageSource, error) {
	opened, err := r.ImageReference.NewImageSource(ctx, sys)
	if err != nil {
		return nil, err
	}
	src, ok := opened.(S)
	if !ok {
		return opened, nil
	}
	mended, err := r.mend(ctx, src)
	if err != nil {
		return nil, errors.Join(err, src.Close())
	}
	return mended, nil
}

// NewImage returns the image of the mended source.
func (r mendedReference[S]) NewImage(ctx context.Context, sys *types.SystemContext) (types.ImageCloser, error) {
	return NewImage(ctx, sys, r)
}

// NewImage returns the image of a reference's source, as
// types.ImageReference.NewImage has to.
func NewImage(ctx context.Context, sys *types.SystemContext, ref types.ImageReference) (types.ImageCloser, error) {
	src, err := ref.NewImageSource(ctx, sys)
	if err != nil {
		return nil, err
	}
	img, err := image.FromSource(ctx, sys, src)
	if err != nil {
		return nil, errors.Join(err, src.Close())
	}
	return img, nil
}
