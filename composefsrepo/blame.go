package composefsrepo

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/tarend"
	"github.com/skopeo-cfs/skopeo-cfs/splitstream"
)

// blame looks for the object that made the content of the stream in the object
// at wrong, and returns an error that names it; or err, if all of them are what
// their names say. Without fs-verity nothing else tells which of thousands it
// was.
func (r *Repo) blame(ctx context.Context, at fsverity.Digest, err error) error {
	if !errors.Is(err, ErrDigestMismatch) && !errors.Is(err, splitstream.ErrSize) && !errors.Is(err, splitstream.ErrCorrupt) {
		return err
	}
	return r.culprit(ctx, at, err)
}

// culprit is blame for an error that may be an object's fault.
func (r *Repo) culprit(ctx context.Context, at fsverity.Digest, err error) error {
	if culprit := r.checkContent(ctx, at); culprit != nil {
		return culprit
	}
	s, openErr := r.openStream(ctx, at)
	if openErr != nil {
		return openErr
	}
	defer s.Close()
	for chunks := s.Chunks(); ; {
		chunk, nextErr := chunks.Next()
		if nextErr == io.EOF || errors.Is(nextErr, splitstream.ErrCorrupt) {
			return err
		}
		if nextErr != nil {
			return fmt.Errorf("reading it again: %w", nextErr)
		}
		if chunk.Object.IsZero() {
			continue
		}
		if culprit := r.checkContent(ctx, chunk.Object); culprit != nil {
			return culprit
		}
	}
}

// checkContent computes an object's fs-verity digest and compares it to its
// name.
func (r *Repo) checkContent(ctx context.Context, d fsverity.Digest) error {
	f, size, err := r.OpenObject(d)
	if err != nil {
		return err
	}
	defer f.Close()
	computed, err := fsverity.Compute(r.algorithm, contextReader{ctx, f})
	if err != nil {
		return fmt.Errorf("object %s: %w", d, bare(err))
	}
	if computed != d {
		return fmt.Errorf("object %s, now of %d bytes, was altered: %w", d, size, ErrVerity)
	}
	return nil
}

// lookForEnd reads a layer again and sets err's Cut, if it is an OtherTarError.
func (r *Repo) lookForEnd(ctx context.Context, l Layer, err error) {
	var other *OtherTarError
	if !errors.As(err, &other) {
		return
	}
	s, openErr := r.openStream(ctx, l.Verity)
	if openErr != nil {
		return
	}
	defer s.Close()
	content := s.content(ctx)
	defer content.Close()
	other.Cut = tarend.IsMissing(content)
}

// contextReader ends with its context.
type contextReader struct {
	ctx context.Context
	io.Reader
}

func (r contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}
