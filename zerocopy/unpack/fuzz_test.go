package unpack_test

import (
	"errors"
	"testing"

	"github.com/containers/storage/pkg/archive"

	"github.com/skopeo-cfs/skopeo-cfs/zerocopy/unpack"
)

// FuzzLayer unpacks anything: nothing around the directory is touched, and what
// was unpacked is rebuilt.
func FuzzLayer(f *testing.F) {
	for _, tars := range []map[string][]entry{usual, unusual} {
		for _, entries := range tars {
			if content := makeTar(f, entries...); len(content) < 100_000 {
				f.Add(content, int64(64))
			}
		}
	}
	f.Fuzz(func(t *testing.T, content []byte, limit int64) {
		options := &archive.TarOptions{WhiteoutFormat: archive.OverlayWhiteoutFormat}
		whole := ours(t, content, inline(content, 1000), options)
		parts := ours(t, content, split(t, content, max(limit, 0)), options)
		if (whole.err == nil) != (parts.err == nil) && !errors.Is(whole.err, unpack.ErrUnusual) {
			t.Errorf("in one piece: %v, in several: %v", whole.err, parts.err)
		}
	})
}
