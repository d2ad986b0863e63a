package reliability

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var journalFaults = []fault{{
	section: endedSection, name: "journals of older versions",
	what:  "A journal that an older version left, with IDs of layers in use by images, layers above and a container, and of layers not in use; cut after every byte",
	holds: "A copy that finds it deletes nothing",
	run:   journals,
}}

func journals(t *testing.T, s *suite, y *tally) {
	st := s.newStore(t)
	large, sibling := s.images.large, s.images.sibling
	y.expect(st.copy(large).wait().mustSucceed(), "copying %s", large.name)
	y.expect(st.copy(sibling).wait().mustSucceed(), "copying %s", sibling.name)
	_, err := st.podman("create", sibling.podmanName(), "true")
	y.expect(err, "creating a container")
	unused := strings.Repeat("0123456789abcdef", 4)
	y.expect(st.put(unused), "making an unused layer")

	var ids []string
	for _, id := range append(large.layers, sibling.layers[1], unused) {
		ids = append(ids, id+"\n")
	}
	dir := filepath.Join(st.root, "skopeo-cfs")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	before := st.everything(y)
	// The layers in use come first and last in turn, since a copy may stop at the
	// first one that it can't delete.
	for _, text := range []string{strings.Join(ids, ""), strings.Join([]string{ids[4], ids[0]}, ""), ids[3] + ids[4]} {
		atOnce := choose(len(text)+1, 1)
		for cut := 0; cut <= len(text); cut += atOnce {
			for i := cut; i < min(cut+atOnce, len(text)+1); i++ {
				name := filepath.Join(dir, fmt.Sprintf("%d.journal", i))
				if err := os.WriteFile(name, []byte(text[:i]), 0o600); err != nil {
					t.Fatal(err)
				}
				y.count("journals", 1)
			}
			y.expect(st.copy(s.images.small).wait().mustSucceed(), "a copy that finds a journal cut after %d bytes", cut)
			if missing := st.missing(y, before); len(missing) > 0 {
				y.expect(fmt.Errorf("%q were deleted", missing), "a journal cut after %d bytes or more", cut)
				return
			}
		}
	}
	y.expect(st.check(), "after all journals")
	y.expect(st.holds(large, sibling, s.images.small), "after all journals")
}

// everything lists the layers, images and containers of the store.
func (st *store) everything(y *tally) []string {
	var all []string
	for _, kind := range []string{"layers", "images", "containers"} {
		records, err := st.records(kind)
		y.expect(err, "listing the %s", kind)
		for _, r := range records {
			all = append(all, kind+" "+r.ID)
		}
	}
	return all
}

// missing returns what of everything is there no more.
func (st *store) missing(y *tally, before []string) (missing []string) {
	now := map[string]bool{}
	for _, entry := range st.everything(y) {
		now[entry] = true
	}
	for _, entry := range before {
		if !now[entry] {
			missing = append(missing, entry)
		}
	}
	return missing
}
