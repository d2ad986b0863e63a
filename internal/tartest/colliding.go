package tartest

import (
	"archive/tar"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// Colliding returns a tar of a few entries with so few names that they are often in
// each other's place, or way: files, directories, links of both kinds, whiteouts.
func Colliding(t testing.TB, random *rand.Rand) []byte {
	t.Helper()
	names := []string{"a", "b", "c"}
	path := func() string {
		parts := []string{}
		for range 1 + random.IntN(3) {
			parts = append(parts, names[random.IntN(len(names))])
		}
		return strings.Join(parts, "/")
	}
	var entries []Entry
	for i := range 1 + random.IntN(6) {
		e := File(path(), strings.Repeat("x", random.IntN(100)))
		switch random.IntN(12) {
		case 0, 1, 2:
			e = Dir(path())
		case 3:
			e = Symlink(path(), path())
		case 4:
			e = Symlink(path(), "/"+path())
		case 5:
			e = HardLink(path(), path())
		case 6, 7:
			dir := path()
			e = File(dir[:strings.LastIndex(dir, "/")+1]+".wh."+names[random.IntN(len(names))], "")
		case 8:
			e = File(path()+"/.wh..wh..opq", "")
		case 9:
			e = Entry{Header: tar.Header{Name: path(), Typeflag: tar.TypeChar}}
		}
		e.Mode, e.Uid, e.ModTime = random.Int64N(0o1000), random.IntN(3), time.Unix(int64(i), 0)
		if e.Typeflag == tar.TypeDir {
			e.Mode |= 0o700
		}
		entries = append(entries, e)
	}
	return Tar(t, entries...)
}
