package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moby/sys/mountinfo"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// store is a containers-storage directory with the driver overlay.
type store struct{ root, run string }

// newStore returns a store that does not exist yet, its files below dir.
func newStore(t testing.TB, dir string) store {
	t.Helper()
	needRoot(t)
	run, err := os.MkdirTemp("", "run") // podman takes no path of more than 50 characters
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, os.RemoveAll(run)) })
	s := store{filepath.Join(dir, "root"), run}
	t.Cleanup(func() {
		unmountBelow(t, s.root)
		unmountBelow(t, s.run)
	})
	return s
}

// unmountBelow unmounts what is mounted at or below a directory, as
// containers-storage leaves it for its next use.
func unmountBelow(t testing.TB, dir string) {
	t.Helper()
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	require.NoError(t, err)
	for i := len(mounts) - 1; i >= 0; i-- {
		assert.NoError(t, unix.Unmount(mounts[i].Mountpoint, unix.MNT_DETACH))
	}
}

// image returns the name of an image in the store.
func (s store) image(name string) string {
	return "containers-storage:[overlay@" + s.root + "+" + s.run + "]localhost/" + name
}

// podman runs podman on the store.
func (s store) podman(t testing.TB, args ...string) string {
	t.Helper()
	needTool(t, "podman")
	return tool(t, "podman", append([]string{"--root", s.root, "--runroot", s.run, "--storage-driver", "overlay"}, args...)...)
}

// isLock tells whether a file of a store is a lock, which is empty.
func isLock(name string) bool {
	return strings.HasSuffix(name, ".lock") || strings.HasPrefix(name, "lock-")
}

// assertEmpty demands that the store has no image, no layer, and no file of one.
func (s store) assertEmpty(t testing.TB) {
	t.Helper()
	for _, list := range []string{"overlay-images/images.json", "overlay-layers/layers.json"} {
		data, err := os.ReadFile(filepath.Join(s.root, list))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		require.NoError(t, err)
		var entries []any
		require.NoError(t, json.Unmarshal(data, &entries))
		assert.Empty(t, entries, list)
	}
	for _, dir := range []string{"overlay", "overlay-layers", "overlay-images"} {
		for _, name := range namesIn(t, filepath.Join(s.root, dir)) {
			switch {
			case name == "l", name == "staging", name == "tempdirs", name == "tmp":
				assert.Empty(t, slices.DeleteFunc(namesIn(t, filepath.Join(s.root, dir, name)), isLock), name)
			case isLock(name), strings.HasSuffix(name, ".json"), strings.HasPrefix(name, "."):
			default:
				assert.Fail(t, "something is left in the store", "%s/%s", dir, name)
			}
		}
	}
}
