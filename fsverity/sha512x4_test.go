package fsverity

import (
	"bytes"
	"crypto"
	"crypto/sha512"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
)

func random(seed uint64, size int) []byte {
	data := make([]byte, size)
	source := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	source.Read(data)
	return data
}

// Four hashes at once are what each is by itself.
func TestSum512x4(t *testing.T) {
	if !canHash4 {
		t.Skip("this processor hashes one block at a time")
	}
	for _, size := range []int{128, 256, 4096, 65536} {
		data := random(uint64(size), 4*size)
		want := []byte("before")
		for block := range slices.Chunk(data, size) {
			sum := sha512.Sum512(block)
			want = append(want, sum[:]...)
		}
		assert.Equal(t, want, sum512x4([]byte("before"), data, size), size)
	}
}

// plain computes a digest as the kernel's documentation has it, a level after the other.
func plain(a Algorithm, data []byte) []byte {
	sum := func(p []byte) []byte {
		h := a.Hash.New()
		h.Write(p)
		return h.Sum(nil)
	}
	level := data
	for first := true; len(level) > 0 && (first || len(level) > a.Size()); first = false {
		var above []byte
		for block := range slices.Chunk(level, a.BlockSize()) {
			above = append(above, sum(append(slices.Clone(block), make([]byte, a.BlockSize()-len(block))...))...)
		}
		level = above
	}
	descriptor := make([]byte, 256)
	descriptor[0], descriptor[1], descriptor[2] = 1, a.HashNumber(), a.LogBlockSize
	for i := range 8 {
		descriptor[8+i] = byte(len(data) >> (8 * i))
	}
	copy(descriptor[16:], level)
	return sum(descriptor)
}

// Around every number of blocks that makes a difference, and in writes of any size, the
// digest is that of the plain computation.
func TestDigestsOfAllSizes(t *testing.T) {
	for _, a := range []Algorithm{SHA256, SHA512, {crypto.SHA512, 16}} {
		size := a.BlockSize()
		counts := []int{0, 1, 2, 3, 4, 5, 7, 8, 9, 63, 64, 65, 66, 67, 68, 127, 128, 129, 132, 260, 64 * 65}
		if size > 4096 {
			counts = counts[:9]
		}
		h := NewHasher(a)
		for _, blocks := range counts {
			for _, more := range []int{-1, 0, 1} {
				n := max(0, blocks*size+more)
				data := random(uint64(n), n)
				want := plain(a, data)
				h.Write(data)
				assert.Equal(t, want, h.Sum().Bytes(), "%s: %d bytes", a, n)
				source := rand.New(rand.NewPCG(1, uint64(n)))
				for rest := data; len(rest) > 0; {
					k := min(len(rest), 1+source.IntN(6*size))
					h.Write(rest[:k])
					rest = rest[k:]
				}
				assert.Equal(t, want, h.Sum().Bytes(), "%s: %d bytes in pieces", a, n)
			}
		}
	}
}

func FuzzPlain(f *testing.F) {
	f.Add([]byte("pattern"), uint(20000), uint(3))
	f.Fuzz(func(t *testing.T, pattern []byte, size, cut uint) {
		data := bytes.Repeat(append(pattern, 0), int(size%100_000)/(len(pattern)+1))
		h := NewHasher(SHA512)
		cut %= uint(len(data) + 1)
		h.Write(data[:cut])
		h.Write(data[cut:])
		assert.Equal(t, plain(SHA512, data), h.Sum().Bytes())
	})
}

func BenchmarkHasher(b *testing.B) {
	for _, a := range []Algorithm{SHA256, SHA512} {
		for _, size := range []int{4 << 10, 32 << 10, 1 << 20} {
			data := random(1, size)
			b.Run(a.String()+"/"+fmt.Sprint(size), func(b *testing.B) {
				h := NewHasher(a)
				b.SetBytes(int64(size))
				for b.Loop() {
					h.Write(data)
					h.Sum()
				}
			})
		}
	}
}
