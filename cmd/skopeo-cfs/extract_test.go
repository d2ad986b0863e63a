package main

import (
	"archive/tar"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/internal/tartest"
	"github.com/skopeo-cfs/skopeo-cfs/internal/trees"
)

func TestCat(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("\x1b[2J\xff\n", 10_000)
	name := newImage(t, tartest.Tar(t, tartest.File("f", "content"), tartest.File("long", long), tartest.Symlink("s", "/f")))
	for path, want := range map[string]string{"f": "content", "/s": "content", "../../long": long} {
		got := runCommand(t, "cat", name, path)
		got.requireSuccess(t)
		assert.Equal(t, want, got.stdout)
	}
}

// On a terminal nothing is done that a file says.
func TestSpelled(t *testing.T) {
	text := "ü日\t\x1b[2J\r\n\xff\xfe\xc3"
	for size := 1; size <= len(text); size++ {
		var out strings.Builder
		s := &spelled{out: &out}
		for rest := text; rest != ""; {
			n := min(size, len(rest))
			_, err := s.Write([]byte(rest[:n]))
			require.NoError(t, err)
			rest = rest[n:]
		}
		require.NoError(t, s.end())
		assert.Equal(t, "ü日\t\\x1b[2J\\r\n\\xff\\xfe\\xc3", out.String())
	}
}

func TestExtract(t *testing.T) {
	t.Parallel()
	name := newImage(t, tartest.Tar(t, tartest.Dir("d"), tartest.File("d/f", "content"), tartest.Symlink("s", "d"), tartest.File("g", "g")))
	run := func(dir string, args ...string) outcome {
		c := newCommand(t, append([]string{"extract", name}, args...)...)
		c.Dir = dir
		return c.run(t)
	}
	for _, test := range []struct{ path, dest, want string }{
		{"d", ".", "d d/f"},
		{"d", "new", "new new/f"},
		{"/d/", "./", "d d/f"},
		{"s", ".", "s s/f"},
		{"s/f", ".", "f"},
		{"d/f", "new", "new"},
		{"/", ".", "d d/f g s"},
		{"/", "new", "new new/d new/d/f new/g new/s"},
		{"..", ".", "d d/f g s"},
	} {
		dir := t.TempDir()
		run(dir, test.path, test.dest).requireSuccess(t)
		assert.Equal(t, test.want, strings.Join(pathsBelow(t, dir), " "), test)
	}
	dir := t.TempDir()
	run(dir, "d", ".").requireSuccess(t)
	run(dir, "d", ".").assertFailure(t, "d/f", "it is there already")
	run(dir, "g", "d/f").assertFailure(t, "it is there already")
	run(dir, "g", "missing/g").assertFailure(t, "no such file or directory")
	run(dir, "x", ".").assertFailure(t, "lookup x: no such file or directory")
	assert.Equal(t, "d d/f", strings.Join(pathsBelow(t, dir), " "))
}

// pathsBelow returns the paths below a directory, sorted.
func pathsBelow(t testing.TB, dir string) []string {
	t.Helper()
	var paths []string
	require.NoError(t, filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if path != dir {
			paths = append(paths, strings.TrimPrefix(path, dir+"/"))
		}
		return err
	}))
	return paths
}

// Users other than root own what they extract.
func TestExtractWithoutRoot(t *testing.T) {
	needRoot(t)
	name := newImage(t, tartest.Tar(t, tartest.File("f", "f").With(func(h *tar.Header) { h.Mode, h.Uid = 0o4755, 12 })))
	dir := t.TempDir()
	searchable(t, dir)
	repo := name[1:strings.Index(name, "]")]
	searchable(t, repo)
	require.NoError(t, os.Chown(dir, 65534, 65534))
	c := newCommand(t, "extract", name, "f", dir)
	require.NoError(t, os.Chown(c.tmp, 65534, 65534))
	searchable(t, c.tmp)
	binary, err := os.Executable()
	require.NoError(t, err)
	searchable(t, filepath.Dir(binary))
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	c.run(t).requireSuccess(t)
	got := trees.List(t, dir)["f"]
	assert.Equal(t, "100755", got.Mode)
	assert.EqualValues(t, 65534, got.UID)
}
