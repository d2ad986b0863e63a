package vmtest

import (
	"os"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// extents is struct fiemap with room for one extent.
type extents struct {
	start, length uint64
	flags, mapped uint32
	count, _      uint32
	extent        struct {
		logical, physical, length uint64
		_                         [2]uint64
		flags                     uint32
		_                         [3]uint32
	}
}

const (
	fiemap       = 0xc020660b // FS_IOC_FIEMAP
	fiemapSync   = 1
	fiemapShared = 0x2000
)

// isShared tells whether the first blocks of a file belong to another file, too.
func isShared(t *testing.T, path string) bool {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	e := extents{length: 1 << 62, flags: fiemapSync, count: 1}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), fiemap, uintptr(unsafe.Pointer(&e)))
	require.Zero(t, errno)
	return e.mapped == 1 && e.extent.flags&fiemapShared != 0
}
