package unpack

import (
	"archive/tar"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// overrideName is the extended attribute that has a file's owner, mode and type
// in a store that gives all files one mask.
const overrideName = "user.containers.override_stat"

// override returns the attribute for an entry.
func override(h *tar.Header, mode os.FileMode) *xattr {
	kind := "file"
	switch mode & os.ModeType {
	case os.ModeDir:
		kind = "dir"
	case os.ModeSymlink:
		kind = "symlink"
	case os.ModeNamedPipe:
		kind = "pipe"
	case os.ModeSocket:
		kind = "socket"
	case os.ModeDevice:
		kind = fmt.Sprintf("block-%d-%d", h.Devmajor, h.Devminor)
	case os.ModeDevice | os.ModeCharDevice:
		kind = fmt.Sprintf("char-%d-%d", h.Devmajor, h.Devminor)
	}
	return &xattr{overrideName, fmt.Sprintf("%d:%d:%04o:%s", h.Uid, h.Gid, permissions(mode), kind)}
}

// permissions returns the bits that chmod(2) takes.
func permissions(mode os.FileMode) uint32 {
	p := uint32(mode.Perm())
	if mode&os.ModeSetuid != 0 {
		p |= unix.S_ISUID
	}
	if mode&os.ModeSetgid != 0 {
		p |= unix.S_ISGID
	}
	if mode&os.ModeSticky != 0 {
		p |= unix.S_ISVTX
	}
	return p
}
