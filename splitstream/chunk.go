package splitstream

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
)

// Chunk is a piece of the rebuilt file: some bytes, or the whole content of an
// object.
type Chunk struct {
	// Inline has at least one byte, or is nil where the chunk is an object. It
	// is valid until the next call of Next and must not be changed.
	Inline []byte
	// Object is the object's digest, zero where the chunk is inline.
	Object fsverity.Digest
}

// Chunks iterates over a splitstream's chunks, in the order of the file that
// they make up. It allocates nothing per chunk and needs some 100 KiB, whatever
// the size of the splitstream; a long inline run comes in several Chunks.
// It is not safe for concurrent use; several Chunks of one Reader are.
type Chunks struct {
	stream *Reader
	in     *bufio.Reader
	err    error

	inlineLeft int64 // what of the current inline run was not returned yet
	sizeLeft   int64 // what of Reader.Size the inline bytes have left
	objects    int64 // returned so far

	refs     [chunkRefs * fsverity.MaxSize]byte // a window on the object references
	refsAt   int64                              // index of its first
	refsHeld int64                              // how many it has
}

const (
	chunkBuffer = 32 << 10 // bytes
	chunkRefs   = 32
)

// Chunks returns an iterator that stands before the first chunk.
func (s *Reader) Chunks() *Chunks {
	c := &Chunks{stream: s, sizeLeft: s.size}
	in, err := s.decompress(s.stream)
	if err != nil {
		c.err = err
		return c
	}
	c.in = bufio.NewReaderSize(in, chunkBuffer)
	return c
}

// Next returns the next chunk, or io.EOF behind the last. Other errors wrap
// ErrCorrupt, or are those of reading the splitstream; an error stays. That the
// sizes of the objects add up is for the caller to see, who opens them; inline
// bytes beyond Reader.Size, and more objects than Reader.Size has bytes, are
// ErrCorrupt.
func (c *Chunks) Next() (Chunk, error) {
	if c.err != nil {
		return Chunk{}, c.err
	}
	chunk, err := c.next()
	c.err = err
	return chunk, err
}

func (c *Chunks) next() (Chunk, error) {
	if c.inlineLeft == 0 {
		n, err := c.number()
		if err != nil {
			return Chunk{}, err
		}
		if n >= 0 {
			return c.object(n)
		}
		if n == math.MinInt64 || -n > c.sizeLeft {
			return Chunk{}, fmt.Errorf("%w: an inline chunk of %d bytes where %d are left of %d", ErrCorrupt, uint64(-n), c.sizeLeft, c.stream.size)
		}
		c.inlineLeft = -n
		c.sizeLeft += n
	}
	if _, err := c.in.Peek(1); err != nil {
		return Chunk{}, unexpectedEnd(err, "an inline chunk")
	}
	n := min(int64(c.in.Buffered()), c.inlineLeft)
	inline, _ := c.in.Peek(int(n)) // is buffered
	c.in.Discard(int(n))           // leaves the bytes where they are until more are read
	c.inlineLeft -= n
	return Chunk{Inline: inline}, nil
}

// number reads the number that a chunk starts with; io.EOF where none follows.
func (c *Chunks) number() (int64, error) {
	raw, err := c.in.Peek(8)
	if err != nil {
		if len(raw) == 0 && errors.Is(err, io.EOF) {
			return 0, io.EOF
		}
		return 0, unexpectedEnd(err, "a chunk's number")
	}
	n := int64(binary.LittleEndian.Uint64(raw))
	c.in.Discard(8)
	return n, nil
}

func unexpectedEnd(err error, in string) error {
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: it ends within %s", ErrCorrupt, in)
	}
	return err
}

// object returns the chunk of the i-th object reference.
func (c *Chunks) object(i int64) (Chunk, error) {
	// Without this, a small file could have us open objects without an end:
	// an empty object takes nothing from the size. One that makes up an empty
	// file is fine.
	if c.objects++; c.objects > max(c.stream.size, 1) {
		return Chunk{}, fmt.Errorf("%w: more objects than the %d bytes of its content", ErrCorrupt, c.stream.size)
	}
	size := int64(c.stream.algorithm.Size())
	all := c.stream.objectRefs.size() / size
	if i >= all {
		return Chunk{}, fmt.Errorf("%w: object %d of %d", ErrCorrupt, i, all)
	}
	if i < c.refsAt || i >= c.refsAt+c.refsHeld {
		c.refsHeld = 0
		held := min(all-i, chunkRefs)
		if err := readFull(c.stream.r, c.refs[:held*size], c.stream.objectRefs.start+i*size); err != nil {
			return Chunk{}, fmt.Errorf("reading object references: %w", err)
		}
		c.refsAt, c.refsHeld = i, held
	}
	at := (i - c.refsAt) * size
	d, err := fsverity.FromBytes(c.refs[at : at+size])
	return Chunk{Object: d}, err
}
