package tree

import (
	"archive/tar"
	"errors"
	"io"

	"github.com/skopeo-cfs/skopeo-cfs/internal/ustar"
)

// headers reads the entries of a tar. Headers that are a block of their own it reads
// by package ustar, which takes much less time, and the others by archive/tar, which
// is made to believe that it has read everything.
type headers struct {
	stream *stream
	slow   *tar.Reader
	fast   ustar.Reader
	reused *Entry // what each call of next returns, if it need not outlive the next one

	padding int64 // bytes after the content of the last entry
	// pending: archive/tar itself has still to read what is left of the last entry.
	pending bool
	block   [ustar.BlockSize]byte
}

func newHeaders(s *stream, reuse bool) *headers {
	h := &headers{stream: s, slow: tar.NewReader(s)}
	if reuse {
		h.reused = &Entry{Header: &tar.Header{}}
	}
	return h
}

// next returns the next entry, when the content of the last one was passed over. The
// errors are those of archive/tar, or of the stream.
func (h *headers) next() (*Entry, error) {
	if h.pending {
		return h.nextSlow()
	}
	if err := h.skipPadding(); err != nil {
		return nil, err
	}
	block, whole := h.readBlock()
	if whole {
		e := h.entry()
		if h.fast.Read(block, e.Header) {
			*e = Entry{Header: e.Header, stream: h.stream}
			h.take(e)
			return e, nil
		}
	}
	if h.stream.err != nil {
		return nil, h.stream.err
	}
	return h.nextSlow()
}

// entry returns an entry to be filled.
func (h *headers) entry() *Entry {
	if h.reused != nil {
		return h.reused
	}
	return &Entry{Header: &tar.Header{}}
}

// take sets how much content an entry has, which follows, and what comes after it.
func (h *headers) take(e *Entry) {
	e.left, h.padding = 0, 0
	if !e.Sparse && !ustar.IsHeaderOnly(e.Typeflag) {
		e.left, h.padding = e.Size, ustar.Padding(e.Size)
	}
}

// skipPadding passes over what follows the last content. As for archive/tar, the tar
// may end there.
func (h *headers) skipPadding() error {
	_, err := io.ReadFull(contentOf{h.stream}, h.block[:h.padding])
	h.padding = 0
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return io.EOF
	}
	return err
}

// readBlock reads a block, which archive/tar reads again unless it is taken; false
// where the tar ends.
func (h *headers) readBlock() (*[ustar.BlockSize]byte, bool) {
	s := h.stream
	if len(s.inline) >= ustar.BlockSize {
		s.again = s.inline[:ustar.BlockSize]
		s.inline = s.inline[ustar.BlockSize:]
	} else {
		n, _ := io.ReadFull(contentOf{s}, h.block[:]) // the error is seen again, or is s.err
		s.again = h.block[:n]
	}
	if len(s.again) < ustar.BlockSize {
		return nil, false
	}
	return (*[ustar.BlockSize]byte)(s.again), true
}

// nextSlow returns the next entry as archive/tar reads it.
func (h *headers) nextSlow() (*Entry, error) {
	header, err := h.slow.Next()
	if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
		return nil, err
	}
	e := &Entry{Header: header, stream: h.stream, tar: h.slow, Sparse: ustar.IsSparse(header)}
	h.take(e)
	// Of all but these, the content and what follows is passed over here.
	h.pending = e.Sparse || e.Typeflag == tar.TypeXGlobalHeader
	h.stream.taken = e.left + h.padding
	return e, nil
}
