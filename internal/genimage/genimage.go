// Package genimage generates image layers for tests and benchmarks: tars like
// those of a distribution's image in sizes, tree and compressibility, and the
// same for the same Spec. No layer is ever held in memory.
package genimage

import (
	"archive/tar"
	"bufio"
	"fmt"
	"io"
	"time"
)

// Spec is what is generated.
type Spec struct {
	Files  int   // regular files in all layers together; symlinks, hard links and directories come on top
	Bytes  int64 // their size together
	Layers int   // the first has half of the files
	Seed   uint64
}

// Layer is a layer of a generated image: what its tar has, but for the contents
// of files. It may be used concurrently.
type Layer struct {
	entries []entry
}

// entry is an entry of a tar: its header, and what its content is made of.
type entry struct {
	header  tar.Header
	content uint64 // seed of the content
}

// WriteTo writes the layer's tar. It can be called again and writes the same.
func (l *Layer) WriteTo(w io.Writer) (int64, error) {
	counted := &counter{w: w}
	buffered := bufio.NewWriterSize(counted, 256<<10)
	out := tar.NewWriter(buffered)
	for i := range l.entries {
		e := &l.entries[i]
		header := e.header // a Writer may change it
		if err := out.WriteHeader(&header); err != nil {
			return counted.n, fmt.Errorf("generating %s: %w", e.header.Name, err)
		}
		if e.header.Size == 0 {
			continue
		}
		if err := writeContent(out, e.content, e.header.Size); err != nil {
			return counted.n, fmt.Errorf("generating %s: %w", e.header.Name, err)
		}
	}
	if err := out.Close(); err != nil {
		return counted.n, err
	}
	err := buffered.Flush()
	return counted.n, err
}

// counter counts the bytes written through it.
type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// Reader returns the layer's tar. The caller closes it, at its end or before.
func (l *Layer) Reader() io.ReadCloser {
	r, w := io.Pipe()
	go func() {
		_, err := l.WriteTo(w)
		w.CloseWithError(err) // nil ends the file
	}()
	return r
}

// epoch is the time that the image's files are from.
var epoch = time.Date(2025, 3, 1, 12, 0, 0, 0, time.UTC)
