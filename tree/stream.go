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
	chunks *composefsrepo.LayerChunks

	inline  []byte // what is left of the current chunk, where it is inline
	object  fsverity.Digest
	size    int64 // of the object, in bytes
	at      int64 // how far the object is through
	content contentReader

	taken int64 // bytes taken out that archive/tar has yet to pass over
	ended bool  // there are no more chunks
	err   error // of the layer's stream, but for its end
}

// advance makes the next chunk the current one, where there is nothing left of it.
func (s *stream) advance() error {
	for len(s.inline) == 0 && s.at == s.size {
		if err := s.next(); err != nil {
			if s.ended = errors.Is(err, io.EOF); !s.ended {
				s.err = err
			}
			return err
		}
	}
	return nil
}

func (s *stream) next() error {
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
		s.size, err = s.image.ObjectSize(chunk.Object)
	}
	return err
}

// Read implements io.Reader.
func (s *stream) Read(p []byte) (int, error) {
	if s.taken > 0 {
		n := min(int64(len(p)), s.taken)
		s.taken -= n
		return int(n), nil
	}
	if err := s.advance(); err != nil {
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
		piece, err := s.take(left)
		if err != nil {
			return 0, err
		}
		left -= piece.Size
	}
	return offset, nil // all that the reader does is to subtract two of them
}

// take returns the next piece, of at most so many bytes, and passes it over.
func (s *stream) take(most int64) (Piece, error) {
	if err := s.advance(); err != nil {
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("it ends within a file: %w", io.ErrUnexpectedEOF)
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
		if _, err := s.take(1 << 62); s.ended {
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
