package verify

import (
	"context"
	"errors"
	"io"
	"slices"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/splitstream"
)

// stream is a splitstream of the repository.
type stream struct {
	object fsverity.Digest
	links  []string // paths of the links that lead to it, of which the first are held
	// readable: its object is sound and it is a splitstream, so that what it says of
	// itself is what was imported. Without that, what follows is not set.
	readable bool
	kind     splitstream.Type
	size     int64 // of what it rebuilds, in bytes
	refs     map[string]fsverity.Digest

	touched bool // an object of it was found to be damaged, or that which has it
}

// maxLinks is how many links are remembered of a stream. Importers make one, where not
// two digests have been stored with the same content.
const maxLinks = 8

// openReader opens the splitstream in an object. The caller closes the file.
func (c *checker) openReader(d fsverity.Digest) (io.Closer, *splitstream.Reader, error) {
	f, size, _, err := c.repo.ProbeObject(d)
	if err != nil {
		return nil, nil, err
	}
	r, err := splitstream.NewReader(f, size, c.repo.Algorithm())
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, r, nil
}

// loadStreams loads all streams that have links, several at once, where all of the
// repository is checked.
func (c *checker) loadStreams(ctx context.Context) error {
	if !c.whole() {
		return nil
	}
	for _, l := range c.links.streams {
		if l.err != nil {
			continue
		}
		s := c.streams[l.object]
		if s == nil {
			s = &stream{object: l.object}
			c.streams[l.object] = s
		}
		if len(s.links) < maxLinks {
			s.links = append(s.links, l.path)
		}
	}
	var group errgroup.Group
	group.SetLimit(c.cores)
	for _, s := range c.streams {
		slices.Sort(s.links)
		group.Go(func() error { return c.load(ctx, s) })
	}
	return group.Wait()
}

// stream returns the stream in an object.
func (c *checker) stream(ctx context.Context, d fsverity.Digest) (*stream, error) {
	s := c.streams[d]
	if s == nil {
		s = &stream{object: d}
		c.streams[d] = s
		if err := c.load(ctx, s); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// load checks a stream's object and reads what the stream says of itself. The error is
// ctx's.
func (c *checker) load(ctx context.Context, s *stream) error {
	if err := c.checkObject(ctx, s.object); err != nil {
		return err
	}
	file, r, err := c.openReader(s.object)
	if err == nil {
		defer file.Close()
		err = s.read(r)
	}
	if err == nil && s.kind != splitstream.Layer {
		err = readChunks(ctx, r)
	}
	if err == nil {
		// Of an altered stream, too, objects are not to be taken for garbage.
		for _, d := range s.refs {
			c.set.add(d, referenced)
		}
		err = r.ObjectRefs(func(d fsverity.Digest) error {
			c.set.add(d, referenced)
			return nil
		})
	}
	if s.readable = err == nil && !c.set.is(s.object, damaged); s.readable || ctx.Err() != nil {
		return ctx.Err()
	}
	s.refs = nil
	if !c.set.is(s.object, damaged) {
		c.streamDamage(s, err.Error())
	}
	return nil
}

func (s *stream) read(r *splitstream.Reader) (err error) {
	s.kind, s.size = r.ContentType(), r.Size()
	s.refs, err = r.NamedRefs()
	return err
}

// readChunks reads a stream's chunks, to see whether it can be done.
func readChunks(ctx context.Context, r *splitstream.Reader) error {
	for chunks := r.Chunks(); ; {
		_, err := chunks.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
	}
}

// streamDamage notes that a stream is damaged, although its object is sound.
func (c *checker) streamDamage(s *stream, detail string) {
	s.readable = false
	c.foundStream(s.object, Damage{Kind: Stream, Detail: detail})
}

// linked returns the stream's object to which a link in StreamDir leads, if there is a
// link.
func (c *checker) linked(prefix string, d digest.Digest) (fsverity.Digest, bool) {
	l, ok := c.links.streams[prefix+d.String()]
	return l.object, ok && l.err == nil
}
