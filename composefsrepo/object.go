package composefsrepo

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
)

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

func (r *Repo) openObject(d fsverity.Digest) (*os.File, int64, error) {
	f, size, measured, err := r.probeObject(d)
	if err != nil {
		return nil, 0, err
	}
	if err := r.checkVerity(measured, d); err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, size, nil
}

// ProbeObject is OpenObject for an object that may be damaged: measured is the
// digest that the kernel has for it, zero where it has no fs-verity, and is not
// compared to anything. The error wraps ErrMissingObject or ErrNotRegular, among
// others. The caller closes the file.
func (r *Repo) ProbeObject(d fsverity.Digest) (f *os.File, size int64, measured fsverity.Digest, err error) {
	f, size, measured, err = r.probeObject(d)
	if err != nil {
		return nil, 0, fsverity.Digest{}, fmt.Errorf("object %s: %w", d, err)
	}
	return f, size, measured, nil
}

// DemandsVerity tells whether every object of the repository must have fs-verity.
func (r *Repo) DemandsVerity() bool { return r.verity }

func (r *Repo) probeObject(d fsverity.Digest) (_ *os.File, size int64, measured fsverity.Digest, err error) {
	fail := func(err error) (*os.File, int64, fsverity.Digest, error) { return nil, 0, fsverity.Digest{}, err }
	if d.Size() != r.algorithm.Size() {
		return fail(fmt.Errorf("%w: its name is not of the repository's algorithm %s", ErrMissingObject, r.algorithm))
	}
	f, err := r.openFile(d)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fail(ErrMissingObject)
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENXIO): // a symlink, a socket
		return fail(ErrNotRegular)
	case err != nil:
		return fail(bare(err))
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	var stat unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &stat); err != nil {
		return fail(fmt.Errorf("fstat: %w", err))
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFREG {
		return fail(ErrNotRegular)
	}
	measured, err = fsverity.Measure(f)
	if err != nil && !errors.Is(err, fsverity.ErrNotEnabled) {
		return fail(err)
	}
	return f, stat.Size, measured, nil
}

// checkVerity compares the object's name to what the kernel measured of it, zero
// where it has no fs-verity.
func (r *Repo) checkVerity(measured, d fsverity.Digest) error {
	switch {
	case measured == d:
		return nil
	case !measured.IsZero():
		return fmt.Errorf("%w: it measures as %s", ErrVerity, measured)
	case r.verity:
		return fmt.Errorf("%w: it has none, but this repository requires it for every object", ErrVerity)
	}
	return nil
}

// openFile opens whatever has an object's name.
func (r *Repo) openFile(d fsverity.Digest) (*os.File, error) {
	if r.borrow != nil {
		return r.borrow(d)
	}
	return r.openBeneath(ObjectPath(d), 0)
}

// statObject looks at whatever has an object's name.
func (r *Repo) statObject(d fsverity.Digest) (stat unix.Stat_t, err error) {
	if r.borrow == nil {
		err = unix.Fstatat(int(r.dir.Fd()), ObjectPath(d), &stat, unix.AT_SYMLINK_NOFOLLOW)
		return stat, err
	}
	f, err := r.borrow(d)
	if err != nil {
		return stat, err
	}
	defer f.Close()
	return stat, unix.Fstat(int(f.Fd()), &stat)
}

// hasObject tells whether there is a file with an object's name.
func (r *Repo) hasObject(d fsverity.Digest) bool {
	stat, err := r.statObject(d)
	return err == nil && stat.Mode&unix.S_IFMT == unix.S_IFREG
}
