package fsverity

import (
	"crypto/sha256"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
)

// Two hashes at once are what each is by itself.
func TestSum256x2(t *testing.T) {
	if !canHash2 {
		t.Skip("this processor hashes one block at a time")
	}
	for _, size := range []int{64, 128, 4096, 65536} {
		for seed := range uint64(20) {
			data := random(seed, 2*size)
			want := []byte("before")
			for block := range slices.Chunk(data, size) {
				sum := sha256.Sum256(block)
				want = append(want, sum[:]...)
			}
			assert.Equal(t, want, sum256x2([]byte("before"), data, size), size)
		}
	}
}

func BenchmarkSHA256(b *testing.B) {
	data := random(1, 2*4096)
	b.Run("one after the other", func(b *testing.B) {
		b.SetBytes(2 * 4096)
		for b.Loop() {
			sha256.Sum256(data[:4096])
			sha256.Sum256(data[4096:])
		}
	})
	b.Run("two at once", func(b *testing.B) {
		if !canHash2 {
			b.Skip("this processor hashes one block at a time")
		}
		b.SetBytes(2 * 4096)
		var sums []byte
		for b.Loop() {
			sums = sum256x2(sums[:0], data, 4096)
		}
	})
}
