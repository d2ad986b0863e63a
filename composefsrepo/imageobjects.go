package composefsrepo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
)

// Algorithm returns the algorithm by which the image's objects are named.
func (i *Image) Algorithm() fsverity.Algorithm { return i.repo.algorithm }

// OpenObject opens an object of the image's repository; see Repo.OpenObject.
func (i *Image) OpenObject(d fsverity.Digest) (*os.File, int64, error) { return i.repo.OpenObject(d) }

// ObjectSize returns an object's size in bytes, without opening it: fs-verity is not
// looked at. The error wraps ErrMissingObject or ErrNotRegular, among others.
func (i *Image) ObjectSize(d fsverity.Digest) (int64, error) {
	size, err := i.repo.objectSize(d)
	if err != nil {
		return 0, fmt.Errorf("object %s: %w", d, err)
	}
	return size, nil
}

func (r *Repo) objectSize(d fsverity.Digest) (int64, error) {
	if d.Size() != r.algorithm.Size() {
		return 0, fmt.Errorf("%w: its name is not of the repository's algorithm %s", ErrMissingObject, r.algorithm)
	}
	stat, err := r.statObject(d)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return 0, ErrMissingObject
	case err != nil:
		return 0, fmt.Errorf("fstatat: %w", err)
	case stat.Mode&unix.S_IFMT != unix.S_IFREG:
		return 0, ErrNotRegular
	}
	return stat.Size, nil
}

// CheckStream returns an error that wraps ErrVerity where the layer's stream, the
// file that the pieces are read from, is not what its name says. Where it has
// fs-verity, the kernel sees to that; else its digest is computed.
func (c *LayerChunks) CheckStream(ctx context.Context) error {
	s, name := c.stream, c.layer.Verity
	if _, err := fsverity.Measure(s.file); err == nil || !errors.Is(err, fsverity.ErrNotEnabled) {
		return err // OpenObject has compared it
	}
	info, err := s.file.Stat()
	if err != nil {
		return inLayer(c.layer, err)
	}
	computed, err := fsverity.Compute(s.repo.algorithm, contextReader{ctx, io.NewSectionReader(s.file, 0, info.Size())})
	if err != nil {
		return inLayer(c.layer, bare(err))
	}
	if computed != name {
		return inLayer(c.layer, fmt.Errorf("it was altered: %w", ErrVerity))
	}
	return nil
}

// SizesAddUp tells whether the pieces of the i-th layer have the size together that
// its stream states. If they don't, an object is missing, or was altered. Contents
// are not looked at.
func (i *Image) SizesAddUp(ctx context.Context, n int) (bool, error) {
	chunks, err := i.LayerChunks(ctx, n)
	if err != nil {
		return false, err
	}
	defer chunks.Close()
	left := chunks.Size()
	for chunk, err := range chunks.all(ctx) {
		if err != nil {
			return false, err
		}
		size := int64(len(chunk.Inline))
		if !chunk.Object.IsZero() {
			if size, err = i.repo.objectSize(chunk.Object); err != nil {
				return false, nil
			}
		}
		if left -= size; left < 0 {
			return false, nil
		}
	}
	return left == 0, nil
}
