// Package zerocopy brings images of composefs repositories into
// containers-storage without copying the contents of their files: on a
// filesystem with reflinks a layer's files share their blocks with the
// repository's objects. What arrives is the image with its own manifest, and so
// with the manifest's digest as well as the image ID.
//
// Image does all of it, in the place of copy.Image of containers/image. Stage
// does the part that is this package's own: it puts the layers into the store,
// where copy.Image finds them.
package zerocopy

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/containers/storage"
	"github.com/containers/storage/pkg/idtools"
	"github.com/opencontainers/go-digest"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
)

// ErrUnsupported: the image can't come into the store this way, for the reason
// that the error gives; the plain way, copy.Image, may take it or say what is
// wrong with it. Nothing was changed.
var ErrUnsupported = errors.New("can't be copied without copying contents")

// Options are optional.
type Options struct {
	// Parallelism is how many layers are worked on at once, 0 for as many as
	// there are cores, up to 8.
	Parallelism int
	// Progress is told what becomes of the layers. It is called by several
	// goroutines at once.
	Progress func(Event)
}

// Event is a step of a layer's way.
type Event struct {
	Layer  int           // index in composefsrepo.Image.Layers
	Digest digest.Digest // the layer's diff ID
	Size   int64         // of the layer's tar, in bytes
	State  State
	Bytes  int64 // with Reading: how many more bytes of the tar are through
}

// State is what an Event tells.
type State int

// What becomes of a layer: Found, or Reading (any number of times) and Done.
const (
	Found   State = iota // the store has it already
	Reading              // it is being unpacked
	Done                 // it is in the store
)

// Stats is what staging an image came to.
type Stats struct {
	// Found and Staged count layers, Files the regular files of the staged ones.
	Found, Staged int
	Files         int64
	// Shared and Written are the bytes of the files' contents that share their
	// blocks with the repository, and that do not.
	Shared, Written int64
}

// Staged is an image's layers in a store. No image of the store may be using
// them yet.
type Staged struct {
	store    storage.Store
	mappings *idtools.IDMappings
	image    *composefsrepo.Image
	journal  *journal
	stats    Stats
}

// Stats tells what staging the image came to.
func (s *Staged) Stats() Stats { return s.stats }

// Stage puts each layer of the image that the store lacks into it, under the ID
// that the containers-storage transport would give it. It ends soon after ctx
// does. The caller calls Close on what it returns, when the image that uses the
// layers is in the store, or when it never will be. The error wraps
// ErrUnsupported, or is one of composefsrepo's, of package unpack, or the
// store's; the store has no layer then that Stage has made.
//
// The policy that may forbid the image is for the caller to ask before.
func Stage(ctx context.Context, store storage.Store, image *composefsrepo.Image, options *Options) (*Staged, error) {
	if options == nil {
		options = &Options{}
	}
	if err := checkImage(image); err != nil {
		return nil, err
	}
	mappings, err := checkStore(store)
	if err != nil {
		return nil, err
	}
	j, err := openJournal(store)
	if err != nil {
		return nil, err
	}
	s := &Staged{store: store, mappings: mappings, image: image, journal: j}
	if err := s.stage(ctx, options); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Close removes those of the layers that Stage has made and that nothing uses.
func (s *Staged) Close() error { return s.journal.close(s.store) }

// checkImage refuses what has no layers that a store could have.
func checkImage(image *composefsrepo.Image) error {
	if len(image.Layers) == 0 {
		return fmt.Errorf("%w: it has no layers", ErrUnsupported)
	}
	for _, l := range image.Layers {
		if l.DiffID == "" {
			return fmt.Errorf("%w: blob %s is no layer", ErrUnsupported, l.Digest())
		}
		if l.DiffID.Algorithm() != digest.SHA256 {
			return fmt.Errorf("%w: diff ID %s is no SHA-256", ErrUnsupported, l.DiffID)
		}
	}
	return nil
}

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

// deleteUnused deletes those of the layers that nothing uses. Each is on top of
// those before it, so where one is in use, they are.
func deleteUnused(store storage.Store, ids []string) error {
	for _, id := range slices.Backward(ids) {
		err := store.DeleteLayer(id)
		if isInUse(err) {
			return nil
		}
		if err != nil && !errors.Is(err, storage.ErrLayerUnknown) && !errors.Is(err, storage.ErrNotALayer) {
			return fmt.Errorf("removing layer %s, which nothing uses: %w", id, err)
		}
	}
	return nil
}

func isInUse(err error) bool {
	for _, use := range []error{storage.ErrLayerHasChildren, storage.ErrLayerUsedByImage, storage.ErrLayerUsedByContainer} {
		if errors.Is(err, use) {
			return true
		}
	}
	return false
}
