package rearchive

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/internal/tarend"
	"github.com/skopeo-cfs/skopeo-cfs/internal/ustar"
)

const (
	bufferSize = 256 << 10 // bytes
	// maxSparse bounds the sparse files, whose holes are written out: a few
	// bytes would make the work endless.
	maxSparse = 1 << 40
)

// errSparse is returned for sparse files that are too large to be written out.
var errSparse = errors.New("a sparse file too large to be written out")

// rewrite writes the entries of the tar in r to a new one, with all that their
// headers say. It reads no further than the end of the archive, without which the
// error is composefsrepo.ErrCut: there may have been more entries.
func rewrite(w io.Writer, r io.Reader) error {
	end := tarend.NewReader(r)
	in, out := tar.NewReader(end), tar.NewWriter(w)
	buffer := make([]byte, bufferSize)
	for {
		header, err := in.Next()
		if err != nil && end.Missing() {
			return fmt.Errorf("the tar has no end: %w", composefsrepo.ErrCut)
		}
		if errors.Is(err, io.EOF) {
			return out.Close()
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return fmt.Errorf("reading what the stream rebuilds: %w", err)
		}
		if err := rewriteEntry(out, header, in, buffer); err != nil {
			return fmt.Errorf("entry %.1000q: %w", header.Name, err)
		}
	}
}

// rewriteEntry writes an entry.
func rewriteEntry(out *tar.Writer, header *tar.Header, content io.Reader, buffer []byte) error {
	h, err := newHeader(header)
	if err != nil {
		return err
	}
	if err := out.WriteHeader(h); err != nil {
		return err
	}
	if ustar.IsHeaderOnly(h.Typeflag) {
		return nil
	}
	_, err = io.CopyBuffer(out, content, buffer)
	return err
}

// newHeader returns the header of an entry in the new tar.
func newHeader(header *tar.Header) (*tar.Header, error) {
	h := *header
	// What came in GNU's format fits into that. For everything else there is PAX,
	// of which little is used where little is needed. Left to itself, the library
	// would choose a format that has whole seconds only.
	if h.Format != tar.FormatGNU {
		h.Format = tar.FormatPAX
	}
	if ustar.IsSparse(header) && h.Size > maxSparse {
		return nil, fmt.Errorf("%w: %d bytes", errSparse, h.Size)
	}
	if h.Typeflag == tar.TypeGNUSparse {
		h.Typeflag = tar.TypeReg // holes are read as zeros
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		h.Name = strings.TrimRight(h.Name, "/") // as extraction does, and writers of tars must
	}
	if ustar.IsHeaderOnly(h.Typeflag) {
		h.Size = 0
	}
	return &h, nil
}
