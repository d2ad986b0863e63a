package crc64iso_test

import (
	"hash/crc64"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/skopeo-cfs/skopeo-cfs/internal/crc64iso"
)

var table = crc64.MakeTable(crc64.ISO)

func TestUpdateIsThatOfTheStandardLibrary(t *testing.T) {
	random := rand.NewChaCha8([32]byte{})
	sizes := []int{16<<10 - 1, 16 << 10, 16<<10 + 1, 48<<10 + 77, 1 << 20}
	for size := range 300 {
		sizes = append(sizes, size)
	}
	for _, size := range sizes {
		p := make([]byte, size)
		_, _ = random.Read(p) // never fails
		start := random.Uint64()
		assert.Equal(t, crc64.Update(start, table, p), crc64iso.Update(start, p), "%d bytes", size)
	}
}

func FuzzUpdate(f *testing.F) {
	f.Add(uint64(0), []byte("composefs"), []byte{})
	f.Add(^uint64(0), make([]byte, 64), make([]byte, 33))
	f.Add(uint64(1), make([]byte, 17<<10), make([]byte, 33<<10))
	f.Fuzz(func(t *testing.T, start uint64, a, b []byte) {
		want := crc64.Update(crc64.Update(start, table, a), table, b)
		assert.Equal(t, want, crc64iso.Update(crc64iso.Update(start, a), b))
		assert.Equal(t, want, crc64iso.Update(start, append(a, b...)))
	})
}

func BenchmarkUpdate(b *testing.B) {
	p := make([]byte, 128<<10)
	b.Run("crc64iso", func(b *testing.B) {
		b.SetBytes(int64(len(p)))
		for b.Loop() {
			crc64iso.Update(0, p)
		}
	})
	b.Run("hash/crc64", func(b *testing.B) {
		b.SetBytes(int64(len(p)))
		for b.Loop() {
			crc64.Update(0, table, p)
		}
	})
}
