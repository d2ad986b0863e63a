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
	s.assertNoImage(t)
	assert.Empty(t, s.layers(t))
}

// assertNoImage demands that the store has no image, and nothing of one but layers
// that are complete, as they stay of a copy that failed: no other file of a layer,
// and nothing that was staged.
func (s store) assertNoImage(t testing.TB) {
	t.Helper()
	for _, image := range s.list(t, "overlay-images/images.json") {
		assert.Fail(t, "an image", "%s", image)
	}
	known, links := map[string]bool{}, map[string]bool{}
	for _, l := range s.layers(t) {
		assert.NotContains(t, l.Flags, "incomplete", "a half layer")
		for _, name := range []string{"overlay-layers/" + l.ID + ".tar-split.gz", "overlay/" + l.ID + "/diff", "overlay/" + l.ID + "/link"} {
			_, err := os.Stat(filepath.Join(s.root, name))
			assert.NoError(t, err, "a half layer")
		}
		link, err := os.ReadFile(filepath.Join(s.root, "overlay", l.ID, "link"))
		assert.NoError(t, err)
		known[l.ID], known[l.ID+".tar-split.gz"], links[string(link)] = true, true, true
	}
	for _, dir := range []string{"overlay", "overlay-layers", "overlay-images"} {
		for _, name := range namesIn(t, filepath.Join(s.root, dir)) {
			switch {
			case name == "l":
				names := namesIn(t, filepath.Join(s.root, dir, name))
				assert.Empty(t, slices.DeleteFunc(names, func(name string) bool { return links[name] }), name)
			case name == "staging", name == "tempdirs", name == "tmp":
				assert.Empty(t, slices.DeleteFunc(namesIn(t, filepath.Join(s.root, dir, name)), isLock), name)
			case known[name], isLock(name), strings.HasSuffix(name, ".json"), strings.HasPrefix(name, "."):
			default:
				assert.Fail(t, "something is left in the store", "%s/%s", dir, name)
			}
		}
	}
}

// layer is what a store's list says of a layer.
type layer struct {
	ID    string
	Flags map[string]any
}

func (s store) layers(t testing.TB) []layer {
	t.Helper()
	var layers []layer
	for _, raw := range s.list(t, "overlay-layers/layers.json") {
		var l layer
		require.NoError(t, json.Unmarshal(raw, &l))
		layers = append(layers, l)
	}
	return layers
}

// list returns the entries of one of the store's lists, none where there is no
// such list.
func (s store) list(t testing.TB, name string) []json.RawMessage {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(s.root, name))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	require.NoError(t, err)
	var entries []json.RawMessage
	require.NoError(t, json.Unmarshal(data, &entries))
	return entries
}
