// Package tarend tells whether a tar has its end: the two blocks of zeros that
// mark it. Package archive/tar also accepts a tar without them.
package tarend

import (
	"archive/tar"
	"errors"
	"io"
)

// Reader is what an archive/tar.Reader reads a tar through.
type Reader struct {
	r    io.Reader
	over bool
}

// NewReader returns a Reader of r.
func NewReader(r io.Reader) *Reader { return &Reader{r: r} }

// Read implements io.Reader. It returns no bytes together with io.EOF.
func (r *Reader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if n > 0 && err == io.EOF {
		return n, nil
	}
	if err == io.EOF {
		r.over = true
	}
	return n, err
}

// Missing tells, once a tar.Reader of r has returned an error, io.EOF included,
// whether that was because the tar ends without the two blocks. Where they are, a
// tar.Reader stops and does not look for what follows them.
func (r *Reader) Missing() bool { return r.over }

// IsMissing reads a tar, and tells whether it ends without the two blocks. What is
// no tar, or can't be read, has nothing missing.
func IsMissing(r io.Reader) bool {
	in := NewReader(r)
	for entries := tar.NewReader(in); ; {
		if _, err := entries.Next(); err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return in.Missing()
		}
	}
}
