package tree

import (
	"io/fs"

	"golang.org/x/sys/unix"
)

// Lookup returns what a path leads to. Absolute or not, it starts at the root
// directory, and symlinks on the way and at its end are followed within the image:
// as in a process that has the image's root directory for its own. The error is an
// *fs.PathError, of fs.ErrNotExist, unix.ENOTDIR, unix.ELOOP or unix.ENAMETOOLONG.
func (t *Tree) Lookup(path string) (*Node, error) {
	w, err := t.walk("lookup", path, true)
	return w.node, err
}

// LookupNoFollow is Lookup, but for a symlink at the path's end, which it returns.
func (t *Tree) LookupNoFollow(path string) (*Node, error) {
	w, err := t.walk("lookup", path, false)
	return w.node, err
}

func (t *Tree) walk(op, path string, last bool) (walk, error) {
	w, err := follow(t.root, path, last, (*Node).Child)
	if err == nil && w.node == nil {
		err = unix.ENOENT
	}
	if err != nil {
		return walk{}, &fs.PathError{Op: op, Path: path, Err: err}
	}
	return w, nil
}
