package beneath

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Where the fields of struct linux_dirent64 are (see getdents(2)): the record's
// length, the file's type, and the name, which ends with a NUL.
const (
	direntLength = 16
	direntType   = 18
	direntName   = 19
)

// direntBuffer is how many bytes of a directory are read at once.
const direntBuffer = 64 << 10

var errDirent = errors.New("the kernel returned a malformed directory entry")

// Entries calls visit with the names in an open directory and the bits of their
// types, which most filesystems have in the directory itself. It holds some names,
// however many there are. Package os would look for the types by the path that a
// file was opened by, which here is not one of the process. The error is visit's, or
// that of reading.
func Entries(dir *os.File, visit func(name string, kind fs.FileMode) error) error {
	buffer := make([]byte, direntBuffer)
	for {
		n, err := unix.Getdents(int(dir.Fd()), buffer)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return &fs.PathError{Op: "getdents", Path: dir.Name(), Err: err}
		}
		if n <= 0 {
			return nil
		}
		for rest := buffer[:n]; len(rest) > 0; {
			name, kind, length, err := parseDirent(rest)
			if err != nil {
				return err
			}
			rest = rest[length:]
			if name == "." || name == ".." {
				continue
			}
			mode := modeOf(kind)
			if kind == unix.DT_UNKNOWN {
				mode, err = statType(dir, name)
				if errors.Is(err, fs.ErrNotExist) {
					continue // it was removed meanwhile
				}
				if err != nil {
					return err
				}
			}
			if err := visit(name, mode); err != nil {
				return err
			}
		}
	}
}

// parseDirent returns what the first record of a buffer says, and its length.
func parseDirent(raw []byte) (name string, kind uint8, length int, err error) {
	if len(raw) <= direntName {
		return "", 0, 0, errDirent
	}
	length = int(binary.NativeEndian.Uint16(raw[direntLength:]))
	if length <= direntName || length > len(raw) {
		return "", 0, 0, errDirent
	}
	bytesOfName, _, ok := bytes.Cut(raw[direntName:length], []byte{0})
	if !ok {
		return "", 0, 0, errDirent
	}
	return string(bytesOfName), raw[direntType], length, nil
}

// statType asks for the type of a file in a directory.
func statType(dir *os.File, name string) (fs.FileMode, error) {
	var stat unix.Stat_t
	if err := unix.Fstatat(int(dir.Fd()), name, &stat, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return 0, &fs.PathError{Op: "fstatat", Path: name, Err: err}
	}
	const typeShift = 12 // from a mode to the type of a directory entry
	return modeOf(uint8(stat.Mode & unix.S_IFMT >> typeShift)), nil
}

// modeOf returns the bits of a directory entry's type.
func modeOf(kind uint8) fs.FileMode {
	switch kind {
	case unix.DT_REG:
		return 0
	case unix.DT_DIR:
		return fs.ModeDir
	case unix.DT_LNK:
		return fs.ModeSymlink
	case unix.DT_FIFO:
		return fs.ModeNamedPipe
	case unix.DT_SOCK:
		return fs.ModeSocket
	case unix.DT_CHR:
		return fs.ModeDevice | fs.ModeCharDevice
	case unix.DT_BLK:
		return fs.ModeDevice
	}
	return fs.ModeIrregular
}
