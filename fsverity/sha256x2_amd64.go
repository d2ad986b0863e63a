package fsverity

import (
	"encoding/binary"

	"golang.org/x/sys/cpu"
)

// Where the processor has instructions for SHA-256, two blocks are hashed at once: see
// FIPS 180-4 for the function.

// canHash2 tells whether sum256x2 may be called.
var canHash2 = hasSHA() && cpu.X86.HasSSSE3

// hasSHA tells whether the processor has the instructions for SHA-256, by CPUID: bit 29
// of EBX of leaf 7.
func hasSHA() bool

// k256 are SHA-256's constants, the first bits of the cube roots of primes.
var k256 = [64]uint32{
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
	0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
}

// initial256 is SHA-256's initial state, the first bits of the square roots of primes.
// The words are in the order of the registers: f, e, b, a, h, g, d, c.
var initial256 = [8]uint32{
	0x9b05688c, 0x510e527f, 0xbb67ae85, 0x6a09e667, 0x5be0cd19, 0x1f83d9ab, 0xa54ff53a, 0x3c6ef372,
}

// order256 are the places of the words a to h in a state.
var order256 = [8]int{3, 2, 7, 6, 1, 0, 5, 4}

const chunk256 = 64 // bytes that SHA-256 works on at once

// state256x2 has the states of two hashes.
type state256x2 [2][8]uint32

// add256x2 adds so many chunks from each of two places, one at least.
//
//go:noescape
func add256x2(state *state256x2, from *[2]*byte, chunks int, constants *[64]uint32)

// sum256x2 appends the SHA-256 of each of two blocks to sums. They have size bytes,
// whole chunks, and are in p, one behind the other.
func sum256x2(sums, p []byte, size int) []byte {
	state := state256x2{initial256, initial256}
	add256x2(&state, &[2]*byte{&p[0], &p[size]}, size/chunk256, &k256)

	padding := [chunk256]byte{0x80}
	binary.BigEndian.PutUint64(padding[chunk256-8:], uint64(size)*8)
	add256x2(&state, &[2]*byte{&padding[0], &padding[0]}, 1, &k256)
	for _, words := range state {
		for _, at := range order256 {
			sums = binary.BigEndian.AppendUint32(sums, words[at])
		}
	}
	return sums
}
