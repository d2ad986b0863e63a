package splitstream

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
)

// Reader gives access to an open splitstream. It holds nothing but what the
// header and the info section say. Its methods may be called concurrently where
// the io.ReaderAt allows that, as files do.
type Reader struct {
	r         io.ReaderAt
	algorithm fsverity.Algorithm

	streamRefs, objectRefs, stream, namedRefs section

	contentType Type
	size        int64
}

// NewReader returns a Reader of the splitstream of size bytes in r. The caller
// keeps r open as long as the Reader, its Chunks or its Content are used, and
// closes it. Where want is not the zero Algorithm, a splitstream with another
// one is refused. The error wraps one of ErrFormat, ErrOldFormat, ErrVersion,
// ErrAlgorithm and ErrCorrupt, or is r's.
func NewReader(r io.ReaderAt, size int64, want fsverity.Algorithm) (*Reader, error) {
	h, err := readHeader(r, size)
	if err != nil {
		return nil, err
	}
	if want != (fsverity.Algorithm{}) && h.algorithm != want {
		return nil, fmt.Errorf("%w: %s instead of %s", ErrAlgorithm, h.algorithm, want)
	}
	if h.info.size() < infoSize {
		return nil, fmt.Errorf("%w: info section of %d bytes, want %d at least", ErrCorrupt, h.info.size(), infoSize)
	}
	var info [infoSize]byte
	if err := readFull(r, info[:], h.info.start); err != nil {
		return nil, fmt.Errorf("reading info section: %w", err)
	}

	s := &Reader{r: r, algorithm: h.algorithm, contentType: Type(info[64:72])}
	for i, to := range []*section{&s.streamRefs, &s.objectRefs, &s.stream, &s.namedRefs} {
		if *to, err = parseSection(info[16*i:], size); err != nil {
			return nil, err
		}
	}
	for _, refs := range []section{s.streamRefs, s.objectRefs} {
		if refs.size()%int64(s.algorithm.Size()) != 0 {
			return nil, fmt.Errorf("%w: references of %d bytes, not a multiple of %d", ErrCorrupt, refs.size(), s.algorithm.Size())
		}
	}
	contentSize := binary.LittleEndian.Uint64(info[72:])
	if contentSize > math.MaxInt64 {
		return nil, fmt.Errorf("%w: stream size %d", ErrCorrupt, contentSize)
	}
	s.size = int64(contentSize)
	return s, nil
}

// readHeader reads and judges the header, in either layout.
func readHeader(r io.ReaderAt, size int64) (header, error) {
	var raw [headerSize]byte
	n := min(size, headerSize)
	if err := readFull(r, raw[:n], 0); err != nil {
		return header{}, fmt.Errorf("reading header: %w", err)
	}
	var versionByte, hash, logBlockSize byte
	var info []byte
	switch {
	case bytes.HasPrefix(raw[:n], zstdMagic):
		return header{}, ErrOldFormat
	case n < headerSize:
		return header{}, fmt.Errorf("%w: %d bytes", ErrFormat, size)
	case bytes.HasPrefix(raw[:], magic):
		versionByte, hash, logBlockSize, info = raw[11], raw[14], raw[15], raw[16:]
	case bytes.HasPrefix(raw[18:], magic):
		versionByte, hash, logBlockSize, info = raw[29], raw[30], raw[31], raw[:16]
	default:
		return header{}, ErrFormat
	}
	if versionByte != version {
		return header{}, fmt.Errorf("%w: version %d", ErrVersion, versionByte)
	}
	algorithm, err := fsverity.AlgorithmFromNumbers(hash, logBlockSize)
	if err != nil {
		return header{}, fmt.Errorf("%w: %w", ErrVersion, err)
	}
	at, err := parseSection(info, size)
	if err != nil {
		return header{}, err
	}
	return header{algorithm, at}, nil
}

// readFull fills p from offset off. A file that ends before is corrupt: the
// ranges were checked against its size.
func readFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: it ends within a section", ErrCorrupt)
	}
	return err
}

// Algorithm returns the verity algorithm of the digests in the splitstream.
func (s *Reader) Algorithm() fsverity.Algorithm { return s.algorithm }

// ContentType tells what the rebuilt file is.
func (s *Reader) ContentType() Type { return s.contentType }

// Size returns the size in bytes of the rebuilt file, as the splitstream states
// it. Nothing has been allocated or read by it yet.
func (s *Reader) Size() int64 { return s.size }

// maxWindow bounds the memory that a zstd frame can make a decoder take. It is
// what RFC 8878 asks every decoder to support, and four times what importers
// use.
const maxWindow = 8 << 20

// decompress returns a reader of the zstd data in a section. Its errors are
// ErrCorrupt, or those of reading the file.
func (s *Reader) decompress(at section) (io.Reader, error) {
	in := &errorKeeper{Reader: io.NewSectionReader(s.r, at.start, at.size())}
	d, err := newDecoder(in)
	if err != nil {
		return nil, in.blame(err)
	}
	return &decompressor{decoder: d, in: in}, nil
}

// decoders has decoders that have come to an end, for reuse: each has a buffer of some
// hundred KiB, and most streams are short.
var decoders sync.Pool

func newDecoder(in io.Reader) (*zstd.Decoder, error) {
	if d, ok := decoders.Get().(*zstd.Decoder); ok {
		return d, d.Reset(in)
	}
	return zstd.NewReader(in,
		zstd.WithDecoderConcurrency(1), // starts no goroutines, so needs no Close
		zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(maxWindow))
}

// decompressor reads from a decoder and says whose its errors are.
type decompressor struct {
	decoder *zstd.Decoder // nil at the end
	in      *errorKeeper
	err     error // at the end
}

func (d *decompressor) Read(p []byte) (int, error) {
	if d.decoder == nil {
		return 0, d.err
	}
	n, err := d.decoder.Read(p)
	if err == nil {
		return n, nil
	}
	if err != io.EOF {
		err = d.in.blame(err)
	}
	if d.decoder.Reset(nil) == nil {
		decoders.Put(d.decoder)
	}
	d.decoder, d.err = nil, err
	return n, err
}

// errorKeeper remembers why its Reader failed.
type errorKeeper struct {
	io.Reader
	err error
}

func (k *errorKeeper) Read(p []byte) (int, error) {
	n, err := k.Reader.Read(p)
	if err != nil && err != io.EOF {
		k.err = err
	}
	return n, err
}

// blame returns the error of the Reader, if it had one; otherwise the data that
// it gave are at fault.
func (k *errorKeeper) blame(err error) error {
	if k.err != nil {
		return k.err
	}
	return fmt.Errorf("%w: %w", ErrCorrupt, err)
}

// digestAt returns the i-th digest of an array of them.
func (s *Reader) digestAt(refs section, i int64) (fsverity.Digest, error) {
	var raw [fsverity.MaxSize]byte
	size := int64(s.algorithm.Size())
	if i < 0 || i >= refs.size()/size {
		return fsverity.Digest{}, fmt.Errorf("%w: reference %d of %d", ErrCorrupt, i, refs.size()/size)
	}
	if err := readFull(s.r, raw[:size], refs.start+i*size); err != nil {
		return fsverity.Digest{}, fmt.Errorf("reading reference %d: %w", i, err)
	}
	return fsverity.FromBytes(raw[:size])
}
