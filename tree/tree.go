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
	"context"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
)

// Tree is the files of an image. It may be used concurrently, and ends with the
// image's repository.
type Tree struct {
	image *composefsrepo.Image
	root  *Node
}

// Read reads the headers of all layers of an image, several at once. Nothing is
// checked against the layers' diff IDs; see ReadLayer. The error wraps ErrNotTar,
// ErrLayer, ErrTooLarge, or is one of ReadLayer's.
func Read(ctx context.Context, image *composefsrepo.Image) (*Tree, error) {
	layers := make([]*Node, len(image.Layers))
	b := &budget{}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for n := range image.Layers {
		group.Go(func() (err error) {
			layers[n], err = unpackLayer(ctx, image, n, b)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	root := (&layer{}).newDir(0)
	for _, upper := range layers {
		overlayRoot(root, upper)
	}
	root.finish()
	return &Tree{image, root}, nil
}

// Root returns the root directory.
func (t *Tree) Root() *Node { return t.root }

// Image returns the image that the tree is of.
func (t *Tree) Image() *composefsrepo.Image { return t.image }
