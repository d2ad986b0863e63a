package unpack_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/containers/storage/pkg/archive"
	"github.com/containers/storage/pkg/chrootarchive"
	"github.com/containers/storage/pkg/unshare"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/internal/needs"
	"github.com/skopeo-cfs/skopeo-cfs/internal/trees"
	"github.com/skopeo-cfs/skopeo-cfs/zerocopy/unpack"
)

func device(name string) entry {
	return entry{Header: tar.Header{Name: name, Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3, ModTime: modified}}
}

func TestDeviceThatCannotBeMadeTakesItsPlace(t *testing.T) {
	needs.Root(t)
	options := optionSets()["in userns"]
	t.Run("alone", func(t *testing.T) {
		content := makeTar(t, device("d/a"), file("b", "b"))
		want, got := theirs(t, content, options), ours(t, content, inline(content, 1000), options)
		require.NoError(t, got.err)
		assert.Equal(t, want.trees, got.trees)
		assert.NotContains(t, got.trees, "d/a")
	})
	for name, entries := range map[string][]entry{
		"over a file":      {file("a", "x"), device("a/../a")},
		"over a directory": {dir("a"), device("/a")},
		"under a file":     {device("a"), file("./a", "x")},
		"as a directory":   {device("a"), file("a/b", "x")},
		"with a hard link": {device("a"), link(tar.TypeLink, "b", "a")},
		"twice":            {device("a"), device("./a")},
		"with a whiteout":  {device("a"), file(".wh.a", "")},
	} {
		t.Run(name, func(t *testing.T) {
			content := makeTar(t, entries...)
			got := ours(t, content, inline(content, 1000), options)
			assert.ErrorIs(t, got.err, unpack.ErrUnusual)
		})
	}
}

// noXattrs mounts a filesystem without extended attributes.
func noXattrs(t *testing.T) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir := t.TempDir()
	require.NoError(t, unix.Mount("ramfs", dir, "ramfs", 0, ""))
	t.Cleanup(func() { assert.NoError(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	return dir
}

// A layer's attribute is left out where it can't be, even that which has the
// name of the store's own, without which that can't do.
func TestAttributesThatCannotBeSet(t *testing.T) {
	overriding := map[string]string{"SCHILY.xattr.user.containers.override_stat": "0:0:0755:dir", "SCHILY.xattr.user.x": "y"}
	content := makeTar(t, dir("d").with(func(h *tar.Header) { h.PAXRecords = overriding }))
	onLink := makeTar(t, link(tar.TypeSymlink, "s", "x").with(func(h *tar.Header) { h.PAXRecords = overriding }))
	plain := makeTar(t, file("a", "x"))
	mask := os.FileMode(0o700)
	for name, test := range map[string]struct {
		content []byte
		options archive.TarOptions
		dir     string
		fails   bool
	}{
		"filesystem without them":                     {content, archive.TarOptions{}, noXattrs(t), false},
		"filesystem without them, in userns":          {content, archive.TarOptions{InUserNS: true}, noXattrs(t), false},
		"filesystem without them, which store needs":  {plain, archive.TarOptions{ForceMask: &mask}, noXattrs(t), true},
		"not permitted":                               {onLink, archive.TarOptions{}, t.TempDir(), true},
		"not permitted, in userns":                    {onLink, archive.TarOptions{InUserNS: true}, t.TempDir(), false},
		"not permitted, in userns, not the store's":   {onLink, archive.TarOptions{InUserNS: true, ForceMask: &mask}, t.TempDir(), false},
		"the store's own comes after the layer's own": {content, archive.TarOptions{ForceMask: &mask}, t.TempDir(), false},
	} {
		t.Run(name, func(t *testing.T) {
			if test.options.InUserNS {
				t.Setenv(unshare.UsernsEnvName, "done")
			}
			their, our := filepath.Join(test.dir, "theirs"), filepath.Join(test.dir, "ours")
			require.NoError(t, os.Mkdir(their, 0o755))
			require.NoError(t, os.Mkdir(our, 0o755))
			theirErr := chrootarchive.UntarUncompressed(bytes.NewReader(test.content), their, &test.options)
			_, err := unpack.Layer(t.Context(), inline(test.content, 1000), our, optionsOf(&test.options))
			if test.fails {
				assert.Error(t, theirErr)
				assert.ErrorContains(t, err, "override_stat")
				return
			}
			require.NoError(t, theirErr)
			require.NoError(t, err)
			assert.Equal(t, trees.ListUntouched(t, their, started), trees.ListUntouched(t, our, started))
		})
	}
}

// fuseOverlay mounts a filesystem that has no O_TMPFILE.
func fuseOverlay(t testing.TB) string {
	t.Helper()
	needTool(t, "fuse-overlayfs")
	dir := t.TempDir()
	for _, name := range []string{"lower", "upper", "work", "merged"} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, name), 0o755))
	}
	command := exec.Command("fuse-overlayfs", "-o", fmt.Sprintf("lowerdir=%[1]s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", dir), dir+"/merged")
	out, err := command.CombinedOutput()
	require.NoError(t, err, "%s", out)
	t.Cleanup(func() { assert.NoError(t, unix.Unmount(dir+"/merged", unix.MNT_DETACH)) })
	_, err = unix.Open(dir+"/merged", unix.O_TMPFILE|unix.O_RDWR, 0o600)
	require.Error(t, err)
	return dir + "/merged"
}

// needTool skips a test where a program is not installed, but for the gate,
// which installs them all.
func needTool(t testing.TB, name string) {
	t.Helper()
	_, err := exec.LookPath(name)
	if os.Getenv("CI") == "true" {
		require.NoError(t, err)
	}
	if err != nil {
		t.Skipf("needs %s", name)
	}
}

func TestRecordIsInAFileWithoutAName(t *testing.T) {
	needs.Root(t)
	for name, makeDir := range map[string]func(testing.TB) string{
		"usual":                   func(t testing.TB) string { return t.TempDir() },
		"one that has to be made": fuseOverlay,
	} {
		t.Run(name, func(t *testing.T) {
			dir := makeDir(t)
			content := makeTar(t, many(30)...)
			result, err := unpack.Layer(t.Context(), inline(content, 1000), within(t), unpack.Options{TempDir: dir})
			require.NoError(t, err)
			defer result.TarSplit.Close()
			names, err := os.ReadDir(dir)
			require.NoError(t, err)
			assert.Empty(t, names)
			var inDir, record unix.Stat_t
			require.NoError(t, unix.Stat(dir, &inDir))
			require.NoError(t, unix.Fstat(int(result.TarSplit.Fd()), &record))
			assert.Equal(t, inDir.Dev, record.Dev)
		})
	}
	_, err := unpack.Layer(t.Context(), inline(nil, 1), within(t), unpack.Options{TempDir: "/nowhere"})
	assert.ErrorIs(t, err, os.ErrNotExist)
	assert.ErrorContains(t, err, "/nowhere")
}

// A filesystem that gets full, or a server that is gone, may be found out only
// when a file is closed.
func TestErrorOfCloseIsReported(t *testing.T) {
	const child = "UNPACK_INTO"
	content := makeTar(t, file("a", long), file("b", "b"))
	if dest := os.Getenv(child); dest != "" {
		_, err := unpack.Layer(t.Context(), inline(content, 1000), dest, unpack.Options{})
		fmt.Println("the error is:", err)
		return
	}
	needTool(t, "strace") // has close(2) fail
	for _, name := range []string{"a", "b", "none"} {
		dest := within(t)
		command := exec.Command("strace", "-f", "-o", os.DevNull, "-P", filepath.Join(dest, name), "-e", "trace=close", "-e", "inject=close:error=EDQUOT",
			os.Args[0], "-test.run=^"+t.Name()+"$")
		command.Env = append(os.Environ(), child+"="+dest)
		out, err := command.CombinedOutput()
		require.NoError(t, err, "%s", out)
		want := `"` + name + `": closing the file: disk quota exceeded`
		if name == "none" {
			want = "<nil>"
		}
		assert.Contains(t, string(out), "the error is: "+want)
	}
}

func TestRecordThatCannotBeWrittenIsReported(t *testing.T) {
	full := noXattrs(t)
	require.NoError(t, unix.Mount("tmpfs", full, "tmpfs", 0, "size=16k"))
	t.Cleanup(func() { assert.NoError(t, unix.Unmount(full, unix.MNT_DETACH)) })
	content := makeTar(t, many(300)...)
	_, err := unpack.Layer(t.Context(), inline(content, 1000), within(t), unpack.Options{TempDir: full})
	assert.ErrorIs(t, err, unix.ENOSPC)
	assert.ErrorContains(t, err, "the record of the tar")
}
