package fsverity

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrNotEnabled is returned by Measure for a file without fs-verity, or on a
// filesystem that has none.
var ErrNotEnabled = errors.New("fs-verity is not enabled")

// Measure returns the digest that the kernel enforces for the open file: from
// then on every read through the page cache returns what was measured, or
// fails. The error is ErrNotEnabled where the file has no fs-verity.
func Measure(f *os.File) (Digest, error) {
	// struct fsverity_digest, with room for the longest digest behind it.
	var arg struct {
		header unix.FsverityDigest
		sum    [MaxSize]byte
	}
	arg.header.Size = MaxSize
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.FS_IOC_MEASURE_VERITY, uintptr(unsafe.Pointer(&arg)))
	switch errno {
	case 0:
		return FromBytes(arg.sum[:min(arg.header.Size, MaxSize)])
	case unix.ENODATA, unix.ENOTTY, unix.EOPNOTSUPP:
		return Digest{}, ErrNotEnabled
	default:
		return Digest{}, fmt.Errorf("measuring fs-verity of %s: %w", f.Name(), errno)
	}
}
