package unpack

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/internal/beneath"
)

// tree is the directory that is unpacked into. Everything is reached from its
// descriptor, and no symlink is followed.
type tree struct {
	root    int // descriptor
	options *Options

	// The directory that was last worked in, for what has no descriptor of its
	// own. Used by the scanner alone.
	parent     int
	parentPath string
}

// open opens a file of the tree, by its path relative to the root.
func (t *tree) open(name string, flags uint64, mode uint32) (int, error) {
	return beneath.OpenFD(t.root, name, flags|unix.O_NOFOLLOW, mode)
}

// in returns a descriptor of a directory, which stays open until in is called
// for another one.
func (t *tree) in(dir string) (int, error) {
	if dir == "." {
		return t.root, nil
	}
	if t.parentPath == dir {
		return t.parent, nil
	}
	fd, err := t.open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return -1, err
	}
	t.close()
	t.parent, t.parentPath = fd, dir
	return fd, nil
}

// close forgets the directory that was last worked in.
func (t *tree) close() {
	if t.parentPath != "" {
		unix.Close(t.parent)
		t.parentPath = ""
	}
}

// create creates a regular file for writing and for reading it back.
func (t *tree) create(name string, mode uint32) (int, error) {
	return t.open(name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, mode)
}

// mkdir creates a directory and returns its descriptor, which in also returns
// for it.
func (t *tree) mkdir(name string, mode uint32) (int, error) {
	dir, err := t.in(path.Dir(name))
	if err != nil {
		return -1, err
	}
	if err := unix.Mkdirat(dir, path.Base(name), mode); err != nil {
		return -1, &fs.PathError{Op: "mkdirat", Path: name, Err: err}
	}
	return t.in(name)
}

// at calls do with a directory and a name in it, and with a path that leads
// there whatever becomes of the directory's own: for calls that take no
// descriptor.
func (t *tree) at(name string, do func(dir int, base, procPath string) error) error {
	dir, err := t.in(path.Dir(name))
	if err != nil {
		return err
	}
	base := path.Base(name)
	if err := do(dir, base, "/proc/self/fd/"+strconv.Itoa(dir)+"/"+base); err != nil {
		return withPath(name, err)
	}
	return nil
}

// withPath adds a path to an error of the system that has none.
func withPath(name string, err error) error {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return fmt.Errorf("%s: %w", name, err)
	}
	return err
}

// setTimes sets an open file's times.
func setTimes(fd int, times *[2]unix.Timespec) error {
	// futimens(3), which is utimensat(2) without a path.
	_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(times)), 0, 0, 0)
	if errno != 0 {
		return fmt.Errorf("setting times: %w", errno)
	}
	return nil
}
