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
	"github.com/skopeo-cfs/skopeo-cfs/tree"
)

// Symlinks lead nowhere but into the image.
func TestLookup(t *testing.T) {
	files := treeOf(t, tarOf(t,
		dir("usr"), dir("usr/lib"), file("usr/lib/os-release", "ID=x"), dir("etc"),
		symlink("lib", "usr/lib"), symlink("etc/os-release", "../usr/lib/os-release"), symlink("abs", "/lib/os-release"),
		symlink("out", "../../../../usr/../../lib/os-release"), symlink("slash", "/"), symlink("usr/self", "."), symlink("usr/up", ".."),
		symlink("loop", "loop"), symlink("a", "b"), symlink("b", "a"), symlink("dangling", "nowhere"), symlink("deep/er/x", "../../lib//os-release"),
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
		layers [][]entry
		paths  string // of the tree, sorted
	}{
		"a whiteout hides what is below":            {[][]entry{{file("a", "1"), file("b", "1")}, {file(".wh.a", "")}}, "b"},
		"not what its own layer adds later":         {[][]entry{{file("a", "1")}, {file(".wh.a", ""), file("a", "2")}}, "a"},
		"of a directory":                            {[][]entry{{file("d/a", "1")}, {file(".wh.d", "")}}, ""},
		"a directory in place of a whiteout merges": {[][]entry{{file("d/a", "1")}, {file(".wh.d", ""), dir("d"), file("d/b", "2")}}, "d d/a d/b"},
		"an opaque directory":                       {[][]entry{{file("d/a", "1")}, {dir("d"), file("d/.wh..wh..opq", ""), file("d/b", "2")}}, "d d/b"},
		"said at its end":                           {[][]entry{{file("d/a", "1")}, {dir("d"), file("d/b", "2"), file("d/.wh..wh..opq", "")}}, "d d/b"},
		"nothing hides all layers":                  {[][]entry{{file("a", "1")}, {file(".wh..wh..opq", ""), file("b", "2")}}, "a b"},
		"a file in place of a directory":            {[][]entry{{file("d/a", "1")}, {file("d", "2")}}, "d"},
		"and a directory in place of that":          {[][]entry{{file("d/a", "1")}, {file("d", "2")}, {file("d/b", "3")}}, "d d/b"},
		"a directory in place of a symlink":         {[][]entry{{dir("usr/lib"), symlink("lib", "usr/lib")}, {file("lib/a", "2")}}, "lib lib/a usr usr/lib"},
		"through a symlink of the layer":            {[][]entry{{dir("usr/lib"), symlink("lib", "usr/lib"), file("lib/a", "1")}}, "lib usr usr/lib usr/lib/a"},
		"through an absolute one":                   {[][]entry{{dir("usr/lib"), symlink("lib", "/usr/lib"), file("lib/a", "1")}}, "lib usr usr/lib usr/lib/a"},
		"names that lead out":                       {[][]entry{{file("../a", "1"), file("/../b", "1"), file("x/../../c", "1")}}, "a b c"},
		"a device that is a whiteout":               {[][]entry{{file("a", "1"), file("b", "1")}, {{Header: tar.Header{Name: "a", Typeflag: tar.TypeChar}}}}, "b"},
		"a whiteout of nothing":                     {[][]entry{{file(".wh.a", ""), file("d/.wh.b", "")}}, "d"},
		"one path twice":                            {[][]entry{{file("a", "1"), file("a", "2"), dir("d"), file("d/x", ""), file("d", "3")}}, "a d"},
		"hard links":                                {[][]entry{{file("a", "1"), hardLink("b", "a"), hardLink("c", "/b")}, {file("a", "2")}}, "a b c"},
	} {
		t.Run(name, func(t *testing.T) {
			var layers [][]byte
			for _, entries := range test.layers {
				layers = append(layers, tarOf(t, entries...))
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
	for name, entries := range map[string][]entry{
		"a file below a file":            {file("a", "1"), file("a/b", "2")},
		"through a loop":                 {symlink("a", "b"), symlink("b", "a"), file("a/c", "1")},
		"through a dangling symlink":     {symlink("a", "b"), file("a/c", "1")},
		"a whiteout of the layer's own":  {file("a", "1"), file(".wh.a", "")},
		"a whiteout without a name":      {file(".wh.", "")},
		"a hard link to nothing":         {hardLink("a", "b")},
		"a hard link to a directory":     {dir("d"), hardLink("a", "d")},
		"a hard link to itself":          {file("a", "1"), hardLink("a", "a")},
		"a name that is too long":        {file(strings.Repeat("n", 256), "")},
		"a path that is too long":        {file(strings.Repeat("n/", 2047)+"n", "")},
		"a target that is too long":      {symlink("a", strings.Repeat("n", 4096))},
		"the root directory is a file":   {{Header: tar.Header{Name: "/.", Typeflag: tar.TypeFifo}}},
		"an attribute that moves things": {dir("d").with(func(h *tar.Header) { h.PAXRecords = map[string]string{"SCHILY.xattr.trusted.overlay.redirect": "/x"} })},
	} {
		t.Run(name, func(t *testing.T) {
			image, err := imageOf(t, tarOf(t, entries...))
			require.NoError(t, err)
			_, err = tree.Read(t.Context(), image)
			assert.ErrorIs(t, err, tree.ErrLayer)
		})
	}
}

func (e entry) with(change func(*tar.Header)) entry {
	change(&e.Header)
	return e
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
	content := tarOf(t, file("a", "1"))
	files := treeOf(t, content[:len(content)-1024])
	assert.NotNil(t, files.Root().Child("a"))
	assert.Empty(t, treeOf(t, nil).Root().Children())
}

// Names are what they are.
func TestNames(t *testing.T) {
	files := treeOf(t, tarOf(t, file("\x1b[2J\n", "1"), file("d\\e", "1"), file("\x7f", "1")))
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
		entries := []entry{}
		at := ""
		for i := range 10 {
			entries = append(entries, dir(at+deep), symlink(fmt.Sprint("s", i), at+deep))
			at = fmt.Sprint("s", i, "/")
		}
		image, err := imageOf(t, tarOf(t, entries...))
		require.NoError(t, err)
		_, err = tree.Read(t.Context(), image)
		assert.ErrorIs(t, err, tree.ErrTooLarge)
	})
	t.Run("extended attributes", func(t *testing.T) {
		tree.WithMaxHeld(t, 1_000_000)
		e := file("f", "").with(func(h *tar.Header) {
			h.PAXRecords = map[string]string{"SCHILY.xattr.user.x": strings.Repeat("v", 600_000)}
		})
		treeOf(t, tarOf(t, e))
		layers := [][]byte{tarOf(t, e), tarOf(t, e)}
		image, err := imageOf(t, layers...)
		require.NoError(t, err)
		_, err = tree.Read(t.Context(), image)
		assert.ErrorIs(t, err, tree.ErrTooLarge)
	})
}

// Many names in one directory take no longer than elsewhere.
func TestManyInOneDirectory(t *testing.T) {
	const all = 100_000
	entries := make([]entry, all)
	for i := range entries {
		entries[i] = entry{Header: tar.Header{Name: fmt.Sprintf("d/%d", i), Typeflag: tar.TypeFifo, ModTime: time.Unix(1, 0)}}
	}
	files := treeOf(t, tarOf(t, entries...))
	assert.Len(t, files.Root().Child("d").Children(), all)
	n, err := files.Lookup("d/123456")
	require.NoError(t, err)
	assert.EqualValues(t, unix.S_IFIFO, n.Type())
}
