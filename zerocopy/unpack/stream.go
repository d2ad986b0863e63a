package unpack

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// stream is the tar as archive/tar reads it: all but the contents of files,
// which the scanner takes out by contents. It keeps what was read of it, for the
// record.
type stream struct {
	feed   Feed
	inline []byte   // what is left of the current piece
	file   *os.File // the current piece where it is a file
	size   int64    // of that, in bytes
	left   int64    // what is left of it

	err     error  // of the feed, but for its end
	raw     []byte // read since cut was called
	skipped int64  // of a content that was taken out, what archive/tar has yet to pass over
}

// next makes the next piece the current one.
func (s *stream) next() error {
	err := s.nextPiece()
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return err
}

func (s *stream) nextPiece() error {
	piece, err := s.feed.Next()
	if err != nil {
		return err
	}
	if piece.File == "" {
		s.inline = piece.Inline
		return nil
	}
	file, size, err := s.feed.Open(piece.File)
	if err != nil {
		return err
	}
	if size == 0 {
		return file.Close()
	}
	s.file, s.size, s.left = file, size, size
	return nil
}

// Read implements io.Reader.
func (s *stream) Read(p []byte) (int, error) {
	if s.skipped > 0 {
		n := min(int64(len(p)), s.skipped)
		s.skipped -= n
		return int(n), nil
	}
	for len(s.inline) == 0 && s.left == 0 {
		if err := s.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, s.inline)
	s.inline = s.inline[n:]
	if n == 0 {
		var err error
		if n, err = s.file.Read(p[:min(int64(len(p)), s.left)]); err != nil {
			return 0, shrunk(s.file, err)
		}
		if s.left -= int64(n); s.left == 0 {
			s.closeFile()
		}
	}
	s.raw = append(s.raw, p[:n]...)
	return n, nil
}

// shrunk explains the error of a read for which there should have been data.
func shrunk(file *os.File, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("%w: the file ended early", ErrTar)
	}
	return fmt.Errorf("reading %s: %w", file.Name(), err)
}

// Seek implements io.Seeker, as far as archive/tar needs it to pass over what
// was taken out.
func (s *stream) Seek(offset int64, whence int) (int64, error) {
	if whence != io.SeekCurrent || offset < 0 || offset > s.skipped {
		return 0, fmt.Errorf("%w: content of an entry that can't have any", ErrUnusual)
	}
	s.skipped -= offset
	return offset, nil // all that the reader does is to subtract two of them
}

// cut returns what was read since it was last called, for good.
func (s *stream) cut() []byte {
	raw := s.raw
	s.raw = nil
	return raw
}

// content is a piece of a file's content.
type content struct {
	inline []byte   // for good
	file   *os.File // all of it, or nil; whoever takes the content closes it
	size   int64
}

// takeAll takes a content of size bytes, which begins here, if it is a whole
// file or a short inline one.
func (s *stream) takeAll(size int64) (content, bool, error) {
	for len(s.inline) == 0 && s.left == 0 {
		if err := s.next(); err != nil {
			return content{}, false, unexpectedEnd(err)
		}
	}
	switch {
	case s.left == size && s.size == size:
		c := content{file: s.file, size: size}
		s.file, s.left = nil, 0
		s.skipped = size
		return c, true, nil
	case int64(len(s.inline)) >= size:
		c := content{inline: append([]byte(nil), s.inline[:size]...), size: size}
		s.inline = s.inline[size:]
		s.skipped = size
		return c, true, nil
	}
	return content{}, false, nil
}

// takeSome takes the next bytes, at most limit of them, of a content of which
// size bytes are left.
func (s *stream) takeSome(size int64, limit int) ([]byte, error) {
	kept := s.raw
	p := make([]byte, min(size, int64(limit)))
	s.raw = nil
	n, err := s.Read(p)
	s.raw = kept
	return p[:n], unexpectedEnd(err)
}

func unexpectedEnd(err error) error {
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: it ends within a file", ErrTar)
	}
	return err
}

func (s *stream) closeFile() {
	if s.file != nil {
		s.file.Close()
		s.file, s.left = nil, 0
	}
}
