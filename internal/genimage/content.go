package genimage

import (
	"encoding/binary"
	"io"
)

// generator is a xorshift generator, for the speed of it.
type generator uint64

func newGenerator(seed uint64) generator {
	// Seeds are neighbours: spread them, as splitmix64 does.
	seed += 0x9e3779b97f4a7c15
	seed = (seed ^ seed>>30) * 0xbf58476d1ce4e5b9
	seed = (seed ^ seed>>27) * 0x94d049bb133111eb
	return generator(seed ^ seed>>31 | 1)
}

func (g *generator) next() uint64 {
	x := *g
	x ^= x << 13
	x ^= x >> 7
	x ^= x << 17
	*g = x
	return uint64(x)
}

const (
	pieceSize  = 32 << 10 // bytes of one kind
	phraseSize = 16       // bytes
	phrases    = 1 << 10
	// randomPieces of 16 are incompressible; with them an image is compressed
	// to 45% of its size by gzip, as distributions' images are.
	randomPieces = 4
)

// book has what text is made of: phrases of words of a few letters.
var book = func() (book [phrases][phraseSize]byte) {
	g := newGenerator(0)
	for i := range book {
		for j := range book[i] {
			book[i][j] = "etaoinshrdlu_.=\n  "[g.next()>>11%18]
		}
	}
	return book
}()

// writeContent writes size bytes of a file: pieces of noise and of text.
func writeContent(w io.Writer, seed uint64, size int64) error {
	g := newGenerator(seed)
	var piece [pieceSize]byte
	for size > 0 {
		n := min(size, pieceSize)
		// A whole number of phrases, each of a whole number of words.
		whole := piece[:(n+phraseSize-1)/phraseSize*phraseSize]
		if g.next()>>20%16 < randomPieces {
			fillRandom(&g, whole)
		} else {
			fillText(&g, whole)
		}
		if _, err := w.Write(piece[:n]); err != nil {
			return err
		}
		size -= n
	}
	return nil
}

func fillRandom(g *generator, p []byte) {
	for i := 0; i < len(p); i += 8 {
		binary.LittleEndian.PutUint64(p[i:], g.next())
	}
}

func fillText(g *generator, p []byte) {
	for i := 0; i < len(p); i += phraseSize {
		copy(p[i:], book[g.next()>>30%phrases][:])
	}
}
