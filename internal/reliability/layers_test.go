package reliability

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/skopeo-cfs/skopeo-cfs/internal/genimage"
)

const (
	layersSection = "Images that can't be shared as a whole"
	layersHolds   = "The image is right, with its manifest digest; the copy has 1 MiB for temporary files, which is less than a layer"
)

var layerFaults = []fault{
	{section: layersSection, name: "additional store", what: "The base layer is in an additional image store", holds: layersHolds + "; the base layer is not copied", run: additionalStore},
	{section: layersSection, name: "vfs", what: "The store has the driver vfs", holds: layersHolds, run: func(t *testing.T, s *suite, y *tally) {
		st := s.newStore(t)
		st.driver = "vfs"
		st.deliver(y, s.images.large, st.check)
	}},
	{section: layersSection, name: "no zero copy", what: "`--no-zero-copy`", holds: layersHolds, run: func(t *testing.T, s *suite, y *tally) {
		st := s.newStore(t)
		st.copyFlags = []string{"--no-zero-copy"}
		st.deliver(y, s.images.large, st.check)
		for _, i := range s.images.fixtures {
			st.deliver(y, i, st.check)
		}
	}},
	{section: layersSection, name: "replaced entry", what: "An entry of one layer takes the place of another one", holds: layersHolds, run: func(t *testing.T, s *suite, y *tally) {
		unusual(t, s, y, tarOf(t, file{name: "d/file", content: "x"}, file{name: "d", target: "elsewhere"}))
	}},
	{section: layersSection, name: "sparse file", what: "One layer has a sparse file", holds: layersHolds, run: func(t *testing.T, s *suite, y *tally) {
		unusual(t, s, y, sparseTar(t))
	}},
}

// generateCopied returns layers of some megabytes.
func generateCopied(t testing.TB) [][]byte {
	return generate(t, genimage.Spec{Files: 1000, Bytes: 16 << 20, Layers: 3, Seed: 2})
}

// deliver copies an image without space for temporary files. The check of the
// store is st.check, or less where the library's check finds fault with what the
// library itself has extracted.
func (st *store) deliver(y *tally, i image, check func() error) {
	st.withoutSpace = true
	y.count("copies", 1)
	if y.expect(st.copy(i).wait().mustSucceed(), "copying %s", i.name) {
		y.expect(check(), "after copying %s", i.name)
		y.expect(st.holds(i), "after copying %s", i.name)
	}
}

// withoutSpace has a program run with little space for temporary files, in the
// places where the library makes them.
func withoutSpace(cmd *exec.Cmd) *exec.Cmd {
	const script = `mount -t tmpfs -o size=1m none "$TMPDIR" && mount -t tmpfs -o size=1m none /var/tmp && exec "$@"`
	return exec.Command("unshare", append([]string{"--mount", "--propagation", "private", "sh", "-ec", script, "sh"}, cmd.Args...)...)
}

func additionalStore(t *testing.T, s *suite, y *tally) {
	layers := generateCopied(t)
	m := newMaker(t, filepath.Join(s.disk, "additional"))
	base, whole := m.add("base", layers[0]), m.add("whole", layers...)
	other := s.newStore(t)
	y.expect(other.copy(base).wait().mustSucceed(), "filling the additional store")
	unmountBelow(t, other.dir)
	st := s.newStore(t)
	st.additional = other.root
	st.deliver(y, whole, st.complete) // the check knows no parents in other stores
	found, err := st.records("layers")
	y.expect(err, "listing layers")
	if len(found) != len(layers)-1 {
		y.expect(fmt.Errorf("the store has %d layers, not %d", len(found), len(layers)-1), "copying above an additional store")
	}
}

// unusual copies an image of which one layer is unusual.
func unusual(t *testing.T, s *suite, y *tally, layer []byte) {
	layers := generateCopied(t)
	dir, err := os.MkdirTemp(s.disk, "unusual-")
	if err != nil {
		t.Fatal(err)
	}
	m := newMaker(t, filepath.Join(dir, "repository"))
	st := s.newStore(t)
	// The check can't rebuild the tars of such layers.
	st.deliver(y, m.add("on-top", layers[0], layers[1], layer), st.complete)
	st.deliver(y, m.add("between", layers[0], layer, layers[1]), st.complete)
}
