package reliability

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/internal/reflinks"
)

const (
	failedSection = "Copies that fail"
	failedHolds   = "The store is right, has what it had before, and no more images; the copy succeeds when the cause is gone, and its image is right"
)

var failedFaults = []fault{
	{section: failedSection, name: "an altered object", what: "An object of the top, or of the lowest, layer was altered", holds: failedHolds, run: alteredObject},
	{section: failedSection, name: "policy", what: "The policy rejects the image", holds: failedHolds, run: refused},
	{section: failedSection, name: "full disk", what: "The store's disk, which is not the repository's, gets full", holds: failedHolds, run: func(t *testing.T, s *suite, y *tally) {
		fullDisk(t, s, y, false)
	}},
	{section: failedSection, name: "full disk with reflinks", what: "The disk that the store shares with the repository is full but for some KiB", holds: failedHolds, run: func(t *testing.T, s *suite, y *tally) {
		fullDisk(t, s, y, true)
	}},
}

// newUsedStore returns a store with an image and a container.
func (s *suite) newUsedStore(t *testing.T, y *tally, disk string) *store {
	t.Helper()
	st := s.newStoreOn(t, disk)
	y.expect(st.copy(s.images.sibling).wait().mustSucceed(), "copying %s", s.images.sibling.name)
	_, err := st.podman("create", s.images.sibling.podmanName(), "true")
	y.expect(err, "creating a container")
	return st
}

// failOnce has a copy fail and checks what is there then, and that it succeeds
// after mend.
func (st *store) failOnce(t *testing.T, y *tally, i image, about string, mend func()) {
	before := st.everything(y)
	got := st.copy(i).wait()
	y.count("copies", 1)
	if got.err == nil && got.code == 0 {
		y.see("succeeded all the same")
		mend()
		y.expect(st.holds(i, st.suite.images.sibling), "after a copy that succeeded")
		return
	}
	y.expect(got.mustFail(about), "the copy")
	mend()
	y.expect(st.changed(y, before), "the store after %s", about)
	y.expect(st.left(t), "after %s", about)
	y.expect(st.check(), "after %s", about)
	y.expect(st.holds(st.suite.images.sibling), "after %s", about)
	y.expect(st.copy(i).wait().mustSucceed(), "when the cause of %s is gone", about)
	y.expect(st.check(), "when the cause of %s is gone", about)
	y.expect(st.holds(i, st.suite.images.sibling), "when the cause of %s is gone", about)
}

// changed returns an error if layers, images or containers are missing that were
// there before, or if there are more images or containers.
func (st *store) changed(y *tally, before []string) error {
	after := st.everything(y)
	for _, entry := range before {
		if !slices.Contains(after, entry) {
			return fmt.Errorf("%s is missing", entry)
		}
	}
	for _, entry := range after {
		if !slices.Contains(before, entry) && !strings.HasPrefix(entry, "layers ") {
			return fmt.Errorf("%s is new", entry)
		}
	}
	return nil
}

func alteredObject(t *testing.T, s *suite, y *tally) {
	m := newMaker(t, filepath.Join(s.disk, "altered"))
	one, two := bytes.Repeat([]byte("one\n"), 50_000), bytes.Repeat([]byte("two\n"), 50_000)
	i := m.add("image", tarOf(t, file{name: "one", content: string(one)}), tarOf(t, file{name: "two", content: string(two)}))
	for _, content := range [][]byte{one, two} {
		d, _, err := m.repo.AddObject(bytes.NewReader(content))
		require.NoError(t, err)
		altered := bytes.Clone(content)
		altered[100_000] ^= 1
		require.NoError(t, os.WriteFile(m.repo.ObjectPath(d), altered, 0o644))
		st := s.newUsedStore(t, y, s.disk)
		st.failOnce(t, y, i, "object", func() {
			require.NoError(t, os.WriteFile(m.repo.ObjectPath(d), content, 0o644))
		})
	}
}

func refused(t *testing.T, s *suite, y *tally) {
	st := s.newUsedStore(t, y, s.disk)
	st.policy = filepath.Join(st.dir, "policy.json")
	require.NoError(t, os.WriteFile(st.policy, []byte(`{"default": [{"type": "reject"}]}`), 0o644))
	st.failOnce(t, y, s.images.large, "policy", func() { st.policy = "" })
}

// fullDisk has copies fail on a disk with less and less space: the repository is
// on it, too, or elsewhere.
func fullDisk(t *testing.T, s *suite, y *tally, shared bool) {
	disk := reflinks.Mount(t, 400<<20, "mkfs.xfs", "-q", "-m", "reflink=1")
	require.NoError(t, os.Chmod(disk, 0o755))
	free := []int64{0, 16 << 10, 64 << 10, 256 << 10, 512 << 10, 1 << 20, 2 << 20, 4 << 20}
	i := s.images.large
	if shared {
		i = newMaker(t, filepath.Join(disk, "repository")).add("copied", generateCopied(t)...)
	} else {
		free = append(free, 8<<20, 16<<20, 24<<20)
	}
	for n, space := range free {
		if n%choose(4, 1) != 0 {
			continue
		}
		st := s.newUsedStore(t, y, disk)
		filler := fill(t, disk, space)
		st.failOnce(t, y, i, "no space left on device", func() { require.NoError(t, os.Remove(filler)) })
		st.remove(t)
	}
}

// fill fills a disk but for so many bytes, with a file that it returns the path
// of.
func fill(t *testing.T, disk string, free int64) string {
	t.Helper()
	f, err := os.Create(filepath.Join(disk, "filler"))
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, unix.Syncfs(int(f.Fd()))) // or what is reserved for writing it back would become free later
	var size int64
	for step := int64(256 << 20); step >= 4096; {
		var stat unix.Statfs_t
		require.NoError(t, unix.Fstatfs(int(f.Fd()), &stat))
		if int64(stat.Bavail)*stat.Bsize-step < free || unix.Fallocate(int(f.Fd()), 0, size, step) != nil {
			step /= 2
			continue
		}
		size += step
	}
	return f.Name()
}
