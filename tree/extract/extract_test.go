package extract_test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containers/storage/pkg/reexec"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/damaged"
	"github.com/skopeo-cfs/skopeo-cfs/internal/genimage"
	"github.com/skopeo-cfs/skopeo-cfs/internal/needs"
	"github.com/skopeo-cfs/skopeo-cfs/internal/reflinks"
	"github.com/skopeo-cfs/skopeo-cfs/internal/repomaker"
	"github.com/skopeo-cfs/skopeo-cfs/internal/tartest"
	"github.com/skopeo-cfs/skopeo-cfs/internal/trees"
	"github.com/skopeo-cfs/skopeo-cfs/tree"
	"github.com/skopeo-cfs/skopeo-cfs/tree/extract"
)

func TestMain(m *testing.M) {
	if reexec.Init() {
		return
	}
	os.Exit(m.Run())
}

// treeIn returns the tree of layers, of a new repository in a directory.
func treeIn(t testing.TB, path string, layers ...[]byte) *tree.Tree {
	t.Helper()
	maker, err := repomaker.Create(path, fsverity.SHA256, repomaker.Options{})
	require.NoError(t, err)
	image := repomaker.Image{Listing: repomaker.Pretended}
	for _, l := range layers {
		image.Layers = append(image.Layers, repomaker.Layer{Tar: bytes.NewReader(l)})
	}
	_, err = maker.AddImage("image", image)
	require.NoError(t, err)
	repo, err := composefsrepo.Open(t.Context(), path, nil)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, repo.Close()) })
	opened, err := repo.ImageByTag(t.Context(), "image")
	require.NoError(t, err)
	files, err := tree.Read(t.Context(), opened)
	require.NoError(t, err)
	return files
}

func treeOf(t testing.TB, entries ...tartest.Entry) *tree.Tree {
	t.Helper()
	return treeIn(t, t.TempDir(), tartest.Tar(t, entries...))
}

// extractTo extracts what is at a path of a tree.
func extractTo(t testing.TB, files *tree.Tree, path, dest string, options extract.Options) (*extract.Result, error) {
	t.Helper()
	n, err := files.Lookup(path)
	require.NoError(t, err)
	return extract.File(t.Context(), files, n, dest, options)
}

// namesBelow returns the paths below a directory.
func namesBelow(t testing.TB, dir string) []string {
	t.Helper()
	names := []string{}
	for name := range trees.List(t, dir) {
		if name != "." {
			names = append(names, name)
		}
	}
	return names
}

// What root extracts of images is what containers-storage mounts of them.
func TestExtractedImages(t *testing.T) {
	needs.Root(t)
	images := map[string][][]byte{"generated": generated(t)}
	for _, layout := range []string{"hello", "sizes", "kinds", "dup", "rootdir", "gnu-ustar", "trailers", "repeated", "zstd", "emptylayers", "many"} {
		_, images[layout] = damaged.Fixture(t, layout)
	}
	for name, layers := range images {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			mounted, err := tartest.Mount(t, layers)
			require.NoError(t, err)
			want := trees.ListUnpacked(t, mounted, start)
			delete(want, ".") // in which versions of containers-storage differ

			dest := filepath.Join(t.TempDir(), "dest")
			_, err = extractTo(t, treeIn(t, t.TempDir(), layers...), "/", dest, extract.Options{Owners: true})
			require.NoError(t, err)
			got := trees.ListUnpacked(t, dest, start)
			delete(got, ".")
			for path, e := range want { // lower layers may have more names
				e.Links = ""
				want[path] = e
			}
			for path, e := range got {
				e.Links = ""
				got[path] = e
			}
			assert.Equal(t, want, got)
		})
	}
}

func generated(t testing.TB) [][]byte {
	t.Helper()
	layers, err := genimage.Generate(genimage.Spec{Files: 1000, Bytes: 4 << 20, Layers: 3, Seed: 7})
	require.NoError(t, err)
	var tars [][]byte
	for _, l := range layers {
		var out bytes.Buffer
		_, err := l.WriteTo(&out)
		require.NoError(t, err)
		tars = append(tars, out.Bytes())
	}
	return tars
}

// Names of one file stay that, those that are extracted.
func TestHardLinks(t *testing.T) {
	files := treeOf(t, tartest.File("d/a", "a"), tartest.HardLink("d/b", "d/a"), tartest.HardLink("c", "d/a"))
	dest := filepath.Join(t.TempDir(), "d")
	_, err := extractTo(t, files, "d", dest, extract.Options{})
	require.NoError(t, err)
	a, err := os.Stat(dest + "/a")
	require.NoError(t, err)
	b, err := os.Stat(dest + "/b")
	require.NoError(t, err)
	assert.True(t, os.SameFile(a, b))

	alone := filepath.Join(t.TempDir(), "alone")
	_, err = extractTo(t, files, "c", alone, extract.Options{})
	require.NoError(t, err)
	content, err := os.ReadFile(alone)
	require.NoError(t, err)
	assert.Equal(t, "a", string(content))
}

// On a filesystem that has it, blocks are shared.
func TestReflinks(t *testing.T) {
	needs.Tool(t, "mkfs.xfs")
	xfs := reflinks.XFS(t)
	files := treeIn(t, filepath.Join(xfs, "repository"), tartest.Tar(t, tartest.File("large", strings.Repeat("large", 100_000)), tartest.File("small", "small")))
	result, err := extractTo(t, files, "/", filepath.Join(xfs, "dest"), extract.Options{Owners: true})
	require.NoError(t, err)
	assert.Equal(t, &extract.Result{Files: 2, Shared: 500_000}, result)
	content, err := os.ReadFile(filepath.Join(xfs, "dest/large"))
	require.NoError(t, err)
	assert.Equal(t, strings.Repeat("large", 100_000), string(content))
	elsewhere, err := extractTo(t, files, "/", filepath.Join(t.TempDir(), "dest"), extract.Options{Owners: true})
	require.NoError(t, err)
	assert.Equal(t, &extract.Result{Files: 2, Written: 500_000}, elsewhere)
}

// Whoever is not to give files away gets them as their own.
func TestWithoutOwners(t *testing.T) {
	files := treeOf(t, tartest.File("f", "f").With(func(h *tar.Header) {
		h.Mode, h.Uid, h.Gid = 0o6755, 12, 34
		h.PAXRecords = map[string]string{"SCHILY.xattr.user.x": "y", "SCHILY.xattr.trusted.x": "y"}
	}))
	dest := t.TempDir()
	_, err := extractTo(t, files, "f", filepath.Join(dest, "f"), extract.Options{})
	require.NoError(t, err)
	got := trees.List(t, dest)["f"]
	assert.Equal(t, "100755", got.Mode)
	assert.EqualValues(t, os.Getuid(), got.UID)
	assert.Equal(t, `user.x="y"`, got.Xattrs)
}

// Attributes that can't be are left out, and counted.
func TestAttributesLeftOut(t *testing.T) {
	needs.Root(t)
	files := treeOf(t, tartest.Symlink("s", "x").With(func(h *tar.Header) {
		h.PAXRecords = map[string]string{"SCHILY.xattr.user.x": "y", "SCHILY.xattr.trusted.x": "y"}
	}),
		tartest.File("f", "f").With(func(h *tar.Header) { h.PAXRecords = map[string]string{"SCHILY.xattr.trusted.x": "y"} }))
	dest := filepath.Join(t.TempDir(), "dest")
	result, err := extractTo(t, files, "/", dest, extract.Options{Owners: true})
	require.NoError(t, err)
	assert.EqualValues(t, 1, result.LeftOut)
	assert.Equal(t, `trusted.x="y"`, trees.List(t, dest)["s"].Xattrs)
	assert.Equal(t, `trusted.x="y"`, trees.List(t, dest)["f"].Xattrs)
}

// What is there stays as it is, and directories get more.
func TestWhatIsThere(t *testing.T) {
	files := treeOf(t, tartest.Dir("d"), tartest.File("d/new", "new"), tartest.Dir("d/sub"), tartest.File("d/sub/new", "new"))
	made := func(t *testing.T, entries ...string) string {
		dest := t.TempDir()
		for _, e := range entries {
			path := filepath.Join(dest, e)
			switch {
			case strings.HasSuffix(e, "/"):
				require.NoError(t, os.MkdirAll(path, 0o711))
			case strings.HasSuffix(e, "@"):
				require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
				require.NoError(t, os.Symlink(t.TempDir(), strings.TrimSuffix(path, "@")))
			default:
				require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
				require.NoError(t, os.WriteFile(path, []byte("old"), 0o600))
			}
		}
		return dest
	}
	t.Run("directories", func(t *testing.T) {
		dest := made(t, "d/sub/", "d/old", "other")
		before := trees.List(t, dest)
		_, err := extractTo(t, files, "d", filepath.Join(dest, "d"), extract.Options{})
		require.NoError(t, err)
		after := trees.List(t, dest)
		assert.ElementsMatch(t, []string{"d", "d/sub", "d/old", "d/new", "d/sub/new", "other"}, namesBelow(t, dest))
		for _, name := range []string{"d", "d/sub", "d/old"} {
			assert.Equal(t, before[name].Mode, after[name].Mode, name)
		}
	})
	for name, there := range map[string][]string{
		"a file":                   {"d/sub/new"},
		"a symlink":                {"d/sub/new@"},
		"a directory":              {"d/sub/new/"},
		"a file for a directory":   {"d/sub"},
		"a symlink to a directory": {"d/sub@"},
		"the destination, a file":  {"d"},
		"the destination, a link":  {"d@"},
	} {
		t.Run(name, func(t *testing.T) {
			dest := made(t, there...)
			before := trees.List(t, dest)
			_, err := extractTo(t, files, "d", filepath.Join(dest, "d"), extract.Options{})
			assert.ErrorIs(t, err, extract.ErrExists)
			after := trees.List(t, dest)
			for _, all := range []map[string]trees.Entry{before, after} {
				for name, e := range all { // of directories in which something was for a while
					e.ModTime = ""
					all[name] = e
				}
			}
			assert.Equal(t, before, after)
		})
	}
	t.Run("the working directory", func(t *testing.T) {
		dest := made(t, "other")
		t.Chdir(dest)
		_, err := extractTo(t, files, "d", ".", extract.Options{})
		require.NoError(t, err)
		assert.ElementsMatch(t, []string{"other", "new", "sub", "sub/new"}, namesBelow(t, dest))
		_, err = extractTo(t, files, "d/new", ".", extract.Options{})
		assert.Error(t, err)
	})
	t.Run("nothing to be in", func(t *testing.T) {
		_, err := extractTo(t, files, "d", filepath.Join(t.TempDir(), "a/b"), extract.Options{})
		assert.ErrorIs(t, err, os.ErrNotExist)
	})
}

// An extraction that fails leaves nothing.
func TestFailureLeavesNothing(t *testing.T) {
	content := strings.Repeat("content", 100)
	entries := []tartest.Entry{tartest.Dir("a"), tartest.Symlink("a/s", "x"), tartest.Dir("z")}
	for i := range 50 {
		entries = append(entries, tartest.File(fmt.Sprintf("a/%d", i), fmt.Sprint(i, content)))
	}
	entries = append(entries, tartest.HardLink("z/link", "a/1"), tartest.File("z/last", content))
	repository := t.TempDir()
	files := treeIn(t, repository, tartest.Tar(t, entries...))
	n, err := files.Lookup("z/last")
	require.NoError(t, err)
	object := filepath.Join(repository, "objects", n.Object().String()[:2], n.Object().String()[2:])
	require.NoError(t, os.WriteFile(object, []byte(strings.ToUpper(content)), 0o644))
	t.Run("altered", func(t *testing.T) {
		dest := t.TempDir()
		_, err := extractTo(t, files, "/", filepath.Join(dest, "new"), extract.Options{})
		assert.ErrorIs(t, err, composefsrepo.ErrVerity)
		assert.Empty(t, namesBelow(t, dest))
	})
	t.Run("in a directory that was there", func(t *testing.T) {
		dest := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dest, "other"), nil, 0o644))
		_, err := extractTo(t, files, "/", dest+"/.", extract.Options{})
		assert.ErrorIs(t, err, composefsrepo.ErrVerity)
		assert.Equal(t, []string{"other"}, namesBelow(t, dest))
	})
	t.Run("cancelled", func(t *testing.T) {
		dest := t.TempDir()
		ctx, cancel := context.WithCancelCause(t.Context())
		stop := fmt.Errorf("stop")
		cancel(stop)
		_, err = extract.File(ctx, files, files.Root(), filepath.Join(dest, "new"), extract.Options{})
		assert.ErrorIs(t, err, stop)
		assert.Empty(t, namesBelow(t, dest))
	})
}

// A disk that gets full is a failure like others.
func TestFullDisk(t *testing.T) {
	needs.Tool(t, "mkfs.xfs")
	small := reflinks.Mount(t, 4<<20, "mkfs.ext4", "-q")
	files := treeOf(t, tartest.Dir("d"), tartest.File("d/a", strings.Repeat("a", 1<<20)), tartest.File("d/b", strings.Repeat("b", 8<<20)))
	_, err := extractTo(t, files, "d", filepath.Join(small, "d"), extract.Options{})
	assert.ErrorIs(t, err, unix.ENOSPC)
	assert.NoDirExists(t, filepath.Join(small, "d"))
}

// A sparse file has holes where it had them.
func TestSparse(t *testing.T) {
	const size = 64 << 20
	files := treeIn(t, t.TempDir(), tartest.Sparse(t, "sparse", "1\n1048576\n512\n", strings.Repeat("s", 512), size))
	dest := filepath.Join(t.TempDir(), "sparse")
	_, err := extractTo(t, files, "sparse", dest, extract.Options{})
	require.NoError(t, err)
	var stat unix.Stat_t
	require.NoError(t, unix.Stat(dest, &stat))
	assert.EqualValues(t, size, stat.Size)
	assert.Less(t, stat.Blocks*512, int64(1<<20))
	f, err := os.Open(dest)
	require.NoError(t, err)
	defer f.Close()
	data, err := io.ReadAll(io.NewSectionReader(f, 1<<20-1, 514))
	require.NoError(t, err)
	assert.Equal(t, "\x00"+strings.Repeat("s", 512)+"\x00", string(data))
}
