package composefsrepo

import (
	"errors"
	"fmt"
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
	var stat unix.Stat_t
	err := unix.Fstatat(int(r.dir.Fd()), ObjectPath(d), &stat, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case errors.Is(err, unix.ENOENT):
		return 0, ErrMissingObject
	case err != nil:
		return 0, fmt.Errorf("fstatat: %w", err)
	case stat.Mode&unix.S_IFMT != unix.S_IFREG:
		return 0, ErrNotRegular
	}
	return stat.Size, nil
}
