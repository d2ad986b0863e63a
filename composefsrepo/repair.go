package composefsrepo

import (
	"context"
	"errors"
	"io"
	"runtime"
	"slices"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
)

// Repaired reads every tar of the image, several at once, and returns the image
// with those mended that lack nothing but zeros which an importer lost
// (ErrLostZeros): they have their real size, and OpenLayer adds the zeros. The
// manifest stays as it is, unless it was synthesised, with the wrong sizes.
//
// By layer it also returns what is wrong with those that can't be mended, as
// reading them would have ended; nil for the others, and for blobs, which are
// not read. The last error is that of ctx,
// which ends the reading.
func (i *Image) Repaired(ctx context.Context) (*Image, []error, error) {
	faults, err := i.faults(ctx)
	if err != nil {
		return nil, nil, err
	}
	repaired := *i
	repaired.Layers = slices.Clone(i.Layers)
	for n, fault := range faults {
		if lost := lostZerosError(0); errors.As(fault, &lost) {
			l := &repaired.Layers[n]
			l.zeros = int64(lost)
			l.Size += l.zeros
			faults[n] = nil
		}
	}
	if !i.Synthesised {
		return &repaired, faults, nil
	}
	return &repaired, faults, repaired.synthesise()
}

// tarStream is what a layer's tar is rebuilt from, and what it should be.
type tarStream struct {
	diffID digest.Digest
	verity fsverity.Digest
}

// faults returns by layer what reading it ends with.
func (i *Image) faults(ctx context.Context) ([]error, error) {
	faults := make([]error, len(i.Layers))
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	first := map[tarStream]int{} // a layer may be there several times
	for n, l := range i.Layers {
		stream := tarStream{l.DiffID, l.Verity}
		if _, again := first[stream]; again || l.DiffID == "" {
			continue
		}
		first[stream] = n
		group.Go(func() error {
			faults[n] = i.fault(ctx, n)
			return nil
		})
	}
	_ = group.Wait() // what goes wrong with a layer is a fault of it
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	for n, l := range i.Layers {
		if l.DiffID != "" {
			faults[n] = faults[first[tarStream{l.DiffID, l.Verity}]]
		}
	}
	return faults, nil
}

// fault returns what reading a layer ends with.
func (i *Image) fault(ctx context.Context, n int) error {
	content, err := i.OpenLayer(ctx, n)
	if err != nil {
		return err
	}
	defer content.Close()
	_, err = io.Copy(io.Discard, content)
	return err
}
