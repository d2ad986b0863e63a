package serve

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"sync"
	"unsafe"

	"github.com/klauspost/compress/s2"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/splitstream"
)

// A layout is what a splitstream holds, held in memory such that a client can be sent
// any part of the layer. Reading the splitstream itself takes megabytes for each who
// does, and starts at its beginning.

const (
	// blockLayout is how many bytes a block has when it is unpacked, at most.
	blockLayout = 64 << 10
	// maxLayout bounds a layout, in bytes, and allLayouts all of them together.
	maxLayout  = 64 << 20
	allLayouts = 128 << 20
)

// layout has the pieces of a layer, packed in blocks. It is not changed, but for the
// identities of objects.
type layout struct {
	digestSize int // bytes
	blocks     []block
	objects    []object
}

// block has some pieces: for each of some inline bytes their number, as a varint, and
// the bytes; for each object a zero and its digest.
type block struct {
	at     int64 // where its first byte is in the layer
	object int   // the number of its first object
	packed []byte
}

// size returns how many bytes the layout occupies.
func (l *layout) size() int64 {
	n := int64(len(l.objects)) * int64(unsafe.Sizeof(object{}))
	for _, b := range l.blocks {
		n += int64(len(b.packed)) + int64(unsafe.Sizeof(b))
	}
	return n
}

// layoutWriter makes a layout. Once that has become too large, it makes none.
type layoutWriter struct {
	made     layout
	block    block
	pieces   []byte // of the block
	packed   []byte // likewise
	at       int64
	identity []uint64
	size     []int64
	used     int64
	tooLarge bool
}

// inline adds some bytes.
func (w *layoutWriter) inline(data []byte) {
	w.at += int64(len(data))
	for len(data) > 0 && !w.tooLarge {
		w.room(binary.MaxVarintLen64 + 1)
		n := min(len(data), blockLayout-len(w.pieces)-binary.MaxVarintLen64)
		if len(w.pieces) == 0 {
			w.block.at = w.at - int64(len(data))
		}
		w.pieces = binary.AppendUvarint(w.pieces, uint64(n))
		w.pieces = append(w.pieces, data[:n]...)
		data = data[n:]
	}
}

// object adds an object.
func (w *layoutWriter) object(d fsverity.Digest, size int64, identity uint64) {
	if w.tooLarge {
		return
	}
	w.made.digestSize = d.Size()
	w.room(1 + d.Size())
	if len(w.pieces) == 0 {
		w.block.at = w.at
	}
	w.pieces = append(append(w.pieces, 0), d.Bytes()...)
	w.at += size
	w.size, w.identity = append(w.size, size), append(w.identity, identity)
	w.used += int64(unsafe.Sizeof(object{}))
}

// room begins another block where this one has no room for n bytes.
func (w *layoutWriter) room(n int) {
	if len(w.pieces)+n > blockLayout {
		w.seal()
	}
}

// seal ends a block.
func (w *layoutWriter) seal() {
	if len(w.pieces) > 0 {
		w.packed = s2.EncodeBetter(w.packed[:cap(w.packed)], w.pieces)
		w.block.packed = bytes.Clone(w.packed)
		w.used += int64(len(w.block.packed)) + int64(unsafe.Sizeof(block{}))
		w.made.blocks = append(w.made.blocks, w.block)
	}
	w.block, w.pieces = block{object: len(w.size)}, w.pieces[:0]
	if w.used > maxLayout {
		*w = layoutWriter{tooLarge: true}
	}
}

// finish returns the layout, nil where it has become too large.
func (w *layoutWriter) finish() *layout {
	w.seal()
	if w.tooLarge {
		return nil
	}
	w.made.objects = make([]object, len(w.size))
	for i := range w.size {
		w.made.objects[i].size = w.size[i]
		w.made.objects[i].identity.Store(w.identity[i])
	}
	return &w.made
}

// layoutReader returns the chunks of a layout, as splitstream.Chunks does.
type layoutReader struct {
	layout *layout
	next   int // block
	rest   []byte
	buffer *[]byte
}

var layoutBuffers = sync.Pool{New: func() any { b := make([]byte, blockLayout); return &b }}

// from returns a reader of the block that has the byte at an offset, where that block
// begins, and the number of its first object. The caller closes it.
func (l *layout) from(offset int64) (r *layoutReader, at int64, object int) {
	n, _ := slices.BinarySearchFunc(l.blocks, offset, func(b block, offset int64) int {
		if b.at <= offset {
			return -1
		}
		return 1
	})
	r = &layoutReader{layout: l, buffer: layoutBuffers.Get().(*[]byte)}
	if n--; n < 0 {
		return r, 0, 0
	}
	r.next = n
	return r, l.blocks[n].at, l.blocks[n].object
}

// Next returns the next chunk, which is valid until it is called again; io.EOF behind
// the last.
func (r *layoutReader) Next() (splitstream.Chunk, error) {
	if len(r.rest) == 0 {
		if r.next == len(r.layout.blocks) {
			return splitstream.Chunk{}, io.EOF
		}
		var err error
		if r.rest, err = s2.Decode((*r.buffer)[:cap(*r.buffer)], r.layout.blocks[r.next].packed); err != nil {
			return splitstream.Chunk{}, fmt.Errorf("unpacking a block: %w", err)
		}
		r.next++
	}
	n, used := binary.Uvarint(r.rest)
	r.rest = r.rest[used:]
	if n > 0 {
		inline := r.rest[:n]
		r.rest = r.rest[n:]
		return splitstream.Chunk{Inline: inline}, nil
	}
	d, err := fsverity.FromBytes(r.rest[:r.layout.digestSize])
	r.rest = r.rest[r.layout.digestSize:]
	return splitstream.Chunk{Object: d}, err
}

func (r *layoutReader) close() { layoutBuffers.Put(r.buffer) }
