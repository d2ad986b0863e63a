// Package crc64iso computes the CRC-64 of ISO 3309, as hash/crc64 does it with
// its table ISO, several times as fast. tar-split's records have this checksum of
// every byte of a layer, so it is a large part of the work of staging one.
//
// The polynomial has four terms beside the highest one, x⁶⁴ = x⁴ + x³ + x + 1,
// and so have its squares: multiplying by x¹²⁸ takes three shifts. Words are
// therefore taken alternately into two sums, and the halves of a block into two
// each, which the processor works on side by side, instead of byte by byte into
// one.
package crc64iso

import (
	"encoding/binary"
	"hash/crc64"
)

// table is that of hash/crc64, for what is no whole block.
var table = crc64.MakeTable(crc64.ISO)

// In the reversed order of bits that the checksum has, the lowest bit is the
// coefficient of x⁶³, and multiplying by x is to shift to the right. What is
// shifted out, overflow, stands for x⁶⁴ and higher.

// overflow[b] is what the low eight bits b come to when they are shifted out.
var overflow = func() (t [256]uint64) {
	for b := range t {
		out := uint64(b) << 56
		t[b] = out ^ out>>1 ^ out>>3 ^ out>>4
	}
	return t
}()

// times64 multiplies by x⁶⁴ = x⁴ + x³ + x + 1.
func times64(s uint64) uint64 {
	out := s<<63 ^ s<<61 ^ s<<60
	return s ^ s>>1 ^ s>>3 ^ s>>4 ^ out ^ out>>1 ^ out>>3 ^ out>>4
}

// times128 multiplies by x¹²⁸ = x⁸ + x⁶ + x² + 1.
func times128(s uint64) uint64 {
	return s ^ s>>2 ^ s>>6 ^ s>>8 ^ overflow[(s^s<<2^s<<6)&0xff]
}

// half is the size in bytes of the halves of a block, which are worked on side by
// side like the words.
const half = 8 << 10

// pastHalf is x to the number of bits in a half.
var pastHalf = func() uint64 {
	p := uint64(1) << 62 // x
	for n := 1; n < 8*half; n *= 2 {
		p = times(p, p)
	}
	return p
}()

// times multiplies two polynomials.
func times(a, b uint64) (product uint64) {
	for ; a != 0; a <<= 1 { // from 1 to x⁶³
		if a>>63 == 1 {
			product ^= b
		}
		lowest := b & 1 // becomes x⁶⁴
		b = b>>1 ^ lowest*crc64.ISO
	}
	return product
}

// Update returns the checksum of what crc is that of, followed by p. The
// checksum of nothing is 0.
func Update(crc uint64, p []byte) uint64 {
	s := ^crc
	for ; len(p) >= 2*half; p = p[2*half:] {
		s = block(s, p[:half], p[half:2*half])
	}
	for ; len(p) >= 32; p = p[32:] {
		s = words(s, p[:32])
	}
	return crc64.Update(^s, table, p)
}

// block takes two halves into the sum s.
func block(s uint64, first, second []byte) uint64 {
	second = second[:len(first)]
	evenA, oddA, evenB, oddB := s, uint64(0), uint64(0), uint64(0)
	last := len(first) - 16
	for i := 0; i < last; i += 16 {
		a, b := first[i:i+16:i+16], second[i:i+16:i+16]
		evenA = times128(evenA ^ binary.LittleEndian.Uint64(a))
		oddA = times128(oddA ^ binary.LittleEndian.Uint64(a[8:]))
		evenB = times128(evenB ^ binary.LittleEndian.Uint64(b))
		oddB = times128(oddB ^ binary.LittleEndian.Uint64(b[8:]))
	}
	// The last two words bring the sums together.
	a := times128(evenA^binary.LittleEndian.Uint64(first[last:])) ^ times64(oddA^binary.LittleEndian.Uint64(first[last+8:]))
	b := times128(evenB^binary.LittleEndian.Uint64(second[last:])) ^ times64(oddB^binary.LittleEndian.Uint64(second[last+8:]))
	return times(pastHalf, a) ^ b
}

// words takes 32 bytes into the sum s.
func words(s uint64, p []byte) uint64 {
	_ = p[31]
	even := times128(s ^ binary.LittleEndian.Uint64(p))
	odd := times128(binary.LittleEndian.Uint64(p[8:]))
	return times128(even^binary.LittleEndian.Uint64(p[16:])) ^ times64(odd^binary.LittleEndian.Uint64(p[24:]))
}
