package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/splitstream"
)

const (
	// bufferSize is how many bytes of small objects and of what lies between
	// objects are sent at once. The last bytes of a response always come out of a
	// buffer. Each client that is slow keeps one.
	bufferSize = 64 << 10
	// largeObject is how many bytes of an object the kernel sends by itself.
	largeObject = 128 << 10
	// maxReaders is how many clients at once are sent layers out of the splitstreams
	// themselves, as long as no layout is there.
	maxReaders = 16
)

// buffers has those of the clients that something is being sent to.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, bufferSize); return &b }}

// fileSender is a writer that can have the kernel send from a file.
type fileSender interface {
	io.Writer
	// sendFile sends n bytes from where the file stands.
	sendFile(f *os.File, n int64) error
}

// errEnd: more was asked for than there is.
var errEnd = errors.New("the layer has ended")

// body is a layer's content as http.ServeContent takes it: it seeks, and what it
// reads through response.ReadFrom is sent by send. It is not safe for concurrent use.
type body struct {
	ctx        context.Context
	repository *repository
	layer      layer
	algorithm  fsverity.Algorithm
	check      *check
	readers    chan struct{} // taken by those that read a splitstream

	at  int64 // where Seek has put it
	err error // why send has failed
}

// Seek implements io.Seeker.
func (b *body) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += b.at
	case io.SeekEnd:
		offset += b.layer.size
	}
	if offset < 0 || offset > b.layer.size {
		return 0, fmt.Errorf("seeking to %d of %d: %w", offset, b.layer.size, errEnd)
	}
	b.at = offset
	return offset, nil
}

// Read implements io.Reader, for http.ServeContent's signature alone.
func (b *body) Read([]byte) (int, error) {
	b.err = errors.ErrUnsupported
	return 0, b.err
}

// send sends n bytes from where the body stands. Before the last of them, the check
// of the layer has to have come out right.
func (b *body) send(to io.Writer, n int64) (int64, error) {
	s := &sending{body: b, to: to, skip: b.at, left: n}
	s.files, _ = to.(fileSender)
	b.err = s.start()
	if b.err != nil {
		b.err = fmt.Errorf("sending layer %s: %w", b.layer.digest, b.err)
	}
	return s.sent, b.err
}

// sending is one call of send.
type sending struct {
	*body
	to     io.Writer
	files  fileSender // to, or nil
	chunks chunks

	layout *layout // nil where the splitstream is read
	stream *stream // nil where it is not
	id     uint64  // identity of the stream's file
	sum    uint64  // of the identities so far, without a layout
	count  int     // objects so far

	skip    int64 // bytes before what is to be sent
	left    int64 // bytes to be taken
	sent    int64
	pending []byte // taken, and to be sent
}

// chunks are a layout's, or a splitstream's.
type chunks interface {
	Next() (splitstream.Chunk, error)
}

// start chooses what the layer is read from, and sends it.
func (s *sending) start() error {
	ix, err := s.check.result()
	if ix == nil && err == nil {
		select {
		case s.readers <- struct{}{}: // beside the check
			defer func() { <-s.readers }()
			return s.fromStream()
		default:
			ix, err = s.check.wait(s.ctx)
		}
	}
	switch {
	case err != nil:
		return err
	case ix.layout != nil:
		return s.fromLayout(ix.layout)
	}
	select {
	case s.readers <- struct{}{}:
		defer func() { <-s.readers }()
		return s.fromStream()
	case <-s.ctx.Done():
		return context.Cause(s.ctx)
	}
}

// fromLayout sends a layer that is known to be right.
func (s *sending) fromLayout(l *layout) error {
	r, at, object := l.from(s.skip)
	defer r.close()
	s.layout, s.chunks, s.count = l, r, object
	s.skip -= at
	return s.run()
}

// fromStream sends a layer whose check is under way, or which has no layout.
func (s *sending) fromStream() (err error) {
	if s.stream, err = openStream(s.ctx, s.repository, s.layer); err != nil {
		return err
	}
	defer s.stream.Close()
	if s.id, err = identity(s.stream.file); err != nil {
		return err
	}
	s.sum, s.chunks = s.id, s.stream.Chunks()
	return s.run()
}

// run sends what is wanted.
func (s *sending) run() error {
	buffer := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	s.pending = (*buffer)[:0]
	for s.left > 0 {
		if s.ctx.Err() != nil {
			return context.Cause(s.ctx)
		}
		chunk, err := s.chunks.Next()
		switch {
		case err == io.EOF:
			return errEnd
		case err != nil:
			return err
		case chunk.Inline != nil:
			err = s.inline(chunk.Inline)
		default:
			err = s.object(chunk.Object)
		}
		if err != nil {
			return err
		}
	}
	if err := s.finish(); err != nil {
		return err
	}
	return s.flush()
}

// inline takes bytes of the stream itself.
func (s *sending) inline(data []byte) error {
	if skipped := min(s.skip, int64(len(data))); skipped > 0 {
		s.skip -= skipped
		data = data[skipped:]
	}
	data = data[:min(s.left, int64(len(data)))]
	s.left -= int64(len(data))
	for len(data) > 0 {
		n := copy(s.pending[len(s.pending):cap(s.pending)], data)
		s.pending = s.pending[:len(s.pending)+n]
		if data = data[n:]; len(data) > 0 {
			if err := s.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// object takes an object, or what is wanted of it.
func (s *sending) object(d fsverity.Digest) error {
	n := s.count
	s.count++
	if s.layout != nil && s.skip > 0 && s.layout.objects[n].size <= s.skip {
		s.skip -= s.layout.objects[n].size
		return nil
	}
	f, size, err := openObject(s.ctx, s.repository, d)
	if err != nil {
		return err
	}
	defer f.Close()
	id, err := s.identify(f, d, n)
	if err != nil {
		return err
	}
	if s.skip > 0 {
		if size <= s.skip {
			s.skip -= size
			return nil
		}
		if _, err := f.Seek(s.skip, io.SeekStart); err != nil {
			return err
		}
		size -= s.skip
		s.skip = 0
	}
	if err := s.take(f, min(size, s.left)); err != nil {
		return fmt.Errorf("object %s: %w", d, err)
	}
	if err := unchanged(f, id); err != nil {
		return fmt.Errorf("object %s: %w", d, err)
	}
	return nil
}

// identify sees to it that an object is the one that was checked.
func (s *sending) identify(f *os.File, d fsverity.Digest, n int) (uint64, error) {
	id, err := identity(f)
	if err != nil {
		return 0, err
	}
	if s.layout == nil {
		s.sum = addIdentity(s.sum, id)
		return id, nil
	}
	if known := &s.layout.objects[n].identity; known.Load() != id {
		if err := recheck(s.ctx, f, d, s.algorithm); err != nil {
			return 0, err
		}
		known.Store(id)
	}
	return id, nil
}

// take takes n bytes of a file, of which the kernel may send all but those that end
// the response.
func (s *sending) take(f *os.File, n int64) error {
	s.left -= n
	if direct := min(n, n+s.left-largeObject); s.files != nil && n >= largeObject && direct > 0 {
		if err := s.flush(); err != nil {
			return err
		}
		if err := s.files.sendFile(f, direct); err != nil {
			return err
		}
		s.sent += direct
		n -= direct
	}
	for n > 0 {
		if len(s.pending) == cap(s.pending) {
			if err := s.flush(); err != nil {
				return err
			}
		}
		free := s.pending[len(s.pending):cap(s.pending)]
		got, err := io.ReadFull(f, free[:min(n, int64(len(free)))])
		if err != nil {
			return err
		}
		s.pending = s.pending[:len(s.pending)+got]
		n -= int64(got)
	}
	return nil
}

// flush sends what is pending.
func (s *sending) flush() error {
	if len(s.pending) == 0 {
		return nil
	}
	n, err := s.to.Write(s.pending)
	s.sent += int64(n)
	s.pending = s.pending[:0]
	return err
}

// finish lets the end of the response go out if the layer is right, and what was
// read for this response is what was checked.
func (s *sending) finish() error {
	if s.layout != nil {
		return nil // each object was compared
	}
	ix, err := s.check.wait(s.ctx)
	if err != nil {
		return err
	}
	if s.sum != ix.sum {
		return errChanged
	}
	return unchanged(s.stream.file, s.id)
}
