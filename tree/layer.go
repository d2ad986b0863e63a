package tree

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
)

// Entry is an entry of a layer's tar: its header, as archive/tar has it, and its
// content.
type Entry struct {
	*tar.Header
	// Sparse: the content is not what the tar has, but made of it. Such an entry has
	// no Pieces.
	Sparse bool

	tar    *tar.Reader
	stream *stream
	left   int64 // of the content, in bytes
}

// ReadLayer calls do with each entry of the image's n-th layer, 0 being the lowest,
// in their order, until do returns an error, which is returned as it is. It needs
// some hundred KiB, whatever the size of the layer.
//
// The layer's stream is found to be what its name says before anything is taken from
// it. Contents in objects are not read, and the layer is not checked against its diff
// ID, unless the tar has no end: an error wraps composefsrepo.ErrCut where that is not
// how the layer was. Errors wrap ErrNotTar where the layer is no tar,
// composefsrepo.ErrVerity or ErrMissingObject, or others of the layer's stream.
func ReadLayer(ctx context.Context, image *composefsrepo.Image, n int, do func(*Entry) error) error {
	return readLayer(ctx, image, n, func(_ int, e *Entry) error { return do(e) })
}

// doError is an error of the function that readLayer calls.
type doError struct{ error }

// readLayer is ReadLayer, with the entries' numbers.
func readLayer(ctx context.Context, image *composefsrepo.Image, n int, do func(int, *Entry) error) error {
	err := scanLayer(ctx, image, n, do)
	if its := (doError{}); errors.As(err, &its) {
		return its.error
	}
	if err != nil {
		return inLayer(image, n, err)
	}
	return nil
}

func inLayer(image *composefsrepo.Image, n int, err error) error {
	return fmt.Errorf("layer %d of %d, %s: %w", n+1, len(image.Layers), image.Layers[n].Digest(), err)
}

func scanLayer(ctx context.Context, image *composefsrepo.Image, n int, do func(int, *Entry) error) error {
	if image.Layers[n].DiffID == "" {
		return ErrNotTar
	}
	chunks, err := image.LayerChunks(ctx, n)
	if err != nil {
		return err
	}
	defer chunks.Close()
	if err := chunks.CheckStream(ctx); err != nil {
		return err
	}
	s := &stream{ctx: ctx, image: image, chunks: chunks}
	defer s.close()
	entries := tar.NewReader(s)
	for number := 0; ; number++ {
		header, err := entries.Next()
		if errors.Is(err, io.EOF) && s.err == nil {
			break
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return s.unreadable(err)
		}
		e := newEntry(header, entries, s)
		if err := do(number, e); err != nil {
			return doError{err}
		}
		if err := e.skip(); err != nil {
			return s.unreadable(err)
		}
	}
	if s.ended {
		return checkWhole(ctx, image, n)
	}
	return s.drain()
}

// unreadable is the error of reading the tar: the stream's, if that had one.
func (s *stream) unreadable(err error) error {
	if s.err != nil {
		return s.err
	}
	return fmt.Errorf("%w: %w", ErrNotTar, err)
}

// checkWhole reads all of a layer whose tar has no end, and compares its digest.
func checkWhole(ctx context.Context, image *composefsrepo.Image, n int) error {
	content, err := image.OpenLayer(ctx, n)
	if err != nil {
		return err
	}
	defer content.Close()
	_, err = io.Copy(io.Discard, content)
	return err
}

func newEntry(h *tar.Header, entries *tar.Reader, s *stream) *Entry {
	e := &Entry{Header: h, tar: entries, stream: s, Sparse: h.Typeflag == tar.TypeGNUSparse}
	for key := range h.PAXRecords {
		e.Sparse = e.Sparse || strings.HasPrefix(key, "GNU.sparse.")
	}
	if !e.Sparse && hasContent(h.Typeflag) {
		e.left = h.Size
	}
	return e
}

// hasContent tells whether there is content after the header of an entry of some
// type. That of a global header is in the header already.
func hasContent(typeflag byte) bool {
	switch typeflag {
	case tar.TypeLink, tar.TypeSymlink, tar.TypeChar, tar.TypeBlock, tar.TypeDir, tar.TypeFifo, tar.TypeXGlobalHeader:
		return false
	}
	return true
}

// Pieces returns the pieces of the entry's content, which have its Size together, or
// an error. It may be called until ReadLayer goes on to the next entry, and returns
// each piece once.
func (e *Entry) Pieces() iter.Seq2[Piece, error] {
	return func(yield func(Piece, error) bool) {
		for e.left > 0 {
			piece, err := e.stream.take(e.left)
			if err != nil {
				e.left = 0
				yield(Piece{}, err)
				return
			}
			e.left -= piece.Size
			e.stream.taken += piece.Size
			if !yield(piece, nil) {
				return
			}
		}
	}
}

// skip passes over what is left of the content.
func (e *Entry) skip() error {
	for _, err := range e.Pieces() {
		if err != nil {
			return err
		}
	}
	return nil
}
