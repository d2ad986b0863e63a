package diff

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/tree"
)

// contents compares contents of two images' files by the fs-verity digests of one
// algorithm, that of the new image's repository.
type contents struct {
	oldByName bool // the old image's objects are named by that algorithm, too
	// read has the digests of contents that had to be read, since their keys are not such
	// a digest.
	read map[*tree.Node]fsverity.Digest
}

// newContents reads the contents that have to be.
func newContents(ctx context.Context, old, new *tree.Tree) (*contents, error) {
	algorithm := new.Image().Algorithm()
	c := &contents{oldByName: old.Image().Algorithm() == algorithm, read: map[*tree.Node]fsverity.Digest{}}
	oldNodes, newNodes := toRead(old.Root(), c.oldByName), toRead(new.Root(), true)
	if len(oldNodes) == 0 && len(newNodes) == 0 {
		return c, nil
	}
	for _, side := range []struct {
		nodes       []*tree.Node
		tree, other *tree.Tree
	}{{oldNodes, old, new}, {newNodes, new, old}} {
		if err := c.readAll(ctx, side.tree, side.nodes, sizesOf(side.other.Root()), algorithm); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// each calls do with every node below a node, as often as it has names.
func each(n *tree.Node, do func(*tree.Node)) {
	do(n)
	for _, child := range n.Children() {
		each(child.Node, do)
	}
}

// isNamed tells whether a content is in one object, or is held.
func isNamed(n *tree.Node) bool { return !n.Object().IsZero() || n.Inline() != nil }

// toRead returns the regular files with contents whose keys are no digest of the
// algorithm.
func toRead(root *tree.Node, byName bool) (nodes []*tree.Node) {
	each(root, func(n *tree.Node) {
		if n.IsRegular() && n.Size > 0 && !(byName && (isNamed(n) || n.Key().Exact)) {
			nodes = append(nodes, n)
		}
	})
	return nodes
}

// sizesOf returns the sizes that contents have.
func sizesOf(root *tree.Node) map[int64]bool {
	sizes := map[int64]bool{}
	each(root, func(n *tree.Node) {
		if n.IsRegular() {
			sizes[n.Size] = true
		}
	})
	return sizes
}

// readAll computes the digests of contents of some sizes, several at once, and each
// once.
func (c *contents) readAll(ctx context.Context, t *tree.Tree, nodes []*tree.Node, sizes map[int64]bool, algorithm fsverity.Algorithm) error {
	byKey := map[tree.Key][]*tree.Node{}
	for _, n := range nodes {
		if sizes[n.Size] {
			key := n.Key()
			byKey[key] = append(byKey[key], n)
		}
	}
	var mutex sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for _, same := range byKey {
		if ctx.Err() != nil {
			break
		}
		group.Go(func() error {
			d, err := readDigest(ctx, t, same[0], algorithm)
			if err != nil {
				return fmt.Errorf("comparing contents: %w", err)
			}
			mutex.Lock()
			defer mutex.Unlock()
			for _, n := range same {
				c.read[n] = d
			}
			return nil
		})
	}
	return group.Wait()
}

func readDigest(ctx context.Context, t *tree.Tree, n *tree.Node, algorithm fsverity.Algorithm) (fsverity.Digest, error) {
	f, err := t.Open(ctx, n, "file")
	if err != nil {
		return fsverity.Digest{}, err
	}
	defer f.Close()
	hasher := fsverity.NewHasher(algorithm)
	if _, err := io.Copy(hasher, f); err != nil {
		return fsverity.Digest{}, err
	}
	return hasher.Sum(), nil
}

// digest returns the digest of a content that is not empty; false where it was not
// worth computing, since the other image has none of the size.
func (c *contents) digest(n *tree.Node, byName bool) (fsverity.Digest, bool) {
	if d, ok := c.read[n]; ok {
		return d, true
	}
	key := n.Key()
	return key.Digest, byName && key.Exact
}

// equal tells whether two regular files have the same content.
func (c *contents) equal(old, new *tree.Node) bool {
	if old.Size != new.Size || old.Size == 0 {
		return old.Size == new.Size
	}
	if a, b := old.Inline(), new.Inline(); a != nil && b != nil {
		return bytes.Equal(a, b)
	}
	a, known := c.digest(old, c.oldByName)
	b, alsoKnown := c.digest(new, true)
	return known && alsoKnown && a == b
}

// newBytes returns the size of the contents of some of the new image's files that no
// file of the old one has, each once.
func (c *contents) newBytes(old *tree.Node, fresh []*tree.Node) (bytes int64) {
	if len(fresh) == 0 {
		return 0
	}
	sizes := map[int64]bool{} // of contents; true where none is in an object
	for _, n := range fresh {
		if n.Size > 0 {
			other, known := sizes[n.Size]
			sizes[n.Size] = n.Inline() != nil && (other || !known)
		}
	}
	each(old, func(n *tree.Node) {
		if sizes[n.Size] && n.IsRegular() && n.Inline() == nil {
			sizes[n.Size] = false
		}
	})
	seen, seenInline := map[fsverity.Digest]bool{}, map[string]bool{}
	each(old, func(n *tree.Node) {
		held, wanted := sizes[n.Size]
		switch {
		case !wanted || !n.IsRegular():
		case held:
			seenInline[string(n.Inline())] = true
		default:
			if d, known := c.digest(n, c.oldByName); known {
				seen[d] = true
			}
		}
	})
	for _, n := range fresh {
		switch {
		case n.Size == 0:
		case sizes[n.Size]: // the digests of these would all have to be computed
			if !seenInline[string(n.Inline())] {
				seenInline[string(n.Inline())] = true
				bytes += n.Size
			}
		default:
			// Where it is not known, the key is not another content's either.
			if d, _ := c.digest(n, true); !seen[d] {
				seen[d] = true
				bytes += n.Size
			}
		}
	}
	return bytes
}
