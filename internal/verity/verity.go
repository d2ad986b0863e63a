// Package verity enables fs-verity for tests. They need a filesystem with fs-verity
// below TMPDIR. `make vm-test` runs them in a virtual machine, in case this kernel has
// no fs-verity.
package verity

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
)

// expected in the environment tells that there is fs-verity below TMPDIR.
const expected = "SKOPEO_CFS_VERITY"

// Enable enables fs-verity on a file. It skips a test for which there is none.
func Enable(t testing.TB, file string, a fsverity.Algorithm) {
	t.Helper()
	err := enable(file, a)
	if (errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EOPNOTSUPP)) && os.Getenv(expected) == "" {
		t.Skip("no fs-verity below TMPDIR; `make vm-test` has it")
	}
	if err != nil {
		t.Fatalf("enabling fs-verity on %s: %v", file, err)
	}
}

func enable(file string, a fsverity.Algorithm) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	arg := unix.FsverityEnableArg{
		Version:        1,
		Hash_algorithm: uint32(a.HashNumber()),
		Block_size:     uint32(a.BlockSize()),
	}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.FS_IOC_ENABLE_VERITY, uintptr(unsafe.Pointer(&arg)))
	if errno != 0 {
		return errno
	}
	return nil
}

// EnableObjects enables fs-verity on every object of a repository, and returns
// their paths, sorted.
func EnableObjects(t testing.TB, repo string, a fsverity.Algorithm) []string {
	t.Helper()
	objects, err := filepath.Glob(filepath.Join(repo, "objects/*/*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, object := range objects {
		Enable(t, object, a)
	}
	return objects
}
