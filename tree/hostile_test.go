package tree_test

import (
	"archive/tar"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/damaged"
	"github.com/skopeo-cfs/skopeo-cfs/internal/needs"
	"github.com/skopeo-cfs/skopeo-cfs/internal/repomaker"
	"github.com/skopeo-cfs/skopeo-cfs/internal/tartest"
	"github.com/skopeo-cfs/skopeo-cfs/tree"
)

// Symlinks lead nowhere but into the image.
func TestLookup(t *testing.T) {
	files := treeOf(t, tartest.Tar(t,
		tartest.Dir("usr"), tartest.Dir("usr/lib"), tartest.File("usr/lib/os-release", "ID=x"), tartest.Dir("etc"),
		tartest.Symlink("lib", "usr/lib"), tartest.Symlink("etc/os-release", "../usr/lib/os-release"), tartest.Symlink("abs", "/lib/os-release"),
		tartest.Symlink("out", "../../../../usr/../../lib/os-release"), tartest.Symlink("slash", "/"), tartest.Symlink("usr/self", "."), tartest.Symlink("usr/up", ".."),
		tartest.Symlink("loop", "loop"), tartest.Symlink("a", "b"), tartest.Symlink("b", "a"), tartest.Symlink("dangling", "nowhere"), tartest.Symlink("deep/er/x", "../../lib//os-release"),
	))
	for _, path := range []string{
		"usr/lib/os-release", "/usr/lib/os-release", "//usr//lib/./os-release", "lib/os-release", "etc/os-release", "abs", "out", "slash/abs",
		"slash/slash/slash/abs", "../../abs", "usr/self/self/lib/os-release", "usr/up/usr/up/abs", "usr/lib/../lib/os-release", "deep/er/x", "lib/../../abs",
	} {
		n, err := files.Lookup(path)
		if assert.NoError(t, err, path) {
			assert.Equal(t, "ID=x", string(n.Inline()), path)
		}
	}
	// lib/.. is where lib leads, and not where it is.
	n, err := files.Lookup("lib/../lib")
	require.NoError(t, err)
	assert.True(t, n.IsDir())
	for _, path := range []string{"", "/", ".", "..", "slash", "usr/up", "/../.."} {
		n, err := files.Lookup(path)
		require.NoError(t, err, path)
		assert.Same(t, files.Root(), n, path)
	}
	for path, want := range map[string]error{
		"loop": unix.ELOOP, "a": unix.ELOOP, "loop/x": unix.ELOOP, "dangling": fs.ErrNotExist, "nothing": fs.ErrNotExist, "nothing/x": fs.ErrNotExist,
		"abs/x": unix.ENOTDIR, "abs/": unix.ENOTDIR, "usr/lib/os-release/..": unix.ENOTDIR, strings.Repeat("x/", 4096): unix.ENAMETOOLONG, strings.Repeat("x", 256): unix.ENAMETOOLONG,
	} {
		_, err := files.Lookup(path)
		assert.ErrorIs(t, err, want, path)
		var pathError *fs.PathError
		assert.ErrorAs(t, err, &pathError)
	}
	for _, path := range []string{"loop", "dangling", "lib", "slash"} {
		n, err := files.LookupNoFollow(path)
		require.NoError(t, err)
		assert.True(t, n.IsSymlink())
	}
	n, err = files.LookupNoFollow("lib/")
	require.NoError(t, err)
	assert.True(t, n.IsDir())
}

// A tree of fixed rules is what containers-storage makes of it, too.
func TestRules(t *testing.T) {
	for name, test := range map[string]struct {
		layers [][]tartest.Entry
		paths  string // of the tree, sorted
	}{
		"a whiteout hides what is below":            {[][]tartest.Entry{{tartest.File("a", "1"), tartest.File("b", "1")}, {tartest.File(".wh.a", "")}}, "b"},
		"not what its own layer adds later":         {[][]tartest.Entry{{tartest.File("a", "1")}, {tartest.File(".wh.a", ""), tartest.File("a", "2")}}, "a"},
		"of a directory":                            {[][]tartest.Entry{{tartest.File("d/a", "1")}, {tartest.File(".wh.d", "")}}, ""},
		"a directory in place of a whiteout merges": {[][]tartest.Entry{{tartest.File("d/a", "1")}, {tartest.File(".wh.d", ""), tartest.Dir("d"), tartest.File("d/b", "2")}}, "d d/a d/b"},
		"an opaque directory":                       {[][]tartest.Entry{{tartest.File("d/a", "1")}, {tartest.Dir("d"), tartest.File("d/.wh..wh..opq", ""), tartest.File("d/b", "2")}}, "d d/b"},
		"said at its end":                           {[][]tartest.Entry{{tartest.File("d/a", "1")}, {tartest.Dir("d"), tartest.File("d/b", "2"), tartest.File("d/.wh..wh..opq", "")}}, "d d/b"},
		"nothing hides all layers":                  {[][]tartest.Entry{{tartest.File("a", "1")}, {tartest.File(".wh..wh..opq", ""), tartest.File("b", "2")}}, "a b"},
		"a file in place of a directory":            {[][]tartest.Entry{{tartest.File("d/a", "1")}, {tartest.File("d", "2")}}, "d"},
		"and a directory in place of that":          {[][]tartest.Entry{{tartest.File("d/a", "1")}, {tartest.File("d", "2")}, {tartest.File("d/b", "3")}}, "d d/b"},
		"a directory in place of a symlink":         {[][]tartest.Entry{{tartest.Dir("usr/lib"), tartest.Symlink("lib", "usr/lib")}, {tartest.File("lib/a", "2")}}, "lib lib/a usr usr/lib"},
		"through a symlink of the layer":            {[][]tartest.Entry{{tartest.Dir("usr/lib"), tartest.Symlink("lib", "usr/lib"), tartest.File("lib/a", "1")}}, "lib usr usr/lib usr/lib/a"},
		"through an absolute one":                   {[][]tartest.Entry{{tartest.Dir("usr/lib"), tartest.Symlink("lib", "/usr/lib"), tartest.File("lib/a", "1")}}, "lib usr usr/lib usr/lib/a"},
		"names that lead out":                       {[][]tartest.Entry{{tartest.File("../a", "1"), tartest.File("/../b", "1"), tartest.File("x/../../c", "1")}}, "a b c"},
		"a device that is a whiteout":               {[][]tartest.Entry{{tartest.File("a", "1"), tartest.File("b", "1")}, {{Header: tar.Header{Name: "a", Typeflag: tar.TypeChar}}}}, "b"},
		"a whiteout of nothing":                     {[][]tartest.Entry{{tartest.File(".wh.a", ""), tartest.File("d/.wh.b", "")}}, "d"},
		"whiteouts in what has one":                 {[][]tartest.Entry{{tartest.File("d/a", "1"), tartest.File("f", "1")}, {tartest.File(".wh.d", ""), tartest.File("d/.wh.a", ""), tartest.File("d/.wh..wh..opq", "")}}, "f"},
		"whiteouts in a file":                       {[][]tartest.Entry{{tartest.File("f", "1"), tartest.File("f/.wh.a", "")}}, "f"},
		"one path twice":                            {[][]tartest.Entry{{tartest.File("a", "1"), tartest.File("a", "2"), tartest.Dir("d"), tartest.File("d/x", ""), tartest.File("d", "3")}}, "a d"},
		"hard links":                                {[][]tartest.Entry{{tartest.File("a", "1"), tartest.HardLink("b", "a"), tartest.HardLink("c", "/b")}, {tartest.File("a", "2")}}, "a b c"},
	} {
		t.Run(name, func(t *testing.T) {
			var layers [][]byte
			for _, entries := range test.layers {
				layers = append(layers, tartest.Tar(t, entries...))
			}
			var paths []string
			require.NoError(t, fs.WalkDir(treeOf(t, layers...).FS(t.Context()), ".", func(path string, _ fs.DirEntry, err error) error {
				if path != "." {
					paths = append(paths, path)
				}
				return err
			}))
			assert.Equal(t, test.paths, strings.Join(paths, " "))
			needs.Root(t)
			assert.True(t, compareMounted(t, layers...))
		})
	}
}

// What containers-storage can't unpack is an error.
func TestRefusedLayers(t *testing.T) {
	for name, entries := range map[string][]tartest.Entry{
		"a file below a file":            {tartest.File("a", "1"), tartest.File("a/b", "2")},
		"through a loop":                 {tartest.Symlink("a", "b"), tartest.Symlink("b", "a"), tartest.File("a/c", "1")},
		"through a dangling symlink":     {tartest.Symlink("a", "b"), tartest.File("a/c", "1")},
		"a whiteout of the layer's own":  {tartest.File("a", "1"), tartest.File(".wh.a", "")},
		"a whiteout without a name":      {tartest.File(".wh.", "")},
		"a hard link to nothing":         {tartest.HardLink("a", "b")},
		"a hard link to a directory":     {tartest.Dir("d"), tartest.HardLink("a", "d")},
		"a hard link to itself":          {tartest.File("a", "1"), tartest.HardLink("a", "a")},
		"a name that is too long":        {tartest.File(strings.Repeat("n", 256), "")},
		"a path that is too long":        {tartest.File(strings.Repeat("n/", 2047)+"n", "")},
		"a target that is too long":      {tartest.Symlink("a", strings.Repeat("n", 4096))},
		"the root directory is a file":   {{Header: tar.Header{Name: "/.", Typeflag: tar.TypeFifo}}},
		"an attribute that moves things": {tartest.Dir("d").With(func(h *tar.Header) { h.PAXRecords = map[string]string{"SCHILY.xattr.trusted.overlay.redirect": "/x"} })},
	} {
		t.Run(name, func(t *testing.T) {
			image, err := imageOf(t, tartest.Tar(t, entries...))
			require.NoError(t, err)
			_, err = tree.Read(t.Context(), image)
			assert.ErrorIs(t, err, tree.ErrLayer)
		})
	}
}

// A layer of which only the beginning was stored is no whole tree.
func TestCutLayers(t *testing.T) {
	for name, where := range damaged.Cuts {
		t.Run(name, func(t *testing.T) {
			path := t.TempDir()
			damaged.Add(t, path, fsverity.SHA256, repomaker.Options{}, "hello", damaged.Cut(t, 2, where))
			image, err := open(t, path).ImageByTag(t.Context(), "hello")
			require.NoError(t, err)
			_, err = tree.Read(t.Context(), image)
			assert.ErrorIs(t, err, composefsrepo.ErrCut)
		})
	}
	// One that never had an end is.
	content := tartest.Tar(t, tartest.File("a", "1"))
	files := treeOf(t, content[:len(content)-1024])
	assert.NotNil(t, files.Root().Child("a"))
	assert.Empty(t, treeOf(t, nil).Root().Children())
}

// Names are what they are.
func TestNames(t *testing.T) {
	files := treeOf(t, tartest.Tar(t, tartest.File("\x1b[2J\n", "1"), tartest.File("d\\e", "1"), tartest.File("\x7f", "1")))
	var names []string
	for _, child := range files.Root().Children() {
		names = append(names, child.Name)
	}
	assert.Equal(t, []string{"\x1b[2J\n", "d\\e", "\x7f"}, names)
}

// What there is no bound for in a tar is not held.
func TestBounds(t *testing.T) {
	t.Run("directories in each other, through symlinks", func(t *testing.T) {
		const each = 1000
		deep := strings.TrimSuffix(strings.Repeat("d/", each), "/")
		entries := []tartest.Entry{}
		at := ""
		for i := range 10 {
			entries = append(entries, tartest.Dir(at+deep), tartest.Symlink(fmt.Sprint("s", i), at+deep))
			at = fmt.Sprint("s", i, "/")
		}
		image, err := imageOf(t, tartest.Tar(t, entries...))
		require.NoError(t, err)
		_, err = tree.Read(t.Context(), image)
		assert.ErrorIs(t, err, tree.ErrTooLarge)
	})
	t.Run("extended attributes", func(t *testing.T) {
		tree.WithMaxHeld(t, 1_000_000)
		e := tartest.File("f", "").With(func(h *tar.Header) {
			h.PAXRecords = map[string]string{"SCHILY.xattr.user.x": strings.Repeat("v", 600_000)}
		})
		treeOf(t, tartest.Tar(t, e))
		layers := [][]byte{tartest.Tar(t, e), tartest.Tar(t, e, tartest.File("g", ""))}
		image, err := imageOf(t, layers...)
		require.NoError(t, err)
		_, err = tree.Read(t.Context(), image)
		assert.ErrorIs(t, err, tree.ErrTooLarge)
	})
}

// Many names in one directory take no longer than elsewhere.
func TestManyInOneDirectory(t *testing.T) {
	const all = 100_000
	entries := make([]tartest.Entry, all)
	for i := range entries {
		entries[i] = tartest.Entry{Header: tar.Header{Name: fmt.Sprintf("d/%d", i), Typeflag: tar.TypeFifo, ModTime: time.Unix(1, 0)}}
	}
	files := treeOf(t, tartest.Tar(t, entries...))
	assert.Len(t, files.Root().Child("d").Children(), all)
	n, err := files.Lookup("d/12345")
	require.NoError(t, err)
	assert.EqualValues(t, unix.S_IFIFO, n.Type())
}
