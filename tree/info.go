package tree

import (
	"io/fs"
	"path"
	"time"

	"golang.org/x/sys/unix"
)

// FileMode returns the type and the permissions as package fs has them.
func (n *Node) FileMode() fs.FileMode {
	mode := fs.FileMode(n.Mode & 0o777)
	for _, bit := range []struct {
		has uint32
		is  fs.FileMode
	}{{unix.S_ISUID, fs.ModeSetuid}, {unix.S_ISGID, fs.ModeSetgid}, {unix.S_ISVTX, fs.ModeSticky}} {
		if n.Mode&bit.has != 0 {
			mode |= bit.is
		}
	}
	switch n.Type() {
	case unix.S_IFDIR:
		mode |= fs.ModeDir
	case unix.S_IFLNK:
		mode |= fs.ModeSymlink
	case unix.S_IFCHR:
		mode |= fs.ModeDevice | fs.ModeCharDevice
	case unix.S_IFBLK:
		mode |= fs.ModeDevice
	case unix.S_IFIFO:
		mode |= fs.ModeNamedPipe
	}
	return mode
}

// info is a node with a name, as an fs.FileInfo and an fs.DirEntry.
type info struct {
	name string
	node *Node
}

func newInfo(name string, n *Node) info { return info{path.Base(name), n} }

func (i info) Name() string               { return i.name }
func (i info) Size() int64                { return i.node.Size }
func (i info) Mode() fs.FileMode          { return i.node.FileMode() }
func (i info) Type() fs.FileMode          { return i.node.FileMode().Type() }
func (i info) ModTime() time.Time         { return i.node.ModTime }
func (i info) IsDir() bool                { return i.node.IsDir() }
func (i info) Info() (fs.FileInfo, error) { return i, nil }
func (i info) String() string             { return fs.FormatFileInfo(i) }

// Sys returns the *Node.
func (i info) Sys() any { return i.node }

func (i info) closedError(op string) error {
	return &fs.PathError{Op: op, Path: i.name, Err: fs.ErrClosed}
}

func dirEntries(children []Child) []fs.DirEntry {
	entries := make([]fs.DirEntry, len(children))
	for i, child := range children {
		entries[i] = info{child.Name, child.Node}
	}
	return entries
}
