package diff

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/tree"
)

// Files is how the files differ, of all types.
type Files struct {
	// Added, Removed and Changed count paths.
	Added   int `json:"added"`
	Removed int `json:"removed"`
	Changed int `json:"changed"`
	// AddedBytes and RemovedBytes are the sizes of the regular files at paths that were
	// added and removed. A file that has several of them counts once.
	AddedBytes   int64 `json:"addedBytes"`
	RemovedBytes int64 `json:"removedBytes"`
	// NewBytes is the size of the contents of the new image's files that none of the old
	// one's has, each content once: about what the new one takes in a repository that
	// has the old one.
	NewBytes int64 `json:"newBytes"`
	// Changes are in the order of the tree: a directory, then what is in it by name.
	Changes []FileChange `json:"changes"`
}

// Equal tells whether no file differs.
func (f *Files) Equal() bool { return len(f.Changes) == 0 }

// FileChange is a path that differs.
type FileChange struct {
	// Path is absolute. JSON can't hold bytes that are no UTF-8: a path that has some is
	// in RawPath as it is.
	Path    string `json:"path"`
	RawPath []byte `json:"rawPath,omitempty"`
	Kind    Kind   `json:"kind"`
	// What differs where the path is in both images, in this order: type, content, mode,
	// owner, xattrs, target, device, links (that is, which other paths the file has).
	// The time of modification is none of it.
	What []string `json:"what,omitempty"`
	// Xattrs are the names of the extended attributes that differ, sorted.
	Xattrs []string `json:"xattrs,omitempty"`
	Old    *File    `json:"old,omitempty"` // nil where it was added
	New    *File    `json:"new,omitempty"` // nil where it was removed
}

// File is what an image has at a path.
type File struct {
	// Type is file, directory, symlink, fifo, character or block.
	Type string `json:"type"`
	// Mode has the permissions, with the set-id and the sticky bit, as chmod(2) has
	// them: of a symlink, those of all symlinks.
	Mode uint32 `json:"mode"`
	UID  uint32 `json:"uid"`
	GID  uint32 `json:"gid"`
	// Size is that of a regular file's content and of a symlink's target, in bytes.
	Size int64 `json:"size"`
	// ModTime is the time of the last modification; zero where the image tells none, or
	// one that JSON does not have.
	ModTime time.Time `json:"modTime,omitzero"`
	Target  string    `json:"target,omitempty"` // of a symlink
	Major   uint32    `json:"major,omitempty"`  // of a device
	Minor   uint32    `json:"minor,omitempty"`  // of a device
	Links   int       `json:"links,omitempty"`  // how many paths the file has, where there are several
}

// typeNames are the types by their bits in st_mode.
var typeNames = map[uint32]string{
	unix.S_IFREG: "file", unix.S_IFDIR: "directory", unix.S_IFLNK: "symlink",
	unix.S_IFIFO: "fifo", unix.S_IFCHR: "character", unix.S_IFBLK: "block",
}

// describeFile returns what there is to say of a node, nil of none.
func describeFile(n *tree.Node) *File {
	if n == nil {
		return nil
	}
	f := &File{Type: typeNames[n.Type()], Mode: n.Mode & 0o7777, UID: n.UID, GID: n.GID, Size: n.Size, Target: n.Target}
	if year := n.ModTime.UTC().Year(); year >= 0 && year <= 9999 { // JSON has no others
		f.ModTime = n.ModTime.UTC()
	}
	if isDevice(n) {
		f.Major, f.Minor = unix.Major(n.Rdev), unix.Minor(n.Rdev)
	}
	if n.Links > 1 {
		f.Links = n.Links
	}
	if n.IsSymlink() {
		f.Mode = 0o777
	}
	return f
}

func isDevice(n *tree.Node) bool { return n.Type() == unix.S_IFCHR || n.Type() == unix.S_IFBLK }
