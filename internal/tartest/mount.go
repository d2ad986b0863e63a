package tartest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/containers/storage/pkg/archive"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// Mount unpacks layers as containers-storage does, mounts them as it does for the time
// of a test, and returns where. It needs what Extract needs.
func Mount(t testing.TB, layers [][]byte) (string, error) {
	t.Helper()
	dir, err := os.MkdirTemp("", "m") // short, for long paths in it
	require.NoError(t, err)
	merged := filepath.Join(dir, "m")
	t.Cleanup(func() {
		if err := unix.Unmount(merged, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			t.Error(err)
		}
		assert.NoError(t, os.RemoveAll(dir))
	})
	lower := filepath.Join(dir, "empty")
	require.NoError(t, os.Mkdir(lower, 0o755))
	for i, layer := range layers {
		at := filepath.Join(dir, fmt.Sprint(i))
		require.NoError(t, os.Mkdir(at, 0o755))
		if err := Extract(t, layer, at, &archive.TarOptions{WhiteoutFormat: archive.OverlayWhiteoutFormat}); err != nil {
			return "", err
		}
		lower = at + ":" + lower
	}
	require.NoError(t, os.Mkdir(merged, 0o755))
	return merged, unix.Mount("overlay", merged, "overlay", unix.MS_RDONLY, "lowerdir="+lower)
}
