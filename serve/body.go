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
	// buffer.
	bufferSize = 256 << 10
	// largeObject is how many bytes of an object the kernel sends by itself.
	largeObject = 128 << 10
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
	check      *check
	stream     *stream

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
	buffer := buffers.Get().(*[]byte)
	s := &sending{body: b, to: to, chunks: b.stream.Chunks(), skip: b.at, left: n, pending: (*buffer)[:0]}
	s.files, _ = to.(fileSender)
	s.index, b.err = b.check.result()
	if b.err == nil {
		b.err = s.run()
	}
	buffers.Put(buffer)
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
	chunks *splitstream.Chunks

	index  *index // nil where the check is still under way
	sum    uint64 // of the identities so far, without an index
	stream uint64 // identity of the stream's file
	count  int    // objects so far

	skip    int64 // bytes before what is to be sent
	left    int64 // bytes to be taken
	sent    int64
	pending []byte // taken, and to be sent
}

func (s *sending) run() error {
	if err := s.identifyStream(); err != nil {
		return err
	}
	for s.left > 0 {
		if err := s.ctx.Err(); err != nil {
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

// identifyStream sees to it that the stream is the one that was checked.
func (s *sending) identifyStream() (err error) {
	if s.stream, err = identity(s.body.stream.file); err != nil {
		return err
	}
	s.sum = s.stream
	if s.index == nil || s.index.stream.Load() == s.stream {
		return nil
	}
	if err := recheck(s.ctx, s.body.stream.file, s.layer.verity, s.body.stream.Algorithm()); err != nil {
		return err
	}
	s.index.stream.Store(s.stream)
	return nil
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
	if s.index != nil && n < len(s.index.objects) && s.skip > 0 {
		if size := s.index.objects[n].size; size <= s.skip {
			s.skip -= size
			return nil
		}
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
	s.sum = addIdentity(s.sum, id)
	if s.index == nil || n >= len(s.index.objects) || s.index.objects[n].identity.Load() == id {
		return id, nil
	}
	if err := recheck(s.ctx, f, d, s.body.stream.Algorithm()); err != nil {
		return 0, err
	}
	s.index.objects[n].identity.Store(id)
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
	if err := unchanged(s.body.stream.file, s.stream); err != nil {
		return err
	}
	if s.index != nil && len(s.index.objects) == s.index.count {
		return nil // each object was compared
	}
	ix, err := s.check.wait(s.ctx)
	if err != nil {
		return err
	}
	if s.sum != ix.sum {
		return errChanged
	}
	return nil
}
