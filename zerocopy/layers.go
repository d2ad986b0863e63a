package zerocopy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/containers/storage"
	"github.com/containers/storage/pkg/archive"
	"golang.org/x/sync/errgroup"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/splitstream"
	"github.com/skopeo-cfs/skopeo-cfs/zerocopy/unpack"
)

// stage stages all layers, side by side, and applies each when those below it
// are in the store.
func (s *Staged) stage(ctx context.Context, options *Options) error {
	if options.Parallelism <= 0 {
		options = &Options{Parallelism: min(runtime.GOMAXPROCS(0), maxParallelism), Progress: options.Progress}
	}
	// The store's and the driver's answers are had before anything goes on side
	// by side, which they are not all made for.
	ids := layerIDs(s.image.Layers)
	found, err := s.find(ids)
	if err != nil {
		return err
	}
	ready := make([]chan *staged, len(ids)) // a nil layer is one that is there
	for i := range ready {
		ready[i] = make(chan *staged, 1)
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(options.Parallelism + 1)
	cloner := &unpack.Cloner{}
	group.Go(func() error { return s.applyAll(groupCtx, ids, ready, options) })
	for i, id := range ids {
		group.Go(func() error {
			if err := groupCtx.Err(); err != nil {
				return err
			}
			var layer *staged
			if !found[id] {
				var err error
				if layer, err = s.prepare(groupCtx, i, cloner, options); err != nil {
					return err
				}
			}
			ready[i] <- layer
			return nil
		})
	}
	err = group.Wait()
	for _, r := range ready { // those that were not applied
		select {
		case layer := <-r:
			if layer != nil {
				err = errors.Join(err, layer.clean())
			}
		default:
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// How many layers are worked on at once if the caller does not say, and how many
// workers all of them have together, about: each holds most of a megabyte.
const (
	maxParallelism = 8
	allWorkers     = 32
)

// workers returns how many workers each of so many layers has.
func workers(parallelism int) int {
	return min(runtime.GOMAXPROCS(0)+1, max(allWorkers/parallelism, 2))
}

// find returns which of the layers the store has.
func (s *Staged) find(ids []string) (map[string]bool, error) {
	found := map[string]bool{}
	for i, id := range ids {
		layer, err := s.store.Layer(id)
		if errors.Is(err, storage.ErrLayerUnknown) {
			continue
		}
		if err == nil {
			err = s.checkSize(i, layer.UncompressedSize)
		}
		if err != nil {
			return nil, fmt.Errorf("looking for layer %s: %w", id, err)
		}
		found[id] = true
	}
	return found, nil
}

// prepare stages the i-th layer.
func (s *Staged) prepare(ctx context.Context, i int, cloner *unpack.Cloner, options *Options) (*staged, error) {
	chunks, err := s.image.LayerChunks(ctx, i)
	if err != nil {
		return nil, err
	}
	defer chunks.Close()
	diffID := s.image.Layers[i].DiffID
	layer, err := stageLayer(s.store, s.mappings, func(dest string, tarOptions *archive.TarOptions) (*unpack.Result, error) {
		o := unpackOptions(dest, tarOptions)
		o.Cloner, o.DiffID, o.Workers = cloner, diffID, workers(options.Parallelism)
		o.Progress = func(bytes int64) { s.report(options, i, Reading, bytes) }
		result, err := unpack.Layer(ctx, feed{chunks}, dest, o)
		if errors.Is(err, unpack.ErrUnusual) {
			err = fmt.Errorf("%w: %w", ErrUnsupported, err)
		}
		return result, err
	})
	switch {
	case errors.Is(err, unpack.ErrTar), errors.Is(err, splitstream.ErrCorrupt):
		return nil, s.image.BlameLayer(ctx, i, err)
	case err != nil:
		return nil, fmt.Errorf("layer %s: %w", s.image.Layers[i].DiffID, err)
	}
	if got := layer.result.Digest; got != diffID {
		return nil, errors.Join(s.image.LayerMismatch(ctx, i, got), layer.clean())
	}
	if err := s.checkSize(i, layer.result.Size); err != nil {
		return nil, errors.Join(err, layer.clean())
	}
	return layer, nil
}

// checkSize refuses a layer of size bytes where the image's manifest, which was
// made from what the streams have, is wrong about that.
func (s *Staged) checkSize(i int, size int64) error {
	if l := s.image.Layers[i]; s.image.Synthesised && size != l.Size {
		return fmt.Errorf("layer %s: %w: there is no manifest, and one made from the config would have a wrong size: %w", l.DiffID, ErrUnsupported, composefsrepo.ErrLostZeros)
	}
	return nil
}

// applyAll makes the staged layers layers of the store, from the lowest on.
func (s *Staged) applyAll(ctx context.Context, ids []string, ready []chan *staged, options *Options) error {
	parent := ""
	for i, id := range ids {
		var layer *staged
		select {
		case layer = <-ready[i]:
		case <-ctx.Done():
			return ctx.Err()
		}
		if layer == nil {
			s.stats.Found++
			s.report(options, i, Found, 0)
		} else if err := s.apply(layer, id, parent); err != nil {
			return err
		} else {
			s.report(options, i, Done, 0)
		}
		parent = id
	}
	return nil
}

// apply makes a staged layer one of the store.
func (s *Staged) apply(layer *staged, id, parent string) (err error) {
	defer func() { err = errors.Join(err, layer.clean()) }()
	applied := false
	err = s.journal.locked(func() error {
		if err := s.journal.add(id); err != nil {
			return err
		}
		applied, err = layer.apply(id, parent)
		return err
	})
	if errors.Is(err, storage.ErrLayerUnknown) {
		return fmt.Errorf("%w: the layer below has disappeared from the store: %w", ErrUnsupported, err)
	}
	if err != nil {
		return err
	}
	if !applied { // somebody else was faster
		s.stats.Found++
		return s.journal.forget(id)
	}
	s.stats.Staged++
	s.stats.Files += layer.result.Files
	s.stats.Shared += layer.result.Shared
	s.stats.Written += layer.result.Written
	return nil
}

func (s *Staged) report(options *Options, layer int, state State, bytes int64) {
	if options.Progress != nil {
		l := s.image.Layers[layer]
		options.Progress(Event{layer, l.DiffID, l.Size, state, bytes})
	}
}

// feed gives a layer to package unpack.
type feed struct{ chunks *composefsrepo.LayerChunks }

// Next implements unpack.Feed.
func (f feed) Next() (unpack.Piece, error) {
	chunk, err := f.chunks.Next()
	if err != nil || chunk.Inline != nil {
		return unpack.Piece{Inline: chunk.Inline}, err
	}
	return unpack.Piece{File: chunk.Object.String()}, nil
}

// Open implements unpack.Feed.
func (f feed) Open(name string) (*os.File, int64, error) {
	d, err := fsverity.Parse(name)
	if err != nil {
		return nil, 0, err
	}
	return f.chunks.OpenObject(d)
}
