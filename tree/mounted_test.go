package tree_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/needs"
	"github.com/skopeo-cfs/skopeo-cfs/internal/repomaker"
	"github.com/skopeo-cfs/skopeo-cfs/internal/tartest"
	"github.com/skopeo-cfs/skopeo-cfs/internal/trees"
	"github.com/skopeo-cfs/skopeo-cfs/tree"
)

// unknown is what a tree does not know of the time of a file.
const unknown = "unknown"

// listTree lists a tree as trees.List lists a directory.
func listTree(t testing.TB, files *tree.Tree) map[string]trees.Entry {
	t.Helper()
	entries, names := map[string]trees.Entry{}, map[*tree.Node][]string{}
	fsys := files.FS(t.Context())
	var list func(name string, n *tree.Node)
	list = func(name string, n *tree.Node) {
		e := trees.Entry{Mode: fmt.Sprintf("%o", n.Mode), UID: n.UID, GID: n.GID, ModTime: timeOnDisk(n), Xattrs: xattrsOnDisk(n)}
		switch n.Type() {
		case unix.S_IFREG:
			content, err := fsys.ReadFile(name)
			require.NoError(t, err)
			require.Len(t, content, int(n.Size))
			sum := sha256.Sum256(content)
			e.Size, e.Content = n.Size, hex.EncodeToString(sum[:])
		case unix.S_IFLNK:
			e.Size, e.Target = n.Size, n.Target
		case unix.S_IFCHR, unix.S_IFBLK:
			e.Device = fmt.Sprintf("%d:%d", unix.Major(n.Rdev), unix.Minor(n.Rdev))
		}
		names[n] = append(names[n], name)
		entries[name] = e
		for _, child := range n.Children() {
			list(path.Join(name, child.Name), child.Node)
		}
	}
	list(".", files.Root())
	for n, all := range names {
		assert.Len(t, all, n.Links)
		if len(all) == 1 {
			continue
		}
		slices.Sort(all)
		for _, name := range all {
			e := entries[name]
			e.Links = strings.Join(all, " ")
			entries[name] = e
		}
	}
	return entries
}

// timeOnDisk returns the time that containers-storage gives a file.
func timeOnDisk(n *tree.Node) string {
	at := n.ModTime
	switch {
	case n.Implied || n.IsSymlink() && !fitsEverywhere(at):
		return unknown
	case n.IsSymlink():
		at = time.Unix(0, at.UnixNano())
	case at.Before(time.Unix(0, 0)), at.After(time.Unix(0, 1<<63-1)):
		at = time.Unix(0, 0)
	}
	ts := unix.NsecToTimespec(at.UnixNano())
	return fmt.Sprintf("%d.%09d", ts.Sec, ts.Nsec)
}

// fitsEverywhere tells whether every filesystem can have a time: some end in 1901 and
// in 2038.
func fitsEverywhere(at time.Time) bool {
	return at.Unix() >= math.MinInt32 && at.Unix() <= math.MaxInt32
}

// xattrsOnDisk returns a file's attributes as trees.List does: the kernel does not
// return capabilities that are empty.
func xattrsOnDisk(n *tree.Node) string {
	xattrs := maps.Clone(n.Xattrs)
	if value, ok := xattrs["security.capability"]; ok && value == "" {
		xattrs["security.capability"] = "(invalid)"
	}
	return trees.Joined(xattrs)
}

// assertMounted demands that a directory has the tree's files. The attributes of the
// root are for the versions of containers-storage to differ in.
func assertMounted(t testing.TB, dir string, files *tree.Tree) {
	t.Helper()
	want, got := trees.List(t, dir), listTree(t, files)
	sortNames(want)
	for name, e := range want {
		if got[name].ModTime == unknown {
			e.ModTime = unknown
		}
		want[name] = e
	}
	delete(want, ".")
	delete(got, ".")
	if assert.ObjectsAreEqual(want, got) {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if e, ok := got[name]; !ok {
			t.Errorf("the tree lacks %q, which is %+v", name, want[name])
		} else {
			assert.Equal(t, want[name], e, name)
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%q is in the tree alone, as %+v", name, got[name])
		}
	}
}

// sortNames sorts the names of files with several; the lower layers may have had more
// of them.
func sortNames(entries map[string]trees.Entry) {
	names := map[string][]string{}
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		names[entries[name].Links] = append(names[entries[name].Links], name)
	}
	for name, e := range entries {
		if of := names[e.Links]; e.Links != "" && len(of) > 1 {
			e.Links = strings.Join(of, " ")
		} else {
			e.Links = ""
		}
		entries[name] = e
	}
}

// imageOf returns an image of layers, of a new repository.
func imageOf(t testing.TB, layers ...[]byte) (*composefsrepo.Image, error) {
	t.Helper()
	maker, err := repomaker.Create(t.TempDir(), fsverity.SHA256, repomaker.Options{})
	require.NoError(t, err)
	image := repomaker.Image{Listing: repomaker.Pretended}
	for _, l := range layers {
		image.Layers = append(image.Layers, repomaker.Layer{Tar: bytes.NewReader(l)})
	}
	if _, err := maker.AddImage("image", image); err != nil {
		return nil, err
	}
	opened, err := open(t, maker.Path()).ImageByTag(t.Context(), "image")
	require.NoError(t, err)
	return opened, nil
}

// compareMounted compares the tree of layers to what is mounted of them, and tells
// whether there was anything to compare.
func compareMounted(t *testing.T, layers ...[]byte) bool {
	t.Helper()
	for _, l := range layers {
		// The first changes other things, too, and the second leads overlay filesystems
		// to other places.
		if bytes.Contains(l, []byte("posix_acl")) || bytes.Contains(l, []byte("trusted.overlay.redirect")) {
			return false
		}
	}
	image, err := imageOf(t, layers...)
	if err != nil {
		return false
	}
	files, treeErr := tree.Read(t.Context(), image)
	dir, err := tartest.Mount(t, layers)
	if err != nil {
		return false
	}
	if !assert.NoError(t, treeErr, "containers-storage unpacks it") {
		return false
	}
	assertMounted(t, dir, files)
	return true
}

// The trees of images that builders made are what containers-storage mounts.
func TestFixturesMounted(t *testing.T) {
	needs.Root(t)
	for layout, layers := range fixtureLayers(t) {
		t.Run(layout, func(t *testing.T) { assert.True(t, compareMounted(t, layers...)) })
	}
}

// fixtureLayers returns the layers of the fixtures' images, by layout.
func fixtureLayers(t testing.TB) map[string][][]byte {
	t.Helper()
	all := map[string][][]byte{}
	for layout, image := range fixtureImages(t) {
		for i := range image.Layers {
			in, err := image.OpenLayer(t.Context(), i)
			require.NoError(t, err)
			content, err := io.ReadAll(in)
			require.NoError(t, err)
			require.NoError(t, in.Close())
			all[layout] = append(all[layout], content)
		}
	}
	return all
}

// Layers that are out of the ordinary, one over the other.
func TestTarsOfTheGrammarMounted(t *testing.T) {
	needs.Root(t)
	random := rand.New(rand.NewPCG(0, 0))
	var usable [][]byte
	for seed := 0; len(usable) < 50; seed++ {
		layer := tartest.Generate(tartest.Choices(seed))
		if _, err := tartest.Mount(t, [][]byte{layer}); err == nil {
			usable = append(usable, layer)
		}
	}
	const all = 80
	compared := 0
	for i := range all {
		layers := make([][]byte, 1+i%4)
		for n := range layers {
			layers[n] = usable[random.IntN(len(usable))]
		}
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			if compareMounted(t, layers...) {
				compared++
			}
		})
	}
	t.Logf("%d of %d were compared", compared, all)
	assert.Greater(t, compared, all/2)
}

// Layers in whose place and way there is much, in one another and in themselves.
func TestCollidingLayersMounted(t *testing.T) {
	needs.Root(t)
	random := rand.New(rand.NewPCG(0, 0))
	const all = 400
	compared := 0
	for i := range all {
		layers := make([][]byte, 0, 3)
		for len(layers) < 1+i%3 {
			layer := tartest.Colliding(t, random)
			if _, err := tartest.Mount(t, [][]byte{layer}); err == nil || random.IntN(10) == 0 {
				layers = append(layers, layer)
			}
		}
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			if compareMounted(t, layers...) {
				compared++
			}
		})
	}
	t.Logf("%d of %d were compared", compared, all)
	assert.Greater(t, compared, all/2)
}

// FuzzTree compares the tree of two layers to what is mounted of them, where
// containers-storage unpacks them. They are tars, or the choices that make them.
func FuzzTree(f *testing.F) {
	for _, layers := range fixtureLayers(f) {
		if last := len(layers) - 1; len(layers[0])+len(layers[last]) < 64<<10 {
			f.Add(layers[0], layers[last], true)
		}
	}
	for seed := range 64 {
		f.Add(tartest.Choices(2*seed), tartest.Choices(2*seed+1), false)
	}
	f.Fuzz(func(t *testing.T, lower, upper []byte, areTars bool) {
		needs.Root(t)
		if !areTars {
			lower, upper = tartest.Generate(lower), tartest.Generate(upper)
		}
		compareMounted(t, lower, upper)
	})
}
