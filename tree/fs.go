package tree

import (
	"context"
	"io"
	"io/fs"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// FS is a Tree as a file system: an fs.ReadDirFS, fs.StatFS, fs.ReadFileFS, fs.SubFS
// and fs.ReadLinkFS. Symlinks are followed within the image. Names need not be UTF-8, as
// names of files need not. The Sys of an fs.FileInfo is the *Node. It may be used
// concurrently; see Tree.Open for what it opens.
type FS struct {
	tree *Tree
	ctx  context.Context
	dir  string // what names are below
}

var (
	_ fs.ReadDirFS  = FS{}
	_ fs.StatFS     = FS{}
	_ fs.ReadFileFS = FS{}
	_ fs.SubFS      = FS{}
	_ fs.ReadLinkFS = FS{}
)

// FS returns the tree as a file system. Once ctx is done, reading its files returns
// ctx's error.
func (t *Tree) FS(ctx context.Context) FS { return FS{tree: t, ctx: ctx} }

// find returns what a name stands for.
func (f FS) find(op, name string, last bool) (*Node, error) {
	if !fs.ValidPath(strings.ToValidUTF8(name, "x")) {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	w, err := f.tree.walk(op, path.Join(f.dir, name), last)
	return w.node, err
}

// Sub implements fs.SubFS. Symlinks in the directory may still lead out of it.
func (f FS) Sub(dir string) (fs.FS, error) {
	n, err := f.find("sub", dir, true)
	if err == nil && !n.IsDir() {
		err = &fs.PathError{Op: "sub", Path: dir, Err: unix.ENOTDIR}
	}
	if err != nil {
		return nil, err
	}
	return FS{f.tree, f.ctx, path.Join(f.dir, dir)}, nil
}

// Open implements fs.FS.
func (f FS) Open(name string) (fs.File, error) {
	n, err := f.find("open", name, true)
	if err != nil {
		return nil, err
	}
	return f.tree.Open(f.ctx, n, name)
}

// ReadDir implements fs.ReadDirFS.
func (f FS) ReadDir(name string) ([]fs.DirEntry, error) {
	n, err := f.find("readdir", name, true)
	if err != nil {
		return nil, err
	}
	if !n.IsDir() {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: unix.ENOTDIR}
	}
	return dirEntries(n.Children()), nil
}

// Stat implements fs.StatFS.
func (f FS) Stat(name string) (fs.FileInfo, error) { return f.stat("stat", name, true) }

// Lstat implements fs.ReadLinkFS.
func (f FS) Lstat(name string) (fs.FileInfo, error) { return f.stat("lstat", name, false) }

func (f FS) stat(op, name string, last bool) (fs.FileInfo, error) {
	n, err := f.find(op, name, last)
	if err != nil {
		return nil, err
	}
	return info{path.Base(name), n}, nil
}

// ReadLink implements fs.ReadLinkFS.
func (f FS) ReadLink(name string) (string, error) {
	n, err := f.find("readlink", name, false)
	if err == nil && !n.IsSymlink() {
		err = &fs.PathError{Op: "readlink", Path: name, Err: fs.ErrInvalid}
	}
	if err != nil {
		return "", err
	}
	return n.Target, nil
}

// maxReadFile is how large a file ReadFile reads, in bytes: a tar of some hundred may
// have a sparse file of any size.
const maxReadFile = 1 << 30

// ReadFile implements fs.ReadFileFS. The error wraps ErrTooLarge where the file has
// more than 1 GiB.
func (f FS) ReadFile(name string) ([]byte, error) {
	n, err := f.find("read", name, true)
	if err != nil {
		return nil, err
	}
	if n.Size > maxReadFile {
		return nil, &fs.PathError{Op: "read", Path: name, Err: ErrTooLarge}
	}
	file, err := f.tree.Open(f.ctx, n, name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(file)
	if err != nil {
		return nil, &fs.PathError{Op: "read", Path: name, Err: err}
	}
	return data, nil
}
