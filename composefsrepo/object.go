package composefsrepo

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
)

// objectPath returns the path of an object within the repository.
func objectPath(d fsverity.Digest) string {
	name := d.String()
	return "objects/" + name[:2] + "/" + name[2:]
}

// OpenObject opens an object and tells its size in bytes. The caller closes it.
// Where the object has fs-verity, the kernel's digest has been found equal to
// d, and it checks each read against that; where the repository has it enabled,
// every object must have it. The error wraps ErrMissingObject, ErrNotRegular or
// ErrVerity, among others.
func (r *Repo) OpenObject(d fsverity.Digest) (*os.File, int64, error) {
	f, size, err := r.openObject(d)
	if err != nil {
		return nil, 0, fmt.Errorf("object %s: %w", d, err)
	}
	return f, size, nil
}

func (r *Repo) openObject(d fsverity.Digest) (_ *os.File, _ int64, err error) {
	if d.Size() != r.algorithm.Size() {
		return nil, 0, fmt.Errorf("%w: its name is not of the repository's algorithm %s", ErrMissingObject, r.algorithm)
	}
	f, err := r.openBeneath(objectPath(d), 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, 0, ErrMissingObject
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENXIO): // a symlink, a socket
		return nil, 0, ErrNotRegular
	case err != nil:
		return nil, 0, bare(err)
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	var stat unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &stat); err != nil {
		return nil, 0, fmt.Errorf("fstat: %w", err)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, 0, ErrNotRegular
	}
	if err := r.checkVerity(f, d); err != nil {
		return nil, 0, err
	}
	return f, stat.Size, nil
}

// checkVerity compares the object's name to what the kernel measured of it.
func (r *Repo) checkVerity(f *os.File, d fsverity.Digest) error {
	measured, err := fsverity.Measure(f)
	switch {
	case errors.Is(err, fsverity.ErrNotEnabled) && r.verity:
		return fmt.Errorf("%w: it has none, and this repository demands it of every object", ErrVerity)
	case errors.Is(err, fsverity.ErrNotEnabled):
		return nil
	case err != nil:
		return err
	case measured != d:
		return fmt.Errorf("%w: it measures as %s", ErrVerity, measured)
	}
	return nil
}

// hasObject tells whether there is a file with an object's name.
func (r *Repo) hasObject(d fsverity.Digest) bool {
	var stat unix.Stat_t
	err := unix.Fstatat(int(r.dir.Fd()), objectPath(d), &stat, unix.AT_SYMLINK_NOFOLLOW)
	return err == nil && stat.Mode&unix.S_IFMT == unix.S_IFREG
}
