package splitstream

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/klauspost/compress/zstd"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
)

// Writer makes a splitstream. It holds the compressed inline bytes and the
// references until WriteTo writes the file. It is not safe for concurrent use.
type Writer struct {
	algorithm   fsverity.Algorithm
	contentType Type
	size        int64

	stream     bytes.Buffer
	compressor *zstd.Encoder
	inline     []byte // the current inline run

	objects     []fsverity.Digest
	objectIndex map[fsverity.Digest]int
	namedRefs   map[string]fsverity.Digest
}

// maxInlineRun is the length in bytes at which a run of inline bytes is ended
// and another begun, so that neither side has to hold a long one.
const maxInlineRun = 1 << 20

// NewWriter returns a Writer of an empty splitstream.
func NewWriter(algorithm fsverity.Algorithm, contentType Type) *Writer {
	w := &Writer{
		algorithm: algorithm, contentType: contentType,
		objectIndex: map[fsverity.Digest]int{},
		namedRefs:   map[string]fsverity.Digest{},
	}
	w.compressor = newCompressor(&w.stream)
	return w
}

func newCompressor(to io.Writer) *zstd.Encoder {
	e, err := zstd.NewWriter(to, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(2<<20), zstd.WithZeroFrames(true))
	if err != nil {
		panic(err) // the options are wrong, whatever the input
	}
	return e
}

// Write adds p to the rebuilt file as inline bytes.
func (w *Writer) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		n := min(len(rest), maxInlineRun-len(w.inline))
		w.inline = append(w.inline, rest[:n]...)
		if rest = rest[n:]; len(w.inline) == maxInlineRun {
			if err := w.flush(); err != nil {
				return len(p) - len(rest), err
			}
		}
	}
	w.size += int64(len(p))
	return len(p), nil
}

// flush ends the current inline run.
func (w *Writer) flush() error {
	if len(w.inline) == 0 {
		return nil
	}
	run := w.inline
	w.inline = w.inline[:0]
	if err := w.number(-int64(len(run))); err != nil {
		return err
	}
	_, err := w.compressor.Write(run)
	return err
}

func (w *Writer) number(n int64) error {
	_, err := w.compressor.Write(binary.LittleEndian.AppendUint64(nil, uint64(n)))
	return err
}

// Object adds the content of an object to the rebuilt file; size is its size in
// bytes.
func (w *Writer) Object(d fsverity.Digest, size int64) error {
	if err := w.check(d); err != nil {
		return err
	}
	if size < 0 {
		return fmt.Errorf("object %s of %d bytes", d, size)
	}
	i, ok := w.objectIndex[d]
	if !ok {
		i = len(w.objects)
		w.objectIndex[d] = i
		w.objects = append(w.objects, d)
	}
	if err := w.flush(); err != nil {
		return err
	}
	w.size += size
	return w.number(int64(i))
}

// NamedRef adds a reference to another splitstream, by the digest of its file,
// under a name that is not empty and has no NUL byte. A second reference with
// the same name replaces the first.
func (w *Writer) NamedRef(name string, d fsverity.Digest) error {
	if name == "" || bytes.IndexByte([]byte(name), 0) >= 0 {
		return fmt.Errorf("reference named %q", name)
	}
	w.namedRefs[name] = d
	return w.check(d)
}

func (w *Writer) check(d fsverity.Digest) error {
	if d.Size() != w.algorithm.Size() {
		return fmt.Errorf("%w: digest %s in a splitstream of %s", ErrAlgorithm, d, w.algorithm)
	}
	return nil
}

// WriteTo writes the splitstream and ends the Writer's use.
func (w *Writer) WriteTo(to io.Writer) (int64, error) {
	if err := errors.Join(w.flush(), w.compressor.Close()); err != nil {
		return 0, err
	}
	streamRefs, namedRefs, err := w.references()
	if err != nil {
		return 0, err
	}
	var objectRefs []byte
	for _, d := range w.objects {
		objectRefs = append(objectRefs, d.Bytes()...)
	}

	file := make([]byte, headerSize+infoSize)
	h, info := file[:headerSize], file[headerSize:]
	copy(h, magic)
	h[11], h[14], h[15] = version, w.algorithm.HashNumber(), w.algorithm.LogBlockSize
	binary.LittleEndian.PutUint64(h[16:], headerSize)
	binary.LittleEndian.PutUint64(h[24:], headerSize+infoSize)

	sections := [][]byte{streamRefs, objectRefs, w.stream.Bytes(), namedRefs}
	end := uint64(len(file))
	for i, s := range sections {
		binary.LittleEndian.PutUint64(info[16*i:], end)
		end += uint64(len(s))
		binary.LittleEndian.PutUint64(info[16*i+8:], end)
	}
	copy(info[64:], w.contentType[:])
	binary.LittleEndian.PutUint64(info[72:], uint64(w.size))

	var written int64
	for _, s := range append([][]byte{file}, sections...) {
		n, err := to.Write(s)
		written += int64(n)
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

// references returns the section of stream references, sorted, each once, and
// the compressed one that names them, sorted by name.
func (w *Writer) references() (streamRefs, namedRefs []byte, err error) {
	var named bytes.Buffer
	e := newCompressor(&named)
	digests := slices.SortedFunc(maps.Values(w.namedRefs), func(a, b fsverity.Digest) int {
		return bytes.Compare(a.Bytes(), b.Bytes())
	})
	digests = slices.Compact(digests)
	for _, d := range digests {
		streamRefs = append(streamRefs, d.Bytes()...)
	}
	for _, name := range slices.Sorted(maps.Keys(w.namedRefs)) {
		if _, err := fmt.Fprintf(e, "%d:%s\x00", slices.Index(digests, w.namedRefs[name]), name); err != nil {
			return nil, nil, err
		}
	}
	err = e.Close()
	return streamRefs, named.Bytes(), err
}
