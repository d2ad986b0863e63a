// Package tree has the files of an image of a composefs repository as they are when
// its layers are mounted: it reads the headers in the layers' tars, and no content
// until one is opened.
//
// ReadLayer goes through the entries of one layer. Read makes the Tree of all of
// them, of which FS is a file system.
//
// The tree is the one that containers-storage has of the image when it is mounted:
// each layer is unpacked by itself, and lies over the lower ones as in an overlay
// filesystem. What a filesystem adds of its own is left out: a time that it can't
// have is not another one, and nothing is inherited from access control lists.
package tree

import (
	"cmp"
	"context"
	"maps"
	"runtime"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
)

// Tree is the files of an image. It may be used concurrently, and ends with the
// image's repository.
type Tree struct {
	image *composefsrepo.Image
	root  *Node
}

// Read reads the headers of all layers of an image, several at once. Nothing is
// checked against the layers' diff IDs; see ReadLayer. Nor are objects asked for their
// sizes, as long as those of the files add up: in a repository that somebody has forged,
// they may be others, which package verify finds. The error wraps ErrNotTar,
// ErrLayer, ErrTooLarge, or is one of ReadLayer's.
func Read(ctx context.Context, image *composefsrepo.Image) (*Tree, error) {
	trees, err := ReadAll(ctx, image)
	if err != nil {
		return nil, err
	}
	return trees[0], nil
}

// ReadAll reads several images as Read does, and reads once what several layers have
// for a stream. That the object with a content is missing from one of the repositories
// may be found only when it is opened.
func ReadAll(ctx context.Context, images ...*composefsrepo.Image) ([]*Tree, error) {
	layers := make([][]*Node, len(images))
	streams := map[streamKey][]position{}
	for i, image := range images {
		layers[i] = make([]*Node, len(image.Layers))
		for n, l := range image.Layers {
			key := streamKey{l.Digest(), l.Verity}
			streams[key] = append(streams[key], position{i, n})
		}
	}
	b := &budget{}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for _, positions := range largestFirst(images, streams) {
		group.Go(func() error {
			first := positions[0]
			root, err := unpackLayer(groupCtx, images[first.image], first.layer, b)
			if err != nil {
				return err
			}
			layers[first.image][first.layer] = root
			for _, other := range positions[1:] {
				if layers[other.image][other.layer], err = cloneLayer(root, other.layer, b); err != nil {
					return inLayer(images[other.image], other.layer, err)
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	trees := make([]*Tree, len(images))
	var mounting sync.WaitGroup
	for i, image := range images {
		mounting.Go(func() { trees[i] = &Tree{image, mount(layers[i])} })
	}
	mounting.Wait()
	return trees, nil
}

// largestFirst returns the places of each stream, those of the largest layers first:
// so that the cores are done at about the same time.
func largestFirst(images []*composefsrepo.Image, streams map[streamKey][]position) [][]position {
	size := func(p []position) int64 { return images[p[0].image].Layers[p[0].layer].Size }
	return slices.SortedFunc(maps.Values(streams), func(a, b []position) int { return cmp.Compare(size(b), size(a)) })
}

// streamKey is what layers have in common that rebuild the same tar from the same
// stream.
type streamKey struct {
	digest digest.Digest
	verity fsverity.Digest
}

// position is where a layer is: indices of an image and of the layer in it.
type position struct{ image, layer int }

// mount returns the tree of layers, which it takes apart.
func mount(layers []*Node) *Node {
	root := (&layer{}).newDir(0)
	for _, upper := range layers {
		overlayRoot(root, upper)
	}
	root.finish()
	return root
}

// Root returns the root directory.
func (t *Tree) Root() *Node { return t.root }

// Image returns the image that the tree is of.
func (t *Tree) Image() *composefsrepo.Image { return t.image }
