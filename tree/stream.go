package tree

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
)

// Piece is a piece of a file's content.
type Piece struct {
	// Inline is valid until the next piece and must not be changed; nil where the
	// piece is an object's.
	Inline []byte
	// Object is the digest of the object whose bytes the piece has, from Offset on;
	// zero where the piece is inline.
	Object fsverity.Digest
	Offset int64
	// Size is the piece's size in bytes, never 0.
	Size int64

	whole bool // all of the object
}

// stream is a layer's tar as archive/tar reads it. What is passed over of it is
// not read, but taken out in pieces.
type stream struct {
	ctx    context.Context
	image  *composefsrepo.Image
	number int // of the layer
	chunks *composefsrepo.LayerChunks

	inline  []byte // what is left of the current chunk, where it is inline
	object  fsverity.Digest
	size    int64 // of the object, in bytes
	at      int64 // how far the object is through
	content contentReader

	again []byte // a block that archive/tar is to read before what follows
	taken int64  // bytes taken out that archive/tar has yet to pass over, before all else
	ended bool   // there are no more chunks

	assume bool  // see scanMode
	total  int64 // bytes of all chunks till now

	// Objects have the sizes that they are to have together, or not, where that was
	// looked at.
	intact, damaged bool

	err error // of the layer's stream, but for its end
}

// advance makes the next chunk the current one, where there is nothing left of it.
// Content is how much of a file's content comes next, 0 where that is a header.
func (s *stream) advance(content int64) error {
	for len(s.inline) == 0 && s.at == s.size {
		if err := s.next(content); err != nil {
			if s.ended = errors.Is(err, io.EOF); !s.ended {
				s.err = err
			}
			return err
		}
	}
	return nil
}

func (s *stream) next(content int64) error {
	if err := s.ctx.Err(); err != nil {
		return err
	}
	s.close()
	chunk, err := s.chunks.Next()
	if err != nil {
		return err
	}
	s.inline, s.object, s.size, s.at = chunk.Inline, chunk.Object, 0, 0
	if !chunk.Object.IsZero() {
		s.size, err = s.sizeOf(chunk.Object, content)
	}
	s.total += int64(len(s.inline)) + s.size
	return err
}

// sizeOf returns the size of an object. Where there must be one that is damaged, an
// object is taken to have all that is left of a content, as importers write them:
// what follows can still be read then.
func (s *stream) sizeOf(object fsverity.Digest, content int64) (int64, error) {
	if s.assume && content > 0 {
		return content, nil
	}
	size, err := s.image.ObjectSize(object)
	if content == 0 || err == nil && size == content {
		return size, err
	}
	if err != nil && !errors.Is(err, composefsrepo.ErrMissingObject) && !errors.Is(err, composefsrepo.ErrNotRegular) {
		return 0, err
	}
	if err == nil && !s.damaged && !s.intact {
		if s.intact, err = s.image.SizesAddUp(s.ctx, s.number); err != nil {
			return 0, err
		}
		s.damaged = !s.intact
	}
	if err == nil && s.intact {
		return size, nil
	}
	return content, nil
}

// Read implements io.Reader, for archive/tar.
func (s *stream) Read(p []byte) (int, error) {
	switch {
	case s.taken > 0:
		n := min(int64(len(p)), s.taken)
		s.taken -= n
		return int(n), nil
	case len(s.again) > 0:
		n := copy(p, s.again)
		s.again = s.again[n:]
		return n, nil
	}
	return contentOf{s}.Read(p)
}

// contentOf reads what is next of the tar, whatever archive/tar is to read.
type contentOf struct{ *stream }

func (s contentOf) Read(p []byte) (int, error) {
	if err := s.advance(0); err != nil {
		return 0, err
	}
	if len(s.inline) > 0 {
		n := copy(p, s.inline)
		s.inline = s.inline[n:]
		return n, nil
	}
	n, err := s.readObject(p[:min(int64(len(p)), s.size-s.at)])
	s.at += int64(n)
	if err != nil {
		s.err = err
	}
	return n, err
}

// readObject reads from the current object.
func (s *stream) readObject(p []byte) (int, error) {
	if s.content == nil {
		var err error
		if s.content, err = openObject(s.ctx, s.image, s.object, s.size); err != nil {
			return 0, err
		}
	}
	n, err := s.content.ReadAt(p, s.at)
	if n > 0 {
		err = nil
	}
	return n, err
}

// Seek implements io.Seeker, as far as archive/tar needs it to pass over what it
// does not read.
func (s *stream) Seek(offset int64, whence int) (int64, error) {
	if whence != io.SeekCurrent || offset < 0 {
		return 0, errors.New("the tar is read forwards")
	}
	for left := offset; left > 0; {
		if s.taken > 0 {
			n := min(left, s.taken)
			s.taken, left = s.taken-n, left-n
			continue
		}
		if len(s.again) > 0 {
			n := min(left, int64(len(s.again)))
			s.again, left = s.again[n:], left-n
			continue
		}
		piece, err := s.take(left)
		if err != nil {
			return 0, err
		}
		left -= piece.Size
	}
	return offset, nil // all that the reader does is to subtract two of them
}

var errTooShort = fmt.Errorf("it ends within a file: %w", io.ErrUnexpectedEOF)

// take returns the next piece, of at most so many bytes, and passes it over.
func (s *stream) take(most int64) (Piece, error) {
	if err := s.advance(most); err != nil {
		if errors.Is(err, io.EOF) {
			err = errTooShort
		}
		return Piece{}, err
	}
	if n := min(int64(len(s.inline)), most); n > 0 {
		piece := Piece{Inline: s.inline[:n:n], Size: n}
		s.inline = s.inline[n:]
		return piece, nil
	}
	n := min(s.size-s.at, most)
	piece := Piece{Object: s.object, Offset: s.at, Size: n, whole: n == s.size}
	s.at += n
	return piece, nil
}

// drain reads what follows the end of the archive.
func (s *stream) drain() error {
	for {
		s.inline, s.at = nil, s.size
		if err := s.advance(0); s.ended {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// close closes the current object.
func (s *stream) close() {
	if s.content != nil {
		s.content.Close()
		s.content = nil
	}
}
