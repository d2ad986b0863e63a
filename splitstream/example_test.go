package splitstream_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/splitstream"
)

// A file is taken apart into bytes of the stream's own and an object, and rebuilt.
func Example() {
	object := []byte("the content of an object\n")
	name, err := fsverity.Compute(fsverity.SHA256, bytes.NewReader(object))
	if err != nil {
		log.Fatal(err)
	}
	w := splitstream.NewWriter(fsverity.SHA256, splitstream.Blob)
	fmt.Fprintln(w, "before")
	if err := w.Object(name, int64(len(object))); err != nil {
		log.Fatal(err)
	}
	var stream bytes.Buffer
	if _, err := w.WriteTo(&stream); err != nil {
		log.Fatal(err)
	}

	r, err := splitstream.NewReader(bytes.NewReader(stream.Bytes()), int64(stream.Len()), fsverity.SHA256)
	if err != nil {
		log.Fatal(err)
	}
	content := r.Content(context.Background(), func(fsverity.Digest) (io.ReadCloser, int64, error) {
		return io.NopCloser(bytes.NewReader(object)), int64(len(object)), nil
	})
	defer content.Close()
	text, err := io.ReadAll(content)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(string(text))
	// Output:
	// before
	// the content of an object
}
