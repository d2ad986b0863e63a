package extract

import (
	"errors"
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/internal/beneath"
	"github.com/skopeo-cfs/skopeo-cfs/tree"
)

// open opens what is at a path, without a symlink on the way or at its end.
func (e *extractor) open(path string, flags uint64) (int, error) {
	return beneath.OpenFD(int(e.top.Fd()), path, flags|unix.O_NOFOLLOW, 0)
}

// in calls do with the directory that a path is in, and the name there.
func (e *extractor) in(path string, do func(dir int, base string) error) error {
	dir, err := e.open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	return withPath(path, do(dir, filepath.Base(path)))
}

// make calls do to make what is no directory at a path, and notes it.
func (e *extractor) make(path string, do func(dir int, base string) error) error {
	err := e.in(path, do)
	if errors.Is(err, unix.EEXIST) {
		return withPath(path, ErrExists)
	}
	if err == nil {
		e.mutex.Lock()
		e.others = append(e.others, path)
		e.mutex.Unlock()
	}
	return err
}

// special makes a symlink, a device or a fifo.
func (e *extractor) special(path string, n *tree.Node) error {
	err := e.make(path, func(dir int, base string) error {
		if n.IsSymlink() {
			return unix.Symlinkat(n.Target, dir, base)
		}
		return unix.Mknodat(dir, base, n.Type()|0o600, int(n.Rdev))
	})
	if err != nil {
		return err
	}
	fd, err := e.open(path, unix.O_PATH)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return withPath(path, e.setMetadata(fd, n))
}

// link gives what is at a path another name.
func (e *extractor) link(from, path string) error {
	return e.in(from, func(fromDir int, fromBase string) error {
		return e.make(path, func(dir int, base string) error {
			return unix.Linkat(fromDir, fromBase, dir, base, 0)
		})
	})
}

// withPath adds a path to an error.
func withPath(path string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: "extract", Path: path, Err: err}
}
