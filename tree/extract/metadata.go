package extract

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/tree"
)

// setMetadata gives what a descriptor is of, which may be one of O_PATH, all that a
// node has but its content.
func (e *extractor) setMetadata(fd int, n *tree.Node) error {
	// By this path the kernel finds the file itself, a symlink too.
	self := fmt.Sprintf("/proc/self/fd/%d", fd)
	mode := n.Mode & 0o7777
	if e.options.Owners {
		if err := unix.Fchownat(fd, "", int(n.UID), int(n.GID), unix.AT_EMPTY_PATH); err != nil {
			return fmt.Errorf("giving it the owner %d:%d: %w", n.UID, n.GID, err)
		}
	} else {
		mode &^= unix.S_ISUID | unix.S_ISGID // they would be for another owner
	}
	if !n.IsSymlink() {
		if err := unix.Chmod(self, mode); err != nil {
			return fmt.Errorf("setting mode %o: %w", mode, err)
		}
	}
	if err := e.setXattrs(self, n); err != nil {
		return err
	}
	if n.ModTime.IsZero() {
		return nil
	}
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Sec: n.ModTime.Unix(), Nsec: int64(n.ModTime.Nanosecond())}}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, self, times, 0); err != nil {
		return fmt.Errorf("setting its time: %w", err)
	}
	return nil
}

func (e *extractor) setXattrs(self string, n *tree.Node) error {
	for name, value := range n.Xattrs {
		isUsers := strings.HasPrefix(name, "user.")
		if !e.options.Owners && !isUsers {
			continue
		}
		err := unix.Setxattr(self, name, []byte(value), 0)
		// Users' attributes are for files and directories alone.
		impossible := errors.Is(err, unix.ENOTSUP) || isUsers && !n.IsRegular() && !n.IsDir() && errors.Is(err, unix.EPERM)
		if impossible {
			atomic.AddInt64(&e.result.LeftOut, 1)
		} else if err != nil {
			return fmt.Errorf("setting extended attribute %q: %w", name, err)
		}
	}
	return nil
}
