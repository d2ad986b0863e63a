// Package crc64iso computes the CRC-64 of ISO 3309, as hash/crc64 does it with
// its table ISO, several times as fast. tar-split's records have this checksum of
// every byte of a layer, so it is a large part of the work of staging one.
//
// The polynomial has four terms beside the highest one, x⁶⁴ = x⁴ + x³ + x + 1,
// and so have its squares: multiplying by x¹²⁸ takes three shifts. Words are
// therefore taken alternately into two sums, which the processor works on side
// by side, instead of byte by byte into one.
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

// Update returns the checksum of what crc is that of, followed by p. The
// checksum of nothing is 0.
func Update(crc uint64, p []byte) uint64 {
	if len(p) < 32 {
		return crc64.Update(crc, table, p)
	}
	even, odd := ^crc, uint64(0)
	for len(p) >= 32 {
		even = times128(even ^ binary.LittleEndian.Uint64(p))
		odd = times128(odd ^ binary.LittleEndian.Uint64(p[8:]))
		p = p[16:]
	}
	// The last two words bring the sums together.
	even = times128(even ^ binary.LittleEndian.Uint64(p))
	odd = times64(odd ^ binary.LittleEndian.Uint64(p[8:]))
	return crc64.Update(^(even ^ odd), table, p[16:])
}
