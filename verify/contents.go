package verify

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
)

// countObjects plans which objects are to be read, with which layer, and counts them
// and what nothing refers to.
func (c *checker) countObjects(ctx context.Context) error {
	c.total.Store(c.done.Load())
	for _, l := range c.layers {
		c.total.Add(l.size)
		err := c.objectRefs(l.stream, func(d fsverity.Digest) error {
			c.set.add(d, planned)
			return ctx.Err()
		})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			l.err = err
		}
	}
	if !c.whole() {
		return nil
	}
	return c.repo.Walk(ctx, composefsrepo.ObjectDir, func(e composefsrepo.Entry) error {
		c.countEntry(e)
		return nil
	})
}

// temporaryPrefix begins the names that importers give to objects that are not yet ones.
const temporaryPrefix = composefsrepo.ObjectDir + "/.tmp-object-"

// countEntry counts a file of the objects' directory.
func (c *checker) countEntry(e composefsrepo.Entry) {
	d, isObject := composefsrepo.ParseObjectPath(e.Path)
	switch {
	case e.Err != nil:
		c.found(Damage{Kind: ObjectUnreadable, Path: e.Path, Detail: "it can't be read: " + reason(e.Err)})
	case isObject && d.Size() == c.repo.Algorithm().Size():
		c.countObject(d)
	case e.Type == fs.ModeDir && isObjectDir(e.Path):
	case e.Type == 0 && strings.HasPrefix(e.Path, temporaryPrefix):
		c.unreferenced.Temporary++
		if info, err := os.Lstat(filepath.Join(c.repo.Path(), e.Path)); err == nil {
			c.unreferenced.TemporaryBytes += info.Size()
		}
	default:
		c.found(Damage{Kind: ObjectName, Path: e.Path, Detail: "no object has such a name"})
	}
}

// isObjectDir tells whether a directory is one for objects whose names begin with a
// byte.
func isObjectDir(path string) bool {
	name := strings.TrimPrefix(path, composefsrepo.ObjectDir+"/")
	return len(name) == 2 && strings.Trim(name, "0123456789abcdef") == ""
}

// countObject counts an object that is there.
func (c *checker) countObject(d fsverity.Digest) {
	known := c.set.get(d)
	if known&referenced != 0 && known&(planned|claimed) != 0 {
		return
	}
	size, err := c.repo.ObjectSize(d)
	if err != nil {
		size = 0 // which will be found when it is checked
	}
	if known&referenced == 0 {
		c.unreferenced.Objects++
		c.unreferenced.Bytes += size
	}
	if known&(planned|claimed) == 0 {
		c.total.Add(size)
	}
}

// checkContents reads all layers, the largest first, and next to them the objects that
// are of none.
func (c *checker) checkContents(ctx context.Context) error {
	var layers []*layer
	for _, l := range c.layers {
		layers = append(layers, l)
	}
	slices.SortFunc(layers, func(a, b *layer) int { return int(min(1, max(-1, b.size-a.size))) })
	var group errgroup.Group
	group.SetLimit(c.cores)
	for _, l := range layers {
		group.Go(func() error { return c.readLayer(ctx, l) })
	}
	if c.whole() {
		c.sweep(ctx, &group)
	}
	return group.Wait()
}

// sweep checks the objects that no layer has.
func (c *checker) sweep(ctx context.Context, group *errgroup.Group) {
	const digits = "0123456789abcdef"
	for i := range 256 {
		dir := composefsrepo.ObjectDir + "/" + digits[i/16:i/16+1] + digits[i%16:i%16+1]
		group.Go(func() error {
			return c.repo.Walk(ctx, dir, func(e composefsrepo.Entry) error {
				d, ok := composefsrepo.ParseObjectPath(e.Path)
				if !ok || d.Size() != c.repo.Algorithm().Size() || c.set.is(d, planned|claimed) {
					return nil
				}
				return c.checkObject(ctx, d)
			})
		})
	}
}

// checkRest checks what streams refer to that has not been read: by a layer that could
// not be read to its end, or because it is not there.
func (c *checker) checkRest(ctx context.Context) error {
	var group errgroup.Group
	group.SetLimit(c.cores)
	for _, s := range c.streams {
		group.Go(func() error {
			for _, d := range s.refs {
				if err := c.checkObject(ctx, d); err != nil {
					return err
				}
			}
			err := c.objectRefs(s, func(d fsverity.Digest) error { return c.checkObject(ctx, d) })
			if err != nil && ctx.Err() == nil {
				c.note("%s could be read before, and now can't: %v", composefsrepo.ObjectPath(s.object), err)
			}
			return ctx.Err()
		})
	}
	return group.Wait()
}
