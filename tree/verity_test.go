package tree_test

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/tartest"
	"github.com/skopeo-cfs/skopeo-cfs/internal/verity"
	"github.com/skopeo-cfs/skopeo-cfs/tree"
)

// Where objects have fs-verity, the kernel checks what is read, and the tree is the
// same.
func TestVerity(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 16<<10)
	repo, image := pieced(t, tartest.Tar(t, tartest.File("long", long), tartest.File("short", "short")), -512, len(long))
	files, err := tree.Read(t.Context(), image)
	require.NoError(t, err)
	want := listTree(t, files)

	verity.EnableObjects(t, repo, fsverity.SHA512)
	files, err = tree.Read(t.Context(), image)
	require.NoError(t, err)
	assert.Equal(t, want, listTree(t, files))
	f, err := files.FS(t.Context()).Open("long")
	require.NoError(t, err)
	part := make([]byte, 16)
	_, err = f.(io.ReaderAt).ReadAt(part, 16<<10)
	require.NoError(t, err)
	assert.Equal(t, long[:16], string(part))
	require.NoError(t, f.Close())

	other := filepath.Join(t.TempDir(), "other")
	require.NoError(t, os.WriteFile(other, []byte(strings.ToUpper(long)), 0o644))
	verity.Enable(t, other, fsverity.SHA512)
	require.NoError(t, os.Rename(other, objectIn(repo, files.Root().Child("long"))))
	_, err = files.FS(t.Context()).Open("long")
	assert.ErrorIs(t, err, composefsrepo.ErrVerity)
}
