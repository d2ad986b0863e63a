package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/containers/image/v5/types"
	"github.com/spf13/pflag"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/internal/sources"
	"github.com/skopeo-cfs/skopeo-cfs/rearchive"
	"github.com/skopeo-cfs/skopeo-cfs/source"
)

// mendOptions say what is to be done about layers that are not what was pulled.
type mendOptions struct {
	repair    bool
	rearchive bool
}

func (o *mendOptions) addFlags(flags *pflag.FlagSet) {
	flags.BoolVar(&o.repair, "repair", false, "restore the zero bytes that some importers lost at the end of layers; reads all layers first")
	flags.BoolVar(&o.rearchive, "rearchive", false, "if a layer can't be rebuilt, make a new image of the same files, with new digests; includes --repair")
}

// canMend tells whether the flags do something about the error of a copy.
func (o *mendOptions) canMend(err error, keepDigest bool) bool {
	var other *composefsrepo.OtherTarError
	return o.rearchive && !keepDigest && errors.As(err, &other) && !other.Cut ||
		(o.repair || o.rearchive) && errors.Is(err, composefsrepo.ErrLostZeros)
}

// reference returns the reference to copy from instead of src. It tells out,
// which may be nil, what is re-archived; nothing is where the manifest's digest
// has to be kept.
func (o *mendOptions) reference(src types.ImageReference, keepDigest bool, out io.Writer) types.ImageReference {
	switch {
	case o.rearchive && !keepDigest:
		return sources.Mended(src, func(ctx context.Context, s *source.Source) (types.ImageSource, error) {
			mended, err := rearchive.New(ctx, s)
			if made, ok := mended.(*rearchive.Source); ok && err == nil {
				report(made.Changes(), out)
			}
			return mended, err
		})
	case o.rearchive, o.repair:
		return source.Repaired(src)
	}
	return src
}

// report tells out, unless it is nil, what is re-archived.
func report(changes []rearchive.Change, out io.Writer) {
	if out == nil {
		return
	}
	for _, c := range changes {
		fmt.Fprintf(out, "Re-archiving layer %s as %s\n", c.Old, c.New)
	}
}

// explain adds to an error which flag helps.
func (o *mendOptions) explain(err error) error {
	var other *composefsrepo.OtherTarError
	switch {
	case errors.Is(err, composefsrepo.ErrCut): // nothing does
	case errors.Is(err, composefsrepo.ErrLostZeros):
		return fmt.Errorf("%w; --repair adds them", err)
	case errors.As(err, &other) && o.rearchive:
		return fmt.Errorf("%w; --rearchive would make another image, whose digest can't be this one's", err)
	case errors.As(err, &other):
		return fmt.Errorf("%w; --rearchive makes another image with the layer's files", err)
	}
	return err
}
