package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// newDisk returns a directory on a filesystem of its own, of so many bytes.
func newDisk(t testing.TB, size int64) string {
	t.Helper()
	needRoot(t)
	needTool(t, "mkfs.ext4", "mount")
	dir := t.TempDir()
	image, at := filepath.Join(dir, "image"), filepath.Join(dir, "disk")
	f, err := os.Create(image)
	require.NoError(t, err)
	require.NoError(t, f.Truncate(size))
	require.NoError(t, f.Close())
	require.NoError(t, os.Mkdir(at, 0o755))
	tool(t, "mkfs.ext4", "-q", "-m", "0", image)
	tool(t, "mount", "-o", "loop", image, at)
	t.Cleanup(func() { unmountBelow(t, at) })
	require.NoError(t, os.Remove(filepath.Join(at, "lost+found")))
	return at
}

// A disk that is full is an error that says so; what was written to it is gone
// afterwards, and a smaller image fits.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	repo, layer := newLarge(t)
	large := "composefs:[" + repo + "]large"
	for transport, path := range map[string]string{"dir": "image", "oci": "layout:x", "oci-archive": "image.tar:x", "docker-archive": "image.tar:x"} {
		t.Run(transport, func(t *testing.T) {
			disk := newDisk(t, 4*pieceSize)
			copyImage(t, large, transport+":"+filepath.Join(disk, path)).assertFailure(t, "no space left on device")
			assert.Empty(t, namesIn(t, disk))
		})
	}
	for name, flags := range map[string][]string{"containers-storage": nil, "containers-storage by copying": {"--no-zero-copy"}} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t, newDisk(t, 4*pieceSize))
			got := copyImage(t, large, s.image("x"), flags...)
			// The library says first that it could not clean up at once.
			_, got.stderr, _ = strings.Cut("\n"+got.stderr, "\nskopeo-cfs: ")
			got.stderr = "skopeo-cfs: " + got.stderr
			got.assertFailure(t, "no space left on device")
			s.assertNoImage(t)
			f := newForge(t)
			data := tarOf(t, "small", make([]byte, 100))
			f.tag("small", f.image(data))
			copyImage(t, "composefs:["+f.repo+"]small", s.image("small")).requireSuccess(t)
			assert.Equal(t, []digest.Digest{digest.FromBytes(data)}, readImage(t, s.image("small")).layers)
		})
	}
	// A directory for temporary files that is full matters where there are such.
	withTmpDir := func(t *testing.T, to string) (outcome, string) {
		c := newCommand(t, "copy", "--insecure-policy", "--no-zero-copy", large, to)
		c.tmp = newDisk(t, 4*pieceSize)
		c.Args = append(c.Args, "--tmpdir", c.tmp)
		return c.run(t), c.tmp
	}
	t.Run("of temporary files", func(t *testing.T) {
		got, tmp := withTmpDir(t, "oci-archive:"+filepath.Join(t.TempDir(), "image.tar:x"))
		got.assertFailure(t, "no space left on device", tmp)
	})
	t.Run("of temporary files that containers-storage does not need", func(t *testing.T) {
		s := newStore(t, t.TempDir())
		got, _ := withTmpDir(t, s.image("x"))
		got.requireSuccess(t)
		assert.Equal(t, []digest.Digest{layer}, readImage(t, s.image("x")).layers)
	})
	t.Run("then there is room", func(t *testing.T) {
		to := "dir:" + filepath.Join(newDisk(t, 12*pieceSize), "image")
		copyImage(t, large, to).requireSuccess(t)
		assert.Equal(t, []digest.Digest{layer}, readImage(t, to).layers)
	})
}
