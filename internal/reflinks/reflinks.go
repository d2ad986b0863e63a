// Package reflinks has filesystems for tests, in files that are mounted: one
// whose files can share their blocks, or a small one that gets full.
package reflinks

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Mount makes a filesystem of size bytes and mounts it for the time of a test.
// The command makes it, as in "mkfs.xfs", "-q", "-m", "reflink=1"; the file's
// path is added. It needs root, without which the test is skipped.
func Mount(t testing.TB, size int64, mkfs ...string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir := t.TempDir()
	image, at := filepath.Join(dir, "image"), filepath.Join(dir, "mounted")
	if err := os.Mkdir(at, 0o755); err != nil {
		t.Fatal(err)
	}
	file, err := os.Create(image)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := file.Truncate(size); err != nil {
		t.Fatal(err)
	}
	run(t, append(mkfs, image)...)
	run(t, "mount", "-o", "loop", image, at)
	t.Cleanup(func() { run(t, "umount", "-l", at) })
	return at
}

// XFS mounts a filesystem with reflinks, of 512 MiB.
func XFS(t testing.TB) string {
	t.Helper()
	return Mount(t, 512<<20, "mkfs.xfs", "-q", "-m", "reflink=1")
}

func run(t testing.TB, command ...string) {
	t.Helper()
	if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%q: %v: %s", command, err, out)
	}
}
