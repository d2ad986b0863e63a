package splitstream

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
)

// OpenObject opens the object with a digest and tells its size in bytes. The
// caller closes it. It is called by several goroutines at once.
type OpenObject func(fsverity.Digest) (content io.ReadCloser, size int64, err error)

// Content is the rebuilt file. Objects are opened and read ahead of the reader,
// several at once, since an image has mostly small ones, of which opening is
// the larger part of the work. It holds 4 MiB and a few dozen open objects at
// the most, however large the file is.
//
// It is not safe for concurrent use. What interrupts a Read is the context.
type Content struct {
	size   int64
	read   int64 // bytes returned so far, and announced by the current part
	cancel context.CancelFunc
	ctx    context.Context
	done   sync.WaitGroup

	queue chan *part // filled and being filled, in the order of the file
	free  chan *part // not in use
	jobs  chan *part // objects to open

	current *part
	err     error
}

const (
	readAheadParts   = 64       // how many parts the queue holds
	readAheadSize    = 64 << 10 // how many bytes of a part are read ahead
	readAheadOpeners = 4        // how many objects are opened at once
)

// part is a piece of the file: some inline bytes, or an object.
type part struct {
	object fsverity.Digest // zero for inline bytes
	ready  chan struct{}   // receives a value when what follows is set
	buffer []byte          // allocated when first needed
	data   []byte          // what is left of the buffer
	rest   io.ReadCloser   // what of the object is not in the buffer, nil if nothing
	left   int64           // its size in bytes
	size   int64           // the whole part's
	err    error
}

// Content returns the rebuilt file, at its start. It is opened with open and
// closed by the caller. Reading it ends with an error that wraps ErrSize where
// objects and inline bytes are not Size bytes together, never with a short
// file; with ctx's error once ctx is done.
func (s *Reader) Content(ctx context.Context, open OpenObject) *Content {
	ctx, cancel := context.WithCancel(ctx)
	c := &Content{
		size: s.size, ctx: ctx, cancel: cancel,
		queue: make(chan *part, readAheadParts),
		free:  make(chan *part, readAheadParts),
		jobs:  make(chan *part, readAheadParts),
	}
	for range readAheadParts {
		c.free <- &part{ready: make(chan struct{}, 1)}
	}
	c.done.Add(1 + readAheadOpeners)
	go c.scan(s.Chunks())
	for range readAheadOpeners {
		go c.openObjects(open)
	}
	return c
}

// scan makes parts of the chunks.
func (c *Content) scan(chunks *Chunks) {
	defer c.done.Done()
	defer close(c.queue)
	defer close(c.jobs)
	var inline *part // bytes of consecutive inline chunks
	for {
		chunk, err := chunks.Next()
		if inline != nil && (err != nil || chunk.Inline == nil) {
			c.enqueue(inline)
			inline = nil
		}
		switch {
		case err == io.EOF:
			return
		case err != nil:
			if p := c.newPart(); p != nil {
				p.err = err
				c.enqueue(p)
			}
			return
		case chunk.Inline == nil:
			p := c.newPart()
			if p == nil {
				return
			}
			p.object = chunk.Object
			c.queue <- p // the channels have room for every part
			c.jobs <- p
		}
		for rest := chunk.Inline; len(rest) > 0; {
			if inline == nil {
				if inline = c.newPart(); inline == nil {
					return
				}
			}
			n := min(len(rest), readAheadSize-len(inline.data))
			inline.data = append(inline.data, rest[:n]...)
			if rest = rest[n:]; len(inline.data) == readAheadSize {
				c.enqueue(inline)
				inline = nil
			}
		}
	}
}

// newPart returns an empty part, or nil once the context is done.
func (c *Content) newPart() *part {
	select {
	case p := <-c.free:
		if p.buffer == nil {
			p.buffer = make([]byte, readAheadSize)
		}
		*p = part{ready: p.ready, buffer: p.buffer, data: p.buffer[:0]}
		return p
	case <-c.ctx.Done():
		return nil
	}
}

// enqueue passes a part on that is ready.
func (c *Content) enqueue(p *part) {
	p.size = int64(len(p.data))
	p.ready <- struct{}{}
	c.queue <- p
}

// openObjects opens objects and reads their beginnings.
func (c *Content) openObjects(open OpenObject) {
	defer c.done.Done()
	for p := range c.jobs {
		if c.ctx.Err() == nil {
			p.err = p.fill(open)
		}
		p.ready <- struct{}{}
	}
}

// fill opens the part's object and reads what the buffer takes.
func (p *part) fill(open OpenObject) error {
	content, size, err := open(p.object)
	if err != nil {
		return err
	}
	p.size = size
	p.data = p.buffer[:min(size, readAheadSize)]
	if _, err := io.ReadFull(content, p.data); err != nil {
		content.Close()
		return p.shrunk(err)
	}
	if p.left = size - int64(len(p.data)); p.left > 0 {
		p.rest = content
		return nil
	}
	return content.Close()
}

// shrunk explains the error of a read for which there should have been data.
func (p *part) shrunk(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return fmt.Errorf("object %s: %w: it ended before its %d bytes", p.object, ErrSize, p.size)
	}
	return fmt.Errorf("object %s: %w", p.object, err)
}

// Read implements io.Reader.
func (c *Content) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	p, err := c.part()
	if err != nil {
		return 0, err
	}
	if len(p.data) > 0 {
		n := copy(b, p.data)
		p.data = p.data[n:]
		return n, nil
	}
	n, err := p.rest.Read(b[:min(int64(len(b)), p.left)])
	if p.left -= int64(n); p.left == 0 {
		err = nil
	} else if err != nil {
		c.err = p.shrunk(err)
		err = c.err
	}
	return n, err
}

// WriteTo implements io.WriterTo.
func (c *Content) WriteTo(w io.Writer) (int64, error) {
	var written int64
	var buffer []byte
	for {
		p, err := c.part()
		if err == io.EOF {
			return written, nil
		}
		if err != nil {
			return written, err
		}
		data := p.data
		if p.data = nil; len(data) == 0 {
			if buffer == nil {
				buffer = make([]byte, 4*readAheadSize)
			}
			n, err := c.Read(buffer)
			if err != nil {
				return written, err
			}
			data = buffer[:n]
		}
		n, err := w.Write(data)
		written += int64(n)
		if err != nil {
			return written, err
		}
	}
}

// part returns the part that the next byte is in, or io.EOF.
func (c *Content) part() (*part, error) {
	for c.err == nil {
		if c.err = c.ctx.Err(); c.err != nil {
			break
		}
		if p := c.current; p != nil {
			if len(p.data) > 0 || p.left > 0 {
				return p, nil
			}
			c.current, c.err = nil, p.close()
			c.free <- p
			continue
		}
		c.current, c.err = c.nextPart()
	}
	return nil, c.err
}

// nextPart takes a part from the queue, waits for it and counts its bytes.
func (c *Content) nextPart() (*part, error) {
	p, ok := <-c.queue // ends soon after the context does
	if !ok {
		if err := c.ctx.Err(); err != nil {
			return nil, err
		}
		if c.read != c.size {
			return nil, fmt.Errorf("%w: %d bytes instead of %d", ErrSize, c.read, c.size)
		}
		return nil, io.EOF
	}
	<-p.ready
	err := p.err
	if err == nil {
		err = c.ctx.Err() // the part may not have been filled
	}
	if err == nil && p.size > c.size-c.read {
		err = fmt.Errorf("%w: %d bytes follow where %d are left of %d", ErrSize, p.size, c.size-c.read, c.size)
		if !p.object.IsZero() {
			err = fmt.Errorf("object %s: %w", p.object, err)
		}
	}
	if err != nil {
		p.close()
		return nil, err
	}
	c.read += p.size
	return p, nil
}

func (p *part) close() error {
	if p.rest == nil {
		return nil
	}
	rest := p.rest
	p.rest = nil
	return rest.Close()
}

// Close ends reading and closes every object that is open. Closing a Content
// again does nothing.
func (c *Content) Close() error {
	c.cancel()
	c.done.Wait()
	if c.current != nil {
		c.current.close()
	}
	for p := range c.queue {
		p.close()
	}
	c.current, c.err = nil, os.ErrClosed
	return nil
}
