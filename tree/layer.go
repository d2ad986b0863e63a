package tree

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"

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
// how the layer was. That the object with a content is missing, or has another size,
// is found when it is opened. Errors wrap ErrNotTar where the layer is no tar,
// composefsrepo.ErrVerity, or others of the layer's stream.
func ReadLayer(ctx context.Context, image *composefsrepo.Image, n int, do func(*Entry) error) error {
	return readLayer(ctx, image, n, func(_ int, e *Entry) error { return do(e) })
}

// doError is an error of the function that readLayer calls.
type doError struct{ error }

// readLayer is ReadLayer, with the entries' numbers.
func readLayer(ctx context.Context, image *composefsrepo.Image, n int, do func(int, *Entry) error) error {
	return scanned(image, n, scanLayer(ctx, image, n, scanMode{}, do))
}

// scanned is what readLayer returns of scanLayer's error.
func scanned(image *composefsrepo.Image, n int, err error) error {
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

// scanMode is how a layer is gone through.
type scanMode struct {
	// assume: sizes of objects are not asked for where a content begins, but taken to be
	// the content's. If that can't be, the error is errAssumed, or that the layer is no
	// tar.
	assume bool
	reuse  bool // an entry is not kept
}

// errAssumed says that objects have other sizes.
var errAssumed = errors.New("the layer's objects do not have the sizes of the files in it")

func scanLayer(ctx context.Context, image *composefsrepo.Image, n int, mode scanMode, do func(int, *Entry) error) error {
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
	s := &stream{ctx: ctx, image: image, number: n, chunks: chunks, assume: mode.assume}
	defer s.close()
	entries := newHeaders(s, mode.reuse)
	for number := 0; ; number++ {
		e, err := entries.next()
		if errors.Is(err, io.EOF) && s.err == nil {
			break
		}
		if err != nil {
			return s.unreadable(err)
		}
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
	if err := s.drain(); err != nil {
		return err
	}
	if s.assume && s.total != chunks.Size() {
		return errAssumed
	}
	return nil
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
