package source

import (
	"context"
	"errors"

	"github.com/containers/image/v5/image"
	"github.com/containers/image/v5/types"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
)

// Mended returns a reference that is ref but for its image sources: where ref's
// is a *Source, what mend makes of it, else ref's. Closing what mend returns has
// to close what mend was given, which is closed for it if it fails.
func Mended(ref types.ImageReference, mend func(context.Context, *Source) (types.ImageSource, error)) types.ImageReference {
	return mendedReference{ref, mend}
}

type mendedReference struct {
	types.ImageReference
	mend func(context.Context, *Source) (types.ImageSource, error)
}

// NewImageSource returns the mended source.
func (r mendedReference) NewImageSource(ctx context.Context, sys *types.SystemContext) (types.ImageSource, error) {
	opened, err := r.ImageReference.NewImageSource(ctx, sys)
	if err != nil {
		return nil, err
	}
	src, ok := opened.(*Source)
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
func (r mendedReference) NewImage(ctx context.Context, sys *types.SystemContext) (types.ImageCloser, error) {
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

// Repaired returns a reference to the image that ref refers to, a composefs
// reference, with the zeros that some importers lost at the end of layers. All
// layers are read when an image source is opened; that fails where something
// else is wrong with one of them. Other references stay as they are.
func Repaired(ref types.ImageReference) types.ImageReference {
	return Mended(ref, func(ctx context.Context, s *Source) (types.ImageSource, error) {
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

// With returns a source that serves image, the source's own after a repair. It
// takes the place of s, which is not to be used any more.
func (s *Source) With(image *composefsrepo.Image) *Source {
	return New(s.reference, s.repo, image)
}
