// Package fsverity has the digests by which a composefs repository names its
// objects: those that Linux's fs-verity computes of a file's content. It holds
// them as values, computes them, and asks the kernel for them.
//
// The hash is described in the kernel's documentation of fs-verity
// (Documentation/filesystems/fsverity.rst).
package fsverity

import (
	"crypto"
	_ "crypto/sha256" // linked in for Algorithm.Hash
	_ "crypto/sha512" // linked in for Algorithm.Hash
	"encoding/hex"
	"fmt"
)

// MaxSize is the length in bytes of the longest Digest.
const MaxSize = 64

// Digest is the fs-verity digest of a file's content: 32 bytes for SHA-256,
// 64 for SHA-512. Digests are values, comparable with ==; the zero Digest is
// the digest of nothing.
type Digest struct {
	sum  [MaxSize]byte
	size uint8
}

// FromBytes returns the digest with the raw bytes of raw, which must be 32 or
// 64 of them.
func FromBytes(raw []byte) (Digest, error) {
	if len(raw) != SHA256.Size() && len(raw) != SHA512.Size() {
		return Digest{}, fmt.Errorf("fs-verity digest of %d bytes: want %d or %d", len(raw), SHA256.Size(), SHA512.Size())
	}
	d := Digest{size: uint8(len(raw))}
	copy(d.sum[:], raw)
	return d, nil
}

// Parse returns the digest that text spells in lower-case hex, as String does.
func Parse(text string) (Digest, error) {
	raw, err := hex.DecodeString(text)
	if err != nil {
		return Digest{}, fmt.Errorf("fs-verity digest %.130q: %w", text, err)
	}
	d, err := FromBytes(raw)
	if err != nil {
		return Digest{}, err
	}
	if d.String() != text {
		return Digest{}, fmt.Errorf("fs-verity digest %q: not in lower case", text)
	}
	return d, nil
}

// String returns the digest in lower-case hex, "" for the zero Digest.
func (d Digest) String() string { return hex.EncodeToString(d.sum[:d.size]) }

// Bytes returns a copy of the raw digest.
func (d Digest) Bytes() []byte { return append([]byte(nil), d.sum[:d.size]...) }

// Size returns the digest's length in bytes: 32, 64, or 0 for the zero Digest.
func (d Digest) Size() int { return int(d.size) }

// IsZero tells whether d is the zero Digest.
func (d Digest) IsZero() bool { return d.size == 0 }

// Algorithm is what a digest is computed with: a hash, and the size of the
// blocks that it is applied to. Algorithms are comparable with ==.
type Algorithm struct {
	Hash         crypto.Hash // crypto.SHA256 or crypto.SHA512
	LogBlockSize uint8       // log2 of the block size in bytes: 12 or 16
}

// The algorithms in use today, both with blocks of 4096 bytes.
var (
	SHA256 = Algorithm{crypto.SHA256, 12}
	SHA512 = Algorithm{crypto.SHA512, 12}
)

// Numbers of the hashes in the kernel's interface (linux/fsverity.h) and in
// everything derived from it.
const (
	hashNumberSHA256 = 1
	hashNumberSHA512 = 2
)

// AlgorithmFromNumbers returns the algorithm that the kernel's number of a
// hash (1 for SHA-256, 2 for SHA-512) and a log2 of a block size name.
func AlgorithmFromNumbers(hash, logBlockSize uint8) (Algorithm, error) {
	a := Algorithm{LogBlockSize: logBlockSize}
	switch hash {
	case hashNumberSHA256:
		a.Hash = crypto.SHA256
	case hashNumberSHA512:
		a.Hash = crypto.SHA512
	default:
		return Algorithm{}, fmt.Errorf("unknown fs-verity hash number %d", hash)
	}
	if logBlockSize != 12 && logBlockSize != 16 {
		return Algorithm{}, fmt.Errorf("unknown fs-verity block size 2^%d", logBlockSize)
	}
	return a, nil
}

// ParseAlgorithm returns the algorithm with the name that String gives it.
func ParseAlgorithm(name string) (Algorithm, error) {
	for _, hash := range []crypto.Hash{crypto.SHA256, crypto.SHA512} {
		for _, logBlockSize := range []uint8{12, 16} {
			if a := (Algorithm{hash, logBlockSize}); a.String() == name {
				return a, nil
			}
		}
	}
	return Algorithm{}, fmt.Errorf("unknown fs-verity algorithm %.60q", name)
}

// String returns the algorithm's name, as in "fsverity-sha512-12".
func (a Algorithm) String() string {
	return fmt.Sprintf("fsverity-sha%d-%d", a.Size()*8, a.LogBlockSize)
}

// Size returns the length in bytes of the algorithm's digests, 0 for the zero
// Algorithm.
func (a Algorithm) Size() int {
	if a.Hash == 0 {
		return 0
	}
	return a.Hash.Size()
}

// BlockSize returns the size in bytes of the blocks that are hashed.
func (a Algorithm) BlockSize() int { return 1 << a.LogBlockSize }

// HashNumber returns the kernel's number of the hash.
func (a Algorithm) HashNumber() uint8 {
	if a.Hash == crypto.SHA512 {
		return hashNumberSHA512
	}
	return hashNumberSHA256
}
