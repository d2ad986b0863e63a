package verify

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/splitstream"
)

// maxPaths is how many paths of a layer are listed for a damage.
const maxPaths = 20

// locate finds what of images the damaged objects are.
func (c *checker) locate(ctx context.Context) error {
	for _, all := range []map[fsverity.Digest]*Damage{c.ofObject, c.ofStream} {
		for object, d := range all {
			for _, p := range c.partsOf(object) {
				d.place(p.kind, p.name, p.images)
			}
		}
	}
	for _, s := range c.streams {
		if err := c.locateIn(ctx, s); err != nil {
			return err
		}
	}
	for _, e := range c.erofs {
		if err := e.locate(ctx); err != nil {
			return err
		}
	}
	return nil
}

// partsOf returns what an object is all of, or the stream of, of images or of none.
func (c *checker) partsOf(object fsverity.Digest) []part {
	parts := c.parts[object]
	if s := c.streams[object]; s != nil && len(parts) == 0 {
		parts = append(parts, part{kind: partStream, name: s.name()})
	}
	if e := c.erofs[object]; e != nil && len(e.images) == 0 {
		parts = append(parts, part{kind: partEROFS, name: object.String()})
	}
	return parts
}

// place adds a place to a damage, and returns it.
func (d *Damage) place(kind, name string, images []*image) *Place {
	p := Place{Part: kind, Name: name}
	for _, im := range images {
		im.damaged = true
		p.Images = append(p.Images, im.names...)
		if !slices.Contains(d.images, im) {
			d.images = append(d.images, im)
		}
	}
	slices.Sort(p.Images)
	d.Places = append(d.Places, p)
	return &d.Places[len(d.Places)-1]
}

// locateIn finds the damaged objects of a stream.
func (c *checker) locateIn(ctx context.Context, s *stream) error {
	if !c.touched(s) {
		return ctx.Err()
	}
	hits := map[fsverity.Digest]*Damage{}
	_ = c.objectRefs(s, func(d fsverity.Digest) error { // what can't be read is a damage of its own
		if listed := c.ofObject[d]; listed != nil {
			hits[d] = listed
		}
		return nil
	})
	if len(hits) == 0 || s.kind == splitstream.Manifest || s.kind == splitstream.Config {
		return ctx.Err() // whose objects are parts
	}
	paths := map[fsverity.Digest]*Place{}
	if s.kind == splitstream.Layer {
		var err error
		if paths, err = c.pathsIn(ctx, s, hits); err != nil {
			return err
		}
	}
	for object, d := range hits {
		for _, p := range c.partsOf(s.object) {
			place := d.place(p.kind, p.name, p.images)
			if found := paths[object]; found != nil {
				place.Paths, place.More = found.Paths, found.More
			}
		}
	}
	return nil
}

// name returns what to call a stream of no image.
func (s *stream) name() string {
	if len(s.links) > 0 {
		return path.Base(s.links[0])
	}
	return composefsrepo.ObjectPath(s.object)
}

// pathsIn returns the files of a layer that damaged objects are the content of. Where
// that shows that an object is too short, it is noted. The error is ctx's.
func (c *checker) pathsIn(ctx context.Context, s *stream, hits map[fsverity.Digest]*Damage) (map[fsverity.Digest]*Place, error) {
	file, r, err := c.openReader(s.object)
	if err != nil {
		return nil, ctx.Err()
	}
	defer file.Close()
	t := &skeleton{ctx: ctx, checker: c, chunks: r.Chunks(), hits: hits}
	found := map[fsverity.Digest]*Place{}
	touched := map[string]fsverity.Digest{} // by the path in the tar
	for entries := tar.NewReader(t); ; {
		header, err := entries.Next() // reads what is left of the entry before
		for _, d := range t.passed {
			add(found, d, cleanPath(t.header.Name))
			touched[cleanPath(t.header.Name)] = d
		}
		t.passed = t.passed[:0]
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return found, ctx.Err() // the end, or as far as it can be read
		}
		t.header, t.left = header, header.Size
		if d, ok := touched[cleanPath(header.Linkname)]; ok && header.Typeflag == tar.TypeLink {
			add(found, d, cleanPath(header.Name))
		}
	}
}

// cleanPath returns the path in an image of a path in a tar.
func cleanPath(name string) string { return path.Clean("/" + name) }

func add(found map[fsverity.Digest]*Place, d fsverity.Digest, path string) {
	p := found[d]
	if p == nil {
		p = &Place{}
		found[d] = p
	}
	switch {
	case slices.Contains(p.Paths, path):
	case len(p.Paths) == maxPaths:
		p.More++
	default:
		p.Paths = append(p.Paths, path)
	}
}

// skeleton is a layer's tar with zeros for the contents of objects, as long as the
// headers have them: the objects themselves may have another size, or be missing.
type skeleton struct {
	*checker
	ctx    context.Context
	chunks *splitstream.Chunks
	hits   map[fsverity.Digest]*Damage

	inline []byte
	zeros  int64             // that follow, of an object
	header *tar.Header       // of the entry being read, nil before the first
	left   int64             // of its content, in bytes
	passed []fsverity.Digest // damaged objects in it
}

// Read implements io.Reader.
func (t *skeleton) Read(p []byte) (int, error) {
	for len(t.inline) == 0 && t.zeros == 0 {
		if err := t.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, t.inline)
	if t.inline = t.inline[n:]; n == 0 {
		n = int(min(int64(len(p)), t.zeros))
		clear(p[:n])
		t.zeros -= int64(n)
	}
	t.left -= int64(n)
	return n, nil
}

// next takes the next chunk.
func (t *skeleton) next() error {
	if err := t.ctx.Err(); err != nil {
		return err
	}
	chunk, err := t.chunks.Next()
	if err != nil {
		return err
	}
	t.inline = chunk.Inline
	if chunk.Inline != nil {
		return nil
	}
	damage := t.hits[chunk.Object]
	if damage == nil {
		t.zeros, err = t.repo.ObjectSize(chunk.Object)
		return err
	}
	if t.header == nil {
		return io.ErrUnexpectedEOF // objects are the contents of files
	}
	t.zeros = max(0, t.left)
	t.passed = append(t.passed, chunk.Object)
	size, err := t.repo.ObjectSize(chunk.Object)
	if err == nil && size < t.zeros && damage.Kind == ObjectAltered {
		damage.Kind = ObjectTruncated
		damage.Detail = fmt.Sprintf("it has %d bytes of %d", size, t.zeros)
	}
	return nil
}

// locate finds the damaged objects of an EROFS image that were not found in a layer.
func (e *erofsImage) locate(ctx context.Context) error {
	lost := maps.Clone(e.c.ofObject)
	maps.DeleteFunc(lost, func(_ fsverity.Digest, d *Damage) bool { return len(d.Places) > 0 })
	if len(lost) == 0 || e.damaged || e.c.set.is(e.object, damaged) {
		return nil
	}
	hits := map[*Damage]bool{}
	_ = e.objects(ctx, func(d fsverity.Digest) error {
		if damage := lost[d]; damage != nil {
			hits[damage] = true
		}
		return nil
	})
	for d := range hits {
		d.place(partEROFS, e.object.String(), e.images)
	}
	return ctx.Err()
}
