package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
	"github.com/skopeo-cfs/skopeo-cfs/internal/genimage"
	"github.com/skopeo-cfs/skopeo-cfs/internal/repomaker"
	"github.com/skopeo-cfs/skopeo-cfs/internal/tartest"
	"github.com/skopeo-cfs/skopeo-cfs/internal/trees"
	"github.com/skopeo-cfs/skopeo-cfs/transport"
)

// filesOf returns what files --json lists, by path.
func filesOf(t testing.TB, args ...string) map[string]listedFile {
	t.Helper()
	got := runCommand(t, append([]string{"files", "--json"}, args...)...)
	got.requireSuccess(t)
	var list []listedFile
	require.NoError(t, json.Unmarshal([]byte(got.stdout), &list))
	files := map[string]listedFile{}
	for _, f := range list {
		if f.RawPath != nil {
			f.Path = string(f.RawPath)
		}
		files[f.Path] = f
	}
	assert.Len(t, files, len(list))
	return files
}

// asEntry returns a listed file as trees.List has it, but for the content.
func asEntry(t testing.TB, f listedFile) trees.Entry {
	t.Helper()
	types := map[string]uint64{}
	for bits, kind := range kinds {
		types[kind.name] = uint64(bits)
	}
	permissions, err := strconv.ParseUint(f.Mode, 8, 32)
	require.NoError(t, err)
	e := trees.Entry{
		Mode: fmt.Sprintf("%o", types[f.Type]|permissions), UID: uint32(f.UID), GID: uint32(f.GID),
		Device: f.Device, Target: f.Target,
	}
	if f.Size != nil {
		e.Size = *f.Size
	}
	xattrs := map[string]string{}
	for name, value := range f.Xattrs {
		xattrs[name] = string(value)
	}
	e.Xattrs = trees.Joined(xattrs)
	if f.ModTime != "" {
		at, ok := new(big.Rat).SetString(f.ModTime.String())
		require.True(t, ok)
		e.ModTime = at.FloatString(9)
	}
	return e
}

// What is listed of an image is what podman mounts of it.
func TestFilesAreWhatPodmanMounts(t *testing.T) {
	t.Parallel()
	s, fixture := newStore(t, t.TempDir()), fixtures.Unpack(t, "sha256")
	names := map[string]string{"generated": "composefs:[" + newGenerated(t) + "]image"}
	for layout, image := range fixtures.Layouts(t, "sha256") {
		if refusedByStorage[layout] == "" && layout != "sbom" {
			names[layout] = nameOf(fixture, layout, image)
		}
	}
	for layout, name := range names {
		t.Run(layout, func(t *testing.T) {
			copyImage(t, name, s.image(layout)).requireSuccess(t)
			at := strings.TrimSpace(s.podman(t, "image", "mount", "localhost/"+layout))
			want := trees.List(t, at)
			s.podman(t, "image", "unmount", "localhost/"+layout)
			files := filesOf(t, name)
			got, first := map[string]trees.Entry{}, map[string]string{}
			for path, f := range files {
				relative := strings.TrimPrefix(path, "/")
				got[relative] = asEntry(t, f)
				e := want[relative]
				if f.ModTime == "" {
					e.ModTime = ""
				}
				if f.LinkTo != "" {
					first[path] = f.LinkTo
					assert.Contains(t, e.Links, strings.TrimPrefix(f.LinkTo, "/"), path)
				}
				e.Content, e.Links = "", ""
				want[relative] = e
			}
			delete(want, ".")
			delete(want, "")
			delete(got, "")
			assert.Equal(t, want, got)
		})
	}
}

// newGenerated returns a repository with an image like a distribution's.
func newGenerated(t testing.TB) string {
	t.Helper()
	maker, err := repomaker.Create(t.TempDir(), fsverity.SHA256, repomaker.Options{})
	require.NoError(t, err)
	layers, err := genimage.Generate(genimage.Spec{Files: 500, Bytes: 2 << 20, Layers: 3, Seed: 3})
	require.NoError(t, err)
	image := repomaker.Image{Listing: repomaker.Pretended}
	for _, l := range layers {
		in := l.Reader()
		defer in.Close()
		image.Layers = append(image.Layers, repomaker.Layer{Tar: in})
	}
	_, err = maker.AddImage("image", image)
	require.NoError(t, err)
	return maker.Path()
}

// newImage returns the name of an image of layers.
func newImage(t testing.TB, layers ...[]byte) string {
	t.Helper()
	f := newForge(t)
	f.tag("image", f.image(layers...))
	return "[" + f.repo + "]image"
}

func TestFilesAsText(t *testing.T) {
	t.Parallel()
	name := newImage(t,
		tartest.Tar(t, tartest.Dir("d"), tartest.File("d/a", "12345"), tartest.HardLink("d/b", "d/a"), tartest.Symlink("d/s", "a"), tartest.File("gone", "")),
		tartest.Tar(t, tartest.File("e/esc\x1b[2J\n", "x"), tartest.File(".wh.gone", "")),
	)
	at := "1970-01-01 00:00"
	got := runCommand(t, "files", name)
	got.requireSuccess(t)
	assert.Equal(t, strings.Join([]string{
		"/:",
		"drwxr-x--- 0 0 - " + at + " d",
		"drwxr-xr-x 0 0 -                - e",
		"",
		"/d:",
		"-rw-r--r-- 0 0 5 " + at + " a",
		"-rw-r--r-- 0 0 5 " + at + " b",
		"lrwxrwxrwx 0 0 1 " + at + " s -> a",
		"",
		"/e:",
		"-rw-r--r-- 0 0 1 " + at + ` "esc\x1b[2J\n"`,
		"",
	}, "\n"), got.stdout)

	got = runCommand(t, "files", "--layers", "--du", "composefs:"+name, "d/../d/.")
	got.requireSuccess(t)
	assert.Equal(t, "/d:\ntotal 5\n1 -rw-r--r-- 0 0 5 "+at+" a\n1 -rw-r--r-- 0 0 5 "+at+" b\n1 lrwxrwxrwx 0 0 1 "+at+" s -> a\n", got.stdout)

	got = runCommand(t, "files", name, "d/s")
	got.requireSuccess(t)
	assert.Equal(t, "-rw-r--r-- 0 0 5 "+at+" /d/s\n", got.stdout)

	files := filesOf(t, "--du", name)
	assert.EqualValues(t, 6, *files["/"].Total)
	assert.EqualValues(t, 5, *files["/d"].Total)
	assert.Equal(t, "/d/a", files["/d/b"].LinkTo)
	assert.Equal(t, []int{1, 2}, []int{files["/d/a"].Layer, files["/e/esc\x1b[2J\n"].Layer})
}

func TestFilesThatAreNotThere(t *testing.T) {
	t.Parallel()
	name := newImage(t, tartest.Tar(t, tartest.File("f", "x"), tartest.Symlink("loop", "loop")))
	runCommand(t, "files", name, "x").assertFailure(t, "lookup x: no such file")
	runCommand(t, "files", name, "loop").assertFailure(t, "too many levels of symbolic links")
	runCommand(t, "cat", name, "/f/x").assertFailure(t, "not a directory")
	runCommand(t, "cat", name, "/").assertFailure(t, `"/" is not a regular file but a directory`)
	for _, other := range []string{"docker://x", "oci:x", "containers-storage:x", "dir:/x"} {
		runCommand(t, "files", other).assertFailure(t, "only images of composefs repositories can be looked into")
	}
	runCommand(t, "files", "@booted/x").assertFailure(t)
	repo := fixtures.Unpack(t, "sha256")
	runCommand(t, "files", "["+repo+"]sbom").assertFailure(t, " of 2, sha256:", "not a tar")
}

// Images are named as everywhere; the transport can be left out.
func TestNamesOfImagesToLookInto(t *testing.T) {
	for name, want := range map[string]string{
		"os": "composefs:os", "composefs:os": "composefs:os", "quay.io/org/os:42": "composefs:quay.io/org/os:42", "localhost:5000/os": "composefs:localhost:5000/os",
		"@booted": "composefs:@booted", "[/a/b]os:1": "composefs:[/a/b]os:1", "composefs": "composefs:composefs", "@sha256:" + digestOfNothing[7:]: "composefs:@sha256:" + digestOfNothing[7:],
		"oci": "composefs:oci",
	} {
		got, err := composefsName(name)
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}
	assert.Equal(t, "composefs", transport.Transport.Name())
}

// Whoever only looks at the first lines wants no message.
func TestLookingWithoutAReader(t *testing.T) {
	t.Parallel()
	repo := fixtures.Unpack(t, "sha256")
	hello := "[" + repo + "]hello"
	for _, args := range [][]string{{"files", hello}, {"files", "--json", hello}, {"cat", hello, "/etc/os-release"}, {"layer", "ls", hello}, {"layer", "cat", hello, "1"}, {"layer", "files", hello, "1"}} {
		got := newCommand(t, args...).withoutReader(t).run(t)
		assert.Equal(t, 128+int(unix.SIGPIPE), got.code, args)
		assert.Empty(t, got.stderr, args)
	}
}

func TestInterruptedLooking(t *testing.T) {
	t.Parallel()
	repo, _ := newLarge(t)
	endless, dir := "["+repo+"]endless", t.TempDir()
	for _, args := range [][]string{{"cat", endless, "large"}, {"extract", endless, "/", filepath.Join(dir, "x")}} {
		c := newCommand(t, args...)
		c.start(t)
		c.waitUntil(t, "reading", func() bool { return reads(c.Process.Pid, repo) })
		c.interrupt(t, unix.SIGTERM).assertFailure(t, "interrupted by SIGTERM")
	}
	assert.Empty(t, namesIn(t, dir))

	c := newCommand(t, "layer", "cat", endless, "2")
	r, w, err := os.Pipe()
	require.NoError(t, err)
	c.Stdout = w
	c.start(t)
	require.NoError(t, w.Close())
	_, err = io.CopyN(io.Discard, r, pieceSize)
	require.NoError(t, err)
	go io.Copy(io.Discard, r)
	c.interrupt(t, unix.SIGTERM).assertFailure(t, "interrupted by SIGTERM")
}

// reads tells whether a process has the repository open.
func reads(pid int, repo string) bool {
	links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && strings.HasPrefix(target, repo) {
			return true
		}
	}
	return false
}
