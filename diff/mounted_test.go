package diff_test

import (
	"archive/tar"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containers/storage/pkg/archive"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/diff"
	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/needs"
	"github.com/skopeo-cfs/skopeo-cfs/internal/tartest"
	"github.com/skopeo-cfs/skopeo-cfs/internal/trees"
)

// mount has containers-storage unpack layers and mounts them over each other.
func mount(t testing.TB, layers ...[]byte) string {
	t.Helper()
	needs.Root(t)
	var lower []string
	for _, layer := range layers {
		dir := t.TempDir()
		require.NoError(t, tartest.Extract(t, layer, dir, &archive.TarOptions{WhiteoutFormat: archive.OverlayWhiteoutFormat}))
		lower = append([]string{dir}, lower...)
	}
	lower = append(lower, t.TempDir()) // of one alone there is no overlay
	at := t.TempDir()
	if err := unix.Mount("overlay", at, "overlay", unix.MS_RDONLY, "lowerdir="+strings.Join(lower, ":")); err != nil {
		t.Skipf("no overlay can be mounted: %v", err)
	}
	t.Cleanup(func() { assert.NoError(t, unix.Unmount(at, 0)) })
	return at
}

// plain compares two directories, and returns what a diff should say of them.
func plain(old, new map[string]trees.Entry) (lines []string, newBytes int64) {
	paths := map[string]bool{}
	contents := map[string]bool{}
	for path, e := range old {
		paths[path] = true
		contents[e.Content] = true
	}
	for path, e := range new {
		paths[path] = true
		if e.Content != "" && !contents[e.Content] {
			contents[e.Content] = true
			newBytes += e.Size
		}
	}
	for path := range paths {
		b, had := old[path]
		a, has := new[path]
		name := filepath.Join("/", path)
		switch {
		case !had:
			lines = append(lines, "added "+name)
		case !has:
			lines = append(lines, "removed "+name)
		default:
			if what := plainChanges(b, a); len(what) > 0 {
				lines = append(lines, fmt.Sprintf("changed %s: %s", name, strings.Join(what, " ")))
			}
		}
	}
	slices.Sort(lines)
	return lines, newBytes
}

func plainChanges(b, a trees.Entry) (what []string) {
	differs := func(name string, does bool) {
		if does {
			what = append(what, name)
		}
	}
	typeOf := func(mode string) string { return mode[:len(mode)-4] }
	permissions := func(mode string) string { return mode[len(mode)-4:] }
	same := typeOf(b.Mode) == typeOf(a.Mode)
	// Of a symlink they are what the kernel makes them.
	isLink := b.Target != "" || a.Target != ""
	differs("type", !same)
	differs("content", same && b.Content != a.Content)
	differs("mode", permissions(b.Mode) != permissions(a.Mode) && !isLink)
	differs("owner", b.UID != a.UID || b.GID != a.GID)
	differs("xattrs", b.Xattrs != a.Xattrs)
	differs("target", same && b.Target != a.Target)
	differs("device", same && b.Device != a.Device)
	// Other names may be hidden by an upper layer.
	links := func(e trees.Entry) string {
		if !strings.Contains(e.Links, " ") {
			return ""
		}
		return e.Links
	}
	isDir := typeOf(b.Mode) == "4" || typeOf(a.Mode) == "4"
	differs("links", links(b) != links(a) && !isDir)
	return what
}

// lines returns what a diff says in that form.
func lines(files *diff.Files) []string {
	var all []string
	for _, c := range files.Changes {
		line := string(c.Kind) + " " + c.Path
		if c.Kind == diff.Changed {
			line += ": " + strings.Join(c.What, " ")
		}
		all = append(all, line)
	}
	slices.Sort(all)
	return all
}

// randomTree writes a tar of files of all types, most of which are the same for every
// seed. In an upper layer some are whiteouts.
func randomTree(t testing.TB, seed uint64, upper bool) []byte {
	t.Helper()
	own := rand.New(rand.NewPCG(seed, 2))
	dirs := []string{"", "p/", "q/", "p/r/"}
	entries := []entry{dir("p"), dir("q"), dir("p/r")}
	var regular []string
	for i := range uint64(80) {
		random := rand.New(rand.NewPCG(i, 1))
		r := random
		differs := own.IntN(4) == 0
		if differs {
			r = own
		}
		in := dirs[random.IntN(len(dirs))]
		name := fmt.Sprintf("%s%c%d", in, 'a'+rune(random.IntN(4)), i)
		header := tar.Header{Name: name, Mode: int64([]int{0o644, 0o755, 0o600, 0o4755}[r.IntN(4)]), Uid: r.IntN(2), Gid: r.IntN(2), PAXRecords: map[string]string{}}
		content := ""
		kind := random.IntN(12)
		if differs && own.IntN(6) == 0 {
			kind = own.IntN(12)
		}
		if r.IntN(5) == 0 && kind < 6 {
			header.PAXRecords["SCHILY.xattr.trusted.x"] = "value" + header.Name[:r.IntN(2)]
		}
		switch {
		case differs && own.IntN(3) == 0 && upper && in == "":
			// Below a directory that no other layer has, the kernel lists whiteouts.
			header.Name, header.Typeflag = ".wh."+name, tar.TypeReg
		case differs && own.IntN(6) == 0:
			continue
		case kind < 5:
			header.Typeflag = tar.TypeReg
			content = strings.Repeat(string(rune('a'+r.IntN(6))), []int{0, 1, 30, 64, 65, 300, 5000}[r.IntN(7)])
			regular = append(regular, name)
		case kind < 7:
			header.Typeflag, header.Name = tar.TypeDir, name+"/"
		case kind < 9:
			header.Typeflag, header.Linkname = tar.TypeSymlink, []string{"a", "/b", "../c"}[r.IntN(3)]
		case kind == 9:
			header.Typeflag, header.Devmajor, header.Devminor = tar.TypeChar, 1, int64(3+2*r.IntN(2))
		case kind == 10:
			header.Typeflag = tar.TypeFifo
		case len(regular) > 0:
			header.Typeflag, header.Linkname = tar.TypeLink, regular[r.IntN(len(regular))]
		default:
			continue
		}
		entries = append(entries, entry{header, content})
	}
	return makeTar(t, entries...)
}

// A diff is what a plain comparison of the mounted trees is.
func TestMountedTrees(t *testing.T) {
	needs.Root(t)
	kindsSeen := map[string]int{}
	for seed := range uint64(30) {
		base := randomTree(t, 0, false)
		old, new := [][]byte{base, randomTree(t, 100+seed, true)}, [][]byte{base, randomTree(t, 200+seed, true)}
		if seed%3 == 0 {
			old, new = old[:1], [][]byte{randomTree(t, 300+seed, false)}
		}
		oldAt, newAt := trees.List(t, mount(t, old...)), trees.List(t, mount(t, new...))
		want, newBytes := plain(oldAt, newAt)
		for _, algorithms := range [][2]fsverity.Algorithm{{fsverity.SHA512, fsverity.SHA512}, {fsverity.SHA512, fsverity.SHA256}} {
			one := newRepository(t, algorithms[0])
			another := one
			if algorithms[0] != algorithms[1] {
				another = newRepository(t, algorithms[1])
			}
			files := images(t, one.add(imgspecv1.ImageConfig{}, old...), another.add(imgspecv1.ImageConfig{}, new...), filesOnly).Files
			assert.Equal(t, want, lines(files), "seed %d", seed)
			assert.Equal(t, newBytes, files.NewBytes, "seed %d", seed)
			assert.Len(t, files.Changes, files.Added+files.Removed+files.Changed)
		}
		for _, line := range want {
			kind, rest, _ := strings.Cut(line, " ")
			kindsSeen[kind]++
			if _, what, changed := strings.Cut(rest, ": "); changed {
				for _, w := range strings.Fields(what) {
					kindsSeen[w]++
				}
			}
		}
	}
	for _, kind := range []string{"added", "removed", "changed", "type", "content", "mode", "owner", "xattrs", "target", "device", "links"} {
		assert.Positive(t, kindsSeen[kind], kind)
	}
	t.Log(kindsSeen)
}
