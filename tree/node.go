package tree

import (
	"sort"
	"time"

	"golang.org/x/sys/unix"
)

// Node is a file of an image, of whatever type. Several names of one file are one
// Node. It is not to be changed.
type Node struct {
	// Mode has the type and the permissions, as st_mode of stat(2).
	Mode     uint32
	UID, GID uint32
	// ModTime is as the tar has it, whatever a filesystem makes of that; zero where
	// Implied.
	ModTime time.Time
	// Size is that of a regular file's content, and of a symlink's target, in bytes.
	Size int64
	// Rdev is the number of a device, as st_rdev of stat(2).
	Rdev uint64
	// Target is where a symlink points.
	Target string
	// Xattrs are the extended attributes. security.selinux is not among them, which
	// containers-storage leaves to the host, nor are those of overlay filesystems.
	Xattrs map[string]string
	// Layer is the index of the layer that the file is from; of a directory, the
	// uppermost that has it. 0 is the lowest.
	Layer int
	// Links is how many names the file has in the image. A directory has one.
	Links int
	// Implied: the layer has something in the directory, but no entry for it. It then
	// has mode 0755 and belongs to root, whatever lower layers say of it.
	Implied bool

	content content
	dir     *dir // of a directory
}

// Child is a name in a directory.
type Child struct {
	Name string
	*Node
}

// dir is what a directory has.
type dir struct {
	byName map[string]*Node // while the tree is built
	sorted []Child          // then
	opaque bool             // what lower layers have in it is hidden
	depth  int              // below the layer's root
}

// Type returns the type alone, as the mask S_IFMT has it in st_mode.
func (n *Node) Type() uint32 { return n.Mode & unix.S_IFMT }

// IsDir tells whether the file is a directory.
func (n *Node) IsDir() bool { return n.Type() == unix.S_IFDIR }

// IsRegular tells whether the file is a regular one.
func (n *Node) IsRegular() bool { return n.Type() == unix.S_IFREG }

// IsSymlink tells whether the file is a symlink.
func (n *Node) IsSymlink() bool { return n.Type() == unix.S_IFLNK }

// Children returns what is in a directory, sorted by name; nil of what is none.
func (n *Node) Children() []Child {
	if n.dir == nil {
		return nil
	}
	return n.dir.sorted
}

// Child returns what has a name in a directory, or nil.
func (n *Node) Child(name string) *Node {
	children := n.Children()
	i := sort.Search(len(children), func(i int) bool { return children[i].Name >= name })
	if i == len(children) || children[i].Name != name {
		return nil
	}
	return children[i].Node
}
