package zerocopy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"

	"github.com/containers/storage"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/await"
	"github.com/skopeo-cfs/skopeo-cfs/splitstream"
	"github.com/skopeo-cfs/skopeo-cfs/zerocopy/unpack"
)

// layers brings an image's layers into a store.
type layers struct {
	store  storage.Store
	image  *composefsrepo.Image
	ids    []string // of the layers in the store
	stager *stager  // nil where the store extracts all layers
	limit  limit
	report func(Event)

	trees []*tree // by layer: staged and not yet added, or nil
	added []bool  // by layer: this copy has added it
	// reasons has by layer why it can't be staged. The store may refuse to extract
	// such a layer too, and does not name the entry.
	reasons []error
	stats   Stats
}

// limit bounds how many layers are worked on at once.
type limit struct {
	parallelism int
	semaphore   *semaphore.Weighted // nil: there is no further limit
}

// How many layers are worked on at once if the caller does not say, and about how
// many workers all of them have together: each holds most of a megabyte.
const (
	maxParallelism = 8
	allWorkers     = 32
)

// layerIDs returns the IDs that the containers-storage transport gives to layers
// of these diff IDs, one on the other.
func layerIDs(layers []composefsrepo.Layer) []string {
	ids := make([]string, len(layers))
	for i, l := range layers {
		ids[i] = l.DiffID.Encoded()
		if i > 0 {
			ids[i] = digest.FromString(ids[i-1] + "+" + ids[i]).Encoded()
		}
	}
	return ids
}

// checkImage refuses images that can't have these IDs.
func checkImage(image *composefsrepo.Image) error {
	for _, l := range image.Layers {
		if l.DiffID.Algorithm() != digest.SHA256 {
			return fmt.Errorf("diff ID %s: containers-storage needs SHA-256 digests", l.DiffID)
		}
	}
	return nil
}

func newLayers(store storage.Store, image *composefsrepo.Image, stager *stager, limit limit, report func(Event)) *layers {
	if limit.parallelism <= 0 {
		limit.parallelism = min(runtime.GOMAXPROCS(0), maxParallelism)
	}
	return &layers{
		store: store, image: image, ids: layerIDs(image.Layers), stager: stager, limit: limit, report: report,
		trees: make([]*tree, len(image.Layers)), added: make([]bool, len(image.Layers)), reasons: make([]error, len(image.Layers)),
	}
}

// attempts is how often a copy starts again because other programs have removed
// layers of the image that the store had.
const attempts = 5

// bring puts each layer into the store that it lacks.
func (l *layers) bring(ctx context.Context) error {
	var err error
	for range attempts {
		if err = l.bringOnce(ctx); !errors.Is(err, storage.ErrLayerUnknown) {
			return err
		}
	}
	return fmt.Errorf("other programs remove the image's layers from the store again and again: %w", err)
}

func (l *layers) bringOnce(ctx context.Context) error {
	found := make([]bool, len(l.ids))
	err := await.Do(ctx, func() (err error) {
		found, err = l.find()
		return err
	})
	if err != nil {
		return err
	}
	if l.stager != nil {
		if err := l.stageAll(ctx, found); err != nil {
			return err
		}
	}
	return l.addAll(ctx)
}

// find returns which layers the store has.
func (l *layers) find() ([]bool, error) {
	found := make([]bool, len(l.ids))
	for i, id := range l.ids {
		layer, err := l.store.Layer(id)
		if errors.Is(err, storage.ErrLayerUnknown) {
			continue
		}
		if err == nil {
			err = l.checkSize(i, layer.UncompressedSize)
		}
		if err != nil {
			return nil, fmt.Errorf("looking for layer %s: %w", id, err)
		}
		found[i] = true
	}
	return found, nil
}

// missing tells whether the store lacks one of the layers.
func (l *layers) missing(ctx context.Context) bool {
	var found []bool
	err := await.Do(ctx, func() (err error) {
		found, err = l.find()
		return err
	})
	return err == nil && slices.Contains(found, false)
}

// checkSize refuses a layer of size bytes where the image's manifest, which was
// made from what the streams have, is wrong about that.
func (l *layers) checkSize(i int, size int64) error {
	if layer := l.image.Layers[i]; l.image.Synthesised && size != layer.Size {
		return fmt.Errorf("layer %s: there is no manifest, and one made from the config would have a wrong size: %w", layer.DiffID, composefsrepo.ErrLostZeros)
	}
	return nil
}

// stageAll stages the layers that are neither found nor staged already, side by
// side.
func (l *layers) stageAll(ctx context.Context, found []bool) error {
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(l.limit.parallelism)
	for i := range l.ids {
		if found[i] || l.trees[i] != nil || l.reasons[i] != nil {
			continue
		}
		group.Go(func() error {
			release, err := l.limit.acquire(groupCtx)
			if err != nil {
				return err
			}
			defer release()
			return l.stage(groupCtx, i)
		})
	}
	err := group.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func (l limit) acquire(ctx context.Context) (release func(), err error) {
	if err := ctx.Err(); err != nil || l.semaphore == nil {
		return func() {}, err
	}
	if err := l.semaphore.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	return func() { l.semaphore.Release(1) }, nil
}

// stage stages the i-th layer, or notes why that can't be done.
func (l *layers) stage(ctx context.Context, i int) error {
	layer := l.image.Layers[i]
	chunks, err := l.image.LayerChunks(ctx, i)
	if err != nil {
		return err
	}
	defer chunks.Close()
	options := l.stager.options
	options.DiffID = layer.DiffID
	options.Workers = min(runtime.GOMAXPROCS(0)+1, max(allWorkers/l.limit.parallelism, 2))
	options.Progress = func(bytes int64) { l.tell(i, Reading, bytes) }
	t, err := l.stager.stage(ctx, i, feed{chunks}, options)
	switch {
	case errors.Is(err, unpack.ErrUnusual):
		l.reasons[i] = fmt.Errorf("%w: %w", errNotStageable, err)
		return nil
	case errors.Is(err, unpack.ErrTar), errors.Is(err, splitstream.ErrCorrupt):
		return chunks.Verdict(ctx, "", err)
	case err != nil:
		return fmt.Errorf("layer %s: %w", layer.DiffID, err)
	}
	if err := chunks.Verdict(ctx, t.result.Digest, nil); err != nil {
		return errors.Join(err, t.remove())
	}
	if err := l.checkSize(i, t.result.Size); err != nil {
		return errors.Join(err, t.remove())
	}
	l.trees[i] = t
	return nil
}

// addAll makes layers of the store out of all that it lacks, from the lowest on.
func (l *layers) addAll(ctx context.Context) error {
	var parent *storage.Layer
	for i := range l.ids {
		layer, err := l.add(ctx, i, parent)
		if err != nil {
			return err
		}
		parent = layer
	}
	return nil
}

// add returns the i-th layer of the store, after adding it if it is not there.
func (l *layers) add(ctx context.Context, i int, parent *storage.Layer) (*storage.Layer, error) {
	layer, err := l.get(ctx, i)
	if !errors.Is(err, storage.ErrLayerUnknown) {
		return layer, err
	}
	switch t := l.trees[i]; {
	case t != nil:
		layer, err = l.addStaged(ctx, i, t, parent)
	case l.stager != nil && l.reasons[i] == nil: // it was found, and has been removed since
		return nil, err
	default:
		layer, err = l.extract(ctx, i, parent)
	}
	if err != nil {
		return nil, err
	}
	if layer == nil { // another program was faster
		return l.get(ctx, i)
	}
	l.added[i] = true
	l.tell(i, Done, 0)
	return layer, nil
}

// get returns the i-th layer of the store. If that is not one that this copy has
// added, it reports it as found.
func (l *layers) get(ctx context.Context, i int) (*storage.Layer, error) {
	var layer *storage.Layer
	err := await.Do(ctx, func() (err error) {
		layer, err = l.store.Layer(l.ids[i])
		return err
	})
	if err != nil {
		return nil, err
	}
	if !l.added[i] {
		l.tell(i, Found, 0)
	}
	return layer, l.removeTree(i)
}

// result returns what the copy came to.
func (l *layers) result() Stats {
	for _, added := range l.added {
		if !added {
			l.stats.Found++
		}
	}
	return l.stats
}

// addStaged adds the tree of the i-th layer. It returns nil where the store has
// the layer by now.
func (l *layers) addStaged(ctx context.Context, i int, t *tree, parent *storage.Layer) (*storage.Layer, error) {
	if err := l.stager.fits(parent); err != nil {
		l.reasons[i] = err
		if err := l.removeTree(i); err != nil {
			return nil, err
		}
		return l.extract(ctx, i, parent)
	}
	var layer *storage.Layer
	err := l.stager.work.locked(ctx, func() error {
		return await.Do(ctx, func() (err error) {
			layer, err = l.stager.add(t, l.ids[i], parent)
			return err
		})
	})
	if ctx.Err() != nil {
		return nil, context.Cause(ctx) // the addition may still be waiting: see workDir.remove
	}
	if err != nil || layer == nil {
		return nil, errors.Join(err, l.removeTree(i))
	}
	l.trees[i] = nil
	err = l.stager.checkCount(layer, t.result.Entries)
	if err == nil {
		err = checkBelow(l.store, layer, parent)
	}
	if err != nil {
		l.reasons[i] = err
		if err := await.Do(ctx, func() error { return takeBack(l.store, layer) }); err != nil {
			return nil, err
		}
		return l.extract(ctx, i, parent)
	}
	l.stats.Staged++
	l.stats.Files += t.result.Files
	l.stats.Shared += t.result.Shared
	l.stats.Written += t.result.Written
	return layer, nil
}

// extract has the store extract the i-th layer. It returns nil where the store
// has the layer by now.
func (l *layers) extract(ctx context.Context, i int, parent *storage.Layer) (*storage.Layer, error) {
	release, err := l.limit.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	layer, err := l.extractOnce(ctx, i, parent)
	if errors.Is(err, composefsrepo.ErrLostZeros) && !l.image.Synthesised {
		if l.image, _, err = l.image.Repaired(ctx); err != nil {
			return nil, err
		}
		layer, err = l.extractOnce(ctx, i, parent)
	}
	if explained := explainDuplicate(ctx, err, l.image, i); explained != err {
		return nil, explained
	}
	if err != nil && l.reasons[i] != nil {
		err = fmt.Errorf("%w (the layer %w)", err, l.reasons[i])
	}
	return layer, err
}

func (l *layers) extractOnce(ctx context.Context, i int, parent *storage.Layer) (*storage.Layer, error) {
	l.tell(i, Restarted, 0)
	image := l.image
	var layer *storage.Layer
	err := await.Do(ctx, func() (err error) {
		layer, err = extract(ctx, l.store, image, i, l.ids[i], layerID(parent), func(bytes int64) { l.tell(i, Reading, bytes) })
		if err == nil && layer != nil {
			err = checkExtracted(layer, image.Layers[i].DiffID)
			if err == nil {
				err = checkBelow(l.store, layer, parent)
			}
			if err != nil {
				err = errors.Join(err, takeBack(l.store, layer))
			}
		}
		return err
	})
	if err == nil && layer != nil {
		err = l.checkSize(i, layer.UncompressedSize)
		l.stats.Extracted++
	}
	return layer, err
}

// tell reports an event.
func (l *layers) tell(i int, state State, bytes int64) {
	if l.report != nil {
		layer := l.image.Layers[i]
		l.report(Event{i, layer.DiffID, layer.Size, state, bytes})
	}
}

// removeTree removes the tree of the i-th layer, if there is one.
func (l *layers) removeTree(i int) error {
	t := l.trees[i]
	l.trees[i] = nil
	if t == nil {
		return nil
	}
	return t.remove()
}

// close releases the trees that were not added. The workDir removes what there is
// of them.
func (l *layers) close() {
	for _, t := range l.trees {
		if t != nil {
			t.result.TarSplit.Close()
		}
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
