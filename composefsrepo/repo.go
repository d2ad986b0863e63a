// Package composefsrepo reads composefs repositories. A repository is a directory
// that has each file once, as an object named by its content, and images as
// splitstreams. The package finds an Image by its tag or digest, and returns its
// manifest, its config and its layers as they were pulled. Everything is checked
// against its digest.
//
// Nothing in a repository is trusted. Files are opened relative to its directory,
// no symlink is followed, and sizes are checked before anything is allocated.
package composefsrepo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/beneath"
)

// Repo is an open repository. Its methods may be called concurrently, Close
// last.
type Repo struct {
	path      string
	dir       *os.File
	algorithm fsverity.Algorithm
	verity    bool                                    // every object must have fs-verity
	borrow    func(fsverity.Digest) (*os.File, error) // opens objects, where there is no dir
}

// Options are optional.
type Options struct {
	// Waiting is called, once, when Open has waited for the repository's lock
	// for a second: somebody is collecting garbage.
	Waiting func(path string)
}

// Open opens the repository at path and takes a shared lock, which keeps its
// garbage from being collected until Close. While somebody collects, Open
// waits, until ctx is done. The caller closes the Repo, after all that it has
// read from it. The error wraps ErrNotRepository, ErrUnsupported, or one of
// package fs, among others.
func Open(ctx context.Context, path string, options *Options) (*Repo, error) {
	r, err := open(ctx, path, options)
	if err != nil {
		return nil, fmt.Errorf("opening composefs repository %q: %w", path, err)
	}
	return r, nil
}

// AlgorithmOf returns the algorithm by which the repository at path names its
// objects. It waits for no lock. Errors are those of Open.
func AlgorithmOf(path string) (fsverity.Algorithm, error) {
	r, err := openDir(path)
	if err == nil {
		defer r.Close()
		err = r.readMeta()
	}
	if err != nil {
		return fsverity.Algorithm{}, fmt.Errorf("opening composefs repository %q: %w", path, err)
	}
	return r.algorithm, nil
}

// openDir opens a repository's directory, and nothing in it.
func openDir(path string) (*Repo, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	resolved, err := filepath.EvalSymlinks(absolute)
	if err != nil {
		return nil, bare(err)
	}
	fd, err := unix.Open(resolved, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOTDIR) {
		return nil, fmt.Errorf("%w: not a directory", ErrNotRepository)
	}
	if err != nil {
		return nil, err
	}
	return &Repo{path: resolved, dir: os.NewFile(uintptr(fd), resolved)}, nil
}

func open(ctx context.Context, path string, options *Options) (_ *Repo, err error) {
	r, err := openDir(path)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			r.dir.Close()
		}
	}()
	if err := lock(ctx, r.dir, options); err != nil {
		return nil, err
	}
	if err := r.readMeta(); err != nil {
		return nil, err
	}
	return r, nil
}

// bare returns what went wrong without the path, which whoever reports it says
// already.
func bare(err error) error {
	var e *fs.PathError
	if errors.As(err, &e) {
		return e.Err
	}
	return err
}

// Path returns the repository's absolute path, without symlinks.
func (r *Repo) Path() string { return r.path }

// Algorithm returns the algorithm by which the objects are named.
func (r *Repo) Algorithm() fsverity.Algorithm { return r.algorithm }

// Close releases the lock. It may be called again.
func (r *Repo) Close() error { return closeFile(r.dir) }

// closeFile closes a file that may have been closed before.
func closeFile(f *os.File) error {
	if err := f.Close(); !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

// openBeneath opens a file of the repository for reading, by a path without
// symlinks in it.
func (r *Repo) openBeneath(path string, flags uint64) (*os.File, error) {
	if r.dir == nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	return beneath.Open(r.dir, path, flags)
}

// readLink returns where the symlink name in the directory dir of the
// repository points to.
func (r *Repo) readLink(dir, name string) (string, error) {
	d, err := r.openBeneath(dir, unix.O_DIRECTORY)
	if err != nil {
		return "", err
	}
	defer d.Close()
	buffer := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(d.Fd()), name, buffer)
	if err != nil {
		return "", &fs.PathError{Op: "readlinkat", Path: filepath.Join(dir, name), Err: err}
	}
	return string(buffer[:n]), nil
}

// names returns the names in a directory of the repository, none where it does
// not exist.
func (r *Repo) names(dir string) ([]string, error) {
	if r.dir == nil {
		return nil, nil
	}
	return beneath.Names(r.dir, dir)
}
