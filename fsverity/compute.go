package fsverity

import (
	"crypto"
	"encoding/binary"
	"hash"
	"io"
	"sync"
)

// Hasher computes the digest of what is written to it. It is not safe for
// concurrent use.
type Hasher struct {
	algorithm Algorithm
	hash      hash.Hash
	size      uint64
	lanes     int                                        // how many data blocks are hashed at once
	sums      func(sums, blocks []byte, size int) []byte // hashes so many, if there are several
	levels    [][]byte                                   // levels[0]: data blocks; levels[n]: the block of hashes of blocks of level n-1
	padding   []byte                                     // a block of zeros
}

// NewHasher returns a Hasher that computes digests of algorithm a.
func NewHasher(a Algorithm) *Hasher {
	h := &Hasher{algorithm: a, hash: a.Hash.New(), lanes: 1, padding: make([]byte, a.BlockSize())}
	switch {
	case a.Hash == crypto.SHA512 && canHash4:
		h.lanes, h.sums = 4, sum512x4
	case a.Hash == crypto.SHA256 && canHash2:
		h.lanes, h.sums = 2, sum256x2
	}
	h.levels = [][]byte{make([]byte, 0, h.lanes*a.BlockSize())}
	h.addLevel()
	return h
}

// addLevel adds a level, with room for a block.
func (h *Hasher) addLevel() {
	h.levels = append(h.levels, make([]byte, 0, h.algorithm.BlockSize()))
}

// buffers are what Compute reads into.
var buffers = sync.Pool{New: func() any { return new([128 << 10]byte) }}

// Compute returns the digest of all that r yields.
func Compute(a Algorithm, r io.Reader) (Digest, error) {
	h := NewHasher(a)
	buffer := buffers.Get().(*[128 << 10]byte)
	defer buffers.Put(buffer)
	if _, err := io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{r}, buffer[:]); err != nil {
		return Digest{}, err
	}
	return h.Sum(), nil
}

// Write adds p to the content. It never fails.
func (h *Hasher) Write(p []byte) (int, error) {
	n := len(p)
	h.size += uint64(n)
	atOnce := h.lanes * h.algorithm.BlockSize()
	if held := h.levels[0]; len(held) > 0 {
		k := min(len(p), atOnce-len(held))
		h.levels[0] = append(held, p[:k]...)
		if p = p[k:]; len(h.levels[0]) < atOnce {
			return n, nil
		}
		h.addData(h.levels[0])
		h.levels[0] = h.levels[0][:0]
	}
	for ; len(p) >= atOnce; p = p[atOnce:] {
		h.addData(p[:atOnce])
	}
	h.levels[0] = append(h.levels[0], p...)
	return n, nil
}

// addData adds the hashes of as many data blocks as are hashed at once, or less, to
// level 1. The last may be short.
func (h *Hasher) addData(p []byte) {
	size := h.algorithm.BlockSize()
	h.makeRoom(1)
	// Four take as long as two, one after the other, and two little longer than one.
	if room := size - len(h.levels[1]); h.lanes > 1 && len(p) > size && room >= h.lanes*h.algorithm.Size() {
		hashes := (len(p) + size - 1) / size
		if short := hashes*size - len(p); short > 0 {
			p = append(p, h.padding[:short]...) // p is level 0 then, and has room
		}
		end := len(h.levels[1]) + hashes*h.algorithm.Size()
		h.levels[1] = h.sums(h.levels[1], p, size)[:end]
		return
	}
	for len(p) > 0 {
		n := min(len(p), size)
		h.addHash(1, p[:n])
		p = p[n:]
	}
}

// addHash adds the hash of a block, padded with zeros, to level n.
func (h *Hasher) addHash(n int, block []byte) {
	h.makeRoom(n)
	h.hash.Reset()
	h.hash.Write(block)
	h.hash.Write(h.padding[len(block):])
	h.levels[n] = h.hash.Sum(h.levels[n])
}

// makeRoom makes level n ready for another hash. Where it is full, it goes into the
// level above first: not before, since the last block of a level may be the only one,
// whose hash is the root then.
func (h *Hasher) makeRoom(n int) {
	if n == len(h.levels) {
		h.addLevel()
	}
	if len(h.levels[n]) == h.algorithm.BlockSize() {
		h.addHash(n+1, h.levels[n])
		h.levels[n] = h.levels[n][:0]
	}
}

// root returns the hash of the one block of the highest level, nil for an empty
// file. The levels are empty then.
func (h *Hasher) root() []byte {
	if len(h.levels[0]) > 0 {
		h.addData(h.levels[0])
	}
	h.levels[0] = h.levels[0][:0]
	var root []byte
	for n := 1; n < len(h.levels); n++ {
		block := h.levels[n]
		if isTop := n == len(h.levels)-1; isTop && len(block) == h.algorithm.Size() {
			root = block // the hash of a level of one block
		} else if len(block) > 0 {
			h.addHash(n+1, block)
		}
		h.levels[n] = block[:0]
	}
	h.levels = h.levels[:2]
	return root
}

// Sum returns the digest of what was written and resets the Hasher.
func (h *Hasher) Sum() Digest {
	// struct fsverity_descriptor: what is hashed is the version, the
	// algorithm's numbers, the size and the root; salt and signature are none.
	descriptor := make([]byte, 256)
	descriptor[0] = 1
	descriptor[1] = h.algorithm.HashNumber()
	descriptor[2] = h.algorithm.LogBlockSize
	binary.LittleEndian.PutUint64(descriptor[8:], h.size)
	copy(descriptor[16:16+MaxSize], h.root()) // zeros for an empty file

	h.hash.Reset()
	h.hash.Write(descriptor)
	d := Digest{size: uint8(h.algorithm.Size())}
	h.hash.Sum(d.sum[:0])
	h.size = 0
	return d
}
