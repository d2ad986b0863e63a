package splitstream_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
)

// Whatever the file: no panic, no more bytes than it states, and what is read
// to its end has just that size.
func FuzzReader(f *testing.F) {
	for _, repository := range []string{"sha256", "old-sha512"} {
		for _, file := range fixtures.Streams(f, repository) {
			if len(file) < 4096 {
				f.Add(file)
			}
		}
	}
	f.Add(handmade().file())
	f.Add(compress([]byte("before 2026")))
	open := func(d fsverity.Digest) (io.ReadCloser, int64, error) {
		content := bytes.Repeat(d.Bytes(), int(d.Bytes()[0]))
		return io.NopCloser(bytes.NewReader(content)), int64(len(content)), nil
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		r, err := newReader(file)
		if err != nil {
			return
		}
		_, _ = r.NamedRefs()
		_ = r.ObjectRefs(func(fsverity.Digest) error { return nil })
		if r.Size() > 1<<22 {
			return // takes long, legitimately
		}
		inline, objects, err := walk(r)
		if inline > r.Size() || objects > max(r.Size(), 1) {
			t.Errorf("%d inline bytes and %d objects of %d", inline, objects, r.Size())
		}
		content := r.Content(t.Context(), open)
		defer content.Close()
		n, contentErr := io.Copy(io.Discard, content)
		if n > r.Size() {
			t.Errorf("%d bytes of %d", n, r.Size())
		}
		if contentErr == nil && (n != r.Size() || err != nil) {
			t.Errorf("%d bytes of %d, iteration ended with %v", n, r.Size(), err)
		}
	})
}

// What is written is what is read.
func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte("inline|object|inline"), []byte{3, 1, 2})
	f.Add(sequence(5000), []byte{0, 255, 254, 1})
	f.Fuzz(func(t *testing.T, data, cuts []byte) {
		o := objects{}
		var pieces []piece
		for i, cut := range cuts {
			n := min(int(cut)*3, len(data))
			pieces = append(pieces, piece{data: data[:n], object: i%2 == 1 && n > 0})
			data = data[n:]
		}
		file, want := write(t, o, pieces...)
		r, err := newReader(file)
		if err != nil {
			t.Fatal(err)
		}
		content := r.Content(t.Context(), o.open)
		defer content.Close()
		got, err := io.ReadAll(content)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("read %d bytes of %d: %v", len(got), len(want), err)
		}
	})
}
