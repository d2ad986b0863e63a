package fsverity

import (
	"encoding/binary"
	"hash"
	"io"
)

// Hasher computes the digest of what is written to it. It is not safe for
// concurrent use.
type Hasher struct {
	algorithm Algorithm
	hash      hash.Hash
	size      uint64
	levels    [][]byte // levels[0]: the data block being filled; levels[n]: the block of hashes of blocks of level n-1
}

// NewHasher returns a Hasher that computes digests of algorithm a.
func NewHasher(a Algorithm) *Hasher {
	return &Hasher{algorithm: a, hash: a.Hash.New(), levels: [][]byte{make([]byte, 0, a.BlockSize())}}
}

// Compute returns the digest of all that r yields.
func Compute(a Algorithm, r io.Reader) (Digest, error) {
	h := NewHasher(a)
	if _, err := io.CopyBuffer(struct{ io.Writer }{h}, r, make([]byte, 128<<10)); err != nil {
		return Digest{}, err
	}
	return h.Sum(), nil
}

// Write adds p to the content. It never fails.
func (h *Hasher) Write(p []byte) (int, error) {
	h.size += uint64(len(p))
	h.add(0, p)
	return len(p), nil
}

// add appends p to level n. A full block is hashed into the level above only
// once more follows it: the last block of a level may be the only one, whose
// hash is the root then.
func (h *Hasher) add(n int, p []byte) {
	if n == len(h.levels) {
		h.levels = append(h.levels, make([]byte, 0, h.algorithm.BlockSize()))
	}
	for len(p) > 0 {
		if len(h.levels[n]) == h.algorithm.BlockSize() {
			h.add(n+1, h.flush(n))
		}
		k := min(len(p), h.algorithm.BlockSize()-len(h.levels[n]))
		h.levels[n] = append(h.levels[n], p[:k]...)
		p = p[k:]
	}
}

// flush returns the hash of level n's block, padded with zeros, and empties it.
func (h *Hasher) flush(n int) []byte {
	block := h.levels[n]
	h.hash.Reset()
	h.hash.Write(block)
	h.hash.Write(make([]byte, h.algorithm.BlockSize()-len(block)))
	h.levels[n] = block[:0]
	return h.hash.Sum(nil)
}

// Sum returns the digest of what was written and resets the Hasher.
func (h *Hasher) Sum() Digest {
	var root []byte // all zeros for an empty file
	if h.size > 0 {
		for n := 0; n < len(h.levels)-1; n++ {
			h.add(n+1, h.flush(n))
		}
		root = h.flush(len(h.levels) - 1)
	}
	// struct fsverity_descriptor: what is hashed is the version, the
	// algorithm's numbers, the size and the root; salt and signature are none.
	descriptor := make([]byte, 256)
	descriptor[0] = 1
	descriptor[1] = h.algorithm.HashNumber()
	descriptor[2] = h.algorithm.LogBlockSize
	binary.LittleEndian.PutUint64(descriptor[8:], h.size)
	copy(descriptor[16:16+MaxSize], root)

	h.hash.Reset()
	h.hash.Write(descriptor)
	d := Digest{size: uint8(h.algorithm.Size())}
	h.hash.Sum(d.sum[:0])
	h.size, h.levels = 0, h.levels[:1]
	return d
}
