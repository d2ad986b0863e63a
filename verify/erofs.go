package verify

import (
	"context"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/erofs"
)

// erofsImage is an EROFS image of the repository.
type erofsImage struct {
	c       *checker
	object  fsverity.Digest
	images  []*image // that it was made of
	damaged bool     // it is none, although its object is sound
}

// addEROFS returns the EROFS image in an object, which is one of those to be checked
// then.
func (c *checker) addEROFS(d fsverity.Digest) *erofsImage {
	e := c.erofs[d]
	if e == nil {
		e = &erofsImage{c: c, object: d}
		c.erofs[d] = e
	}
	return e
}

// addImage notes an image that it was made of.
func (e *erofsImage) addImage(im *image) {
	e.c.addPart(e.object, partEROFS, e.object.String(), im)
	if !slices.Contains(e.images, im) {
		e.images = append(e.images, im)
		im.erofs = append(im.erofs, e.object)
	}
}

// checkEROFS checks the EROFS images, several at once, and that the objects are there
// that their files are in.
func (c *checker) checkEROFS(ctx context.Context) error {
	var group errgroup.Group
	group.SetLimit(c.cores)
	for _, e := range c.erofs {
		group.Go(func() error { return e.check(ctx) })
	}
	return group.Wait()
}

func (e *erofsImage) check(ctx context.Context) error {
	if err := e.c.checkObject(ctx, e.object); err != nil {
		return err
	}
	if e.c.set.is(e.object, damaged) {
		return nil
	}
	err := e.objects(ctx, func(d fsverity.Digest) error {
		// Those that streams refer to are checked with these.
		if e.c.set.add(d, referenced) == 0 {
			return e.c.checkObject(ctx, d)
		}
		return nil
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		e.damaged = true
		e.c.found(Damage{Kind: EROFS, Path: composefsrepo.ImageDir + "/" + e.object.String(), Detail: err.Error(), part: partEROFS}, e.images...)
	}
	return nil
}

// objects calls visit with the objects that the image's files are in.
func (e *erofsImage) objects(ctx context.Context, visit func(fsverity.Digest) error) error {
	f, size, _, err := e.c.repo.ProbeObject(e.object)
	if err != nil {
		return err
	}
	defer f.Close()
	return erofs.Objects(ctx, f, size, e.c.repo.Algorithm(), visit)
}
