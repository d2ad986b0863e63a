// Package beneath opens files below a directory whose content is not trusted: no
// path leads out of it, no symlink is followed, and no more of a file is read than
// was asked for.
package beneath

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Open opens a file below dir for reading, by a path without symlinks in it;
// flags are added to those of open(2). The caller closes it. Errors are
// *fs.PathError; ELOOP stands for a symlink, EXDEV for a path that leads out.
func Open(dir *os.File, path string, flags uint64) (*os.File, error) {
	// Without O_NONBLOCK a fifo would keep us waiting for a writer.
	fd, err := OpenFD(int(dir.Fd()), path, unix.O_RDONLY|unix.O_NONBLOCK|flags, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}

// OpenFD opens a file below the directory with the descriptor dir, as openat2(2)
// does with these flags and this mode, by a path without symlinks in it. The
// caller closes the descriptor.
func OpenFD(dir int, path string, flags uint64, mode uint32) (int, error) {
	how := unix.OpenHow{
		Flags:   flags | unix.O_CLOEXEC,
		Mode:    uint64(mode),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	}
	for {
		fd, err := unix.Openat2(dir, path, &how)
		switch err {
		case nil:
			return fd, nil
		case unix.EINTR, unix.EAGAIN: // EAGAIN: something was renamed meanwhile
			continue
		default:
			return -1, &fs.PathError{Op: "openat2", Path: path, Err: err}
		}
	}
}

// OpenRegular opens a regular file below dir for reading, as Open does. The
// caller closes it.
func OpenRegular(dir *os.File, path string) (*os.File, fs.FileInfo, error) {
	f, err := Open(dir, path, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: path, Err: errors.New("not a regular file")}
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

// ReadFile returns the content of a regular file below dir, and an error if
// there is more of it than limit bytes.
func ReadFile(dir *os.File, path string, limit int64) ([]byte, error) {
	f, _, err := OpenRegular(dir, path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := ReadAll(f, limit)
	if err != nil {
		return nil, &fs.PathError{Op: "read", Path: path, Err: err}
	}
	return data, nil
}

// Names returns the names in a directory below dir, unsorted, none where it
// does not exist.
func Names(dir *os.File, path string) ([]string, error) {
	d, err := Open(dir, path, unix.O_DIRECTORY)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Readdirnames(0)
}

// ReadAll returns what r yields, and an error if that is more than limit bytes.
func ReadAll(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("it has more than %d bytes", limit)
	}
	return data, nil
}
