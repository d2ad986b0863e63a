package main

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// sizeBelow returns how many bytes the files in a directory have.
func sizeBelow(dir string) int64 {
	var size int64
	_ = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() {
			if info, err := entry.Info(); err == nil {
				size += info.Size()
			}
		}
		return nil // what has vanished meanwhile has no size
	})
	return size
}

// waitUntil waits until something has come true while the command runs.
func (c *command) waitUntil(t testing.TB, what string, reached func() bool) {
	t.Helper()
	for start := time.Now(); !reached(); time.Sleep(2 * time.Millisecond) {
		if time.Since(start) > time.Minute {
			require.NoError(t, c.Process.Kill())
			require.Fail(t, "never "+what)
		}
	}
}

// promptly is when a command that was interrupted must have ended. It takes far
// less, and the copies that are interrupted would take hours.
const promptly = 10 * time.Second

// interrupt sends the signal and waits for the end.
func (c *command) interrupt(t testing.TB, signal unix.Signal) outcome {
	t.Helper()
	require.NoError(t, c.Process.Signal(signal))
	timer := time.AfterFunc(promptly, func() { _ = c.Process.Kill() })
	defer timer.Stop()
	return c.wait(t)
}

func TestInterruptedCopyLeavesNothing(t *testing.T) {
	t.Parallel()
	repo, layer := newLarge(t)
	paths := map[string]string{"dir": "image", "oci": "layout:x", "oci-archive": "image.tar:x", "docker-archive": "image.tar:x"}
	for name, signal := range map[string]unix.Signal{"SIGINT": unix.SIGINT, "SIGTERM": unix.SIGTERM, "SIGHUP": unix.SIGHUP} {
		for transport, path := range paths {
			if signal != unix.SIGTERM && transport != "dir" {
				continue // the signals differ only in their names
			}
			t.Run(name+"/"+transport, func(t *testing.T) {
				dir := t.TempDir()
				to := transport + ":" + filepath.Join(dir, path)
				c := newCommand(t, "copy", "--insecure-policy", "composefs:["+repo+"]endless", to)
				c.start(t)
				c.waitUntil(t, "half way", func() bool { return sizeBelow(dir)+sizeBelow(c.tmp) > pieceSize })
				c.interrupt(t, signal).assertFailure(t, "interrupted by "+name)
				assert.Empty(t, namesIn(t, dir))

				copyImage(t, "composefs:["+repo+"]large", to).requireSuccess(t)
				assert.Equal(t, []digest.Digest{layer}, readImage(t, to).layers)
			})
		}
	}
}

// hasFile tells whether the store has a file of the size or more, at a path like
// the pattern below the driver's directory. It opens nothing there, which could
// keep what is mounted from being unmounted.
func (s store) hasFile(pattern string, size int64) bool {
	files, err := filepath.Glob(filepath.Join(s.root, "overlay", pattern))
	if err != nil || len(files) == 0 {
		return false
	}
	info, err := os.Lstat(files[0])
	return err == nil && info.Size() >= size
}

// staged is where the file of the large image is before it is in a layer.
const staged = "tempdirs/skopeo-cfs-*/*/large"

func TestInterruptedCopyLeavesNoImageInStorage(t *testing.T) {
	t.Parallel()
	repo, layer := newLarge(t)
	for name, way := range map[string]struct {
		flags   []string
		pattern string // of the file that is being written
	}{
		"extracting": {[]string{"--no-zero-copy"}, "*/diff/large"},
		"staging":    {nil, staged},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t, t.TempDir())
			c := newCommand(t, "copy", "--insecure-policy", "composefs:["+repo+"]endless", s.image("x"))
			c.Args = append(c.Args, way.flags...)
			c.start(t)
			c.waitUntil(t, name, func() bool { return s.hasFile(way.pattern, pieceSize) })
			c.interrupt(t, unix.SIGTERM).assertFailure(t, "interrupted by SIGTERM")
			s.assertNoImage(t)

			copyImage(t, "composefs:["+repo+"]large", s.image("x")).requireSuccess(t)
			assert.Equal(t, []digest.Digest{layer}, readImage(t, s.image("x")).layers)
		})
	}
}

// Under nohup a copy outlives its terminal.
func TestIgnoredSignalStaysIgnored(t *testing.T) {
	t.Parallel()
	repo, _ := newLarge(t)
	dir := t.TempDir()
	c := newCommand(t, "copy", "--insecure-policy", "composefs:["+repo+"]endless", "dir:"+filepath.Join(dir, "image"))
	sh, err := exec.LookPath("sh")
	require.NoError(t, err)
	c.Args = append([]string{sh, "-c", `trap "" HUP; exec "$0" "$@"`, c.Path}, c.Args[1:]...)
	c.Path = sh
	c.start(t)
	c.waitUntil(t, "half way", func() bool { return sizeBelow(dir) > pieceSize })
	require.NoError(t, c.Process.Signal(unix.SIGHUP))
	size := sizeBelow(dir)
	c.waitUntil(t, "further", func() bool { return sizeBelow(dir) > size+4*pieceSize })
	c.interrupt(t, unix.SIGTERM).assertFailure(t, "interrupted by SIGTERM")
	assert.Empty(t, namesIn(t, dir))
}

// A copy that was interrupted leaves what was there before it.
func TestInterruptedCopyLeavesWhatWasThere(t *testing.T) {
	t.Parallel()
	repo, layer := newLarge(t)
	s := newStore(t, t.TempDir())
	copyImage(t, "composefs:["+repo+"]large", s.image("large")).requireSuccess(t)
	c := newCommand(t, "copy", "--insecure-policy", "composefs:["+repo+"]endless", s.image("endless"))
	c.start(t)
	c.waitUntil(t, "half way", func() bool { return s.hasFile(staged, pieceSize) })
	c.interrupt(t, unix.SIGINT).assertFailure(t, "interrupted by SIGINT")
	assert.Equal(t, []digest.Digest{layer}, readImage(t, s.image("large")).layers)
}

// Waiting for somebody's garbage collection ends with the signal, too, and the
// user is told what is waited for.
func TestInterruptWhileWaitingForTheLock(t *testing.T) {
	t.Parallel()
	f := newForge(t)
	f.tag("x", f.image())
	dir, err := os.Open(f.repo)
	require.NoError(t, err)
	defer dir.Close()
	require.NoError(t, unix.Flock(int(dir.Fd()), unix.LOCK_EX))
	c := newCommand(t, "inspect", "composefs:["+f.repo+"]x")
	said, err := c.StderrPipe()
	require.NoError(t, err)
	c.start(t)
	line := make([]byte, 1000)
	n, err := said.Read(line)
	require.NoError(t, err)
	assert.Contains(t, string(line[:n]), "Waiting for composefs repository "+f.repo)
	require.NoError(t, c.Process.Signal(unix.SIGINT))
	n, err = said.Read(line)
	require.NoError(t, err)
	assert.Contains(t, string(line[:n]), "skopeo-cfs: ")
	assert.Contains(t, string(line[:n]), "lock")
	assert.Equal(t, 1, c.wait(t).code)
}
