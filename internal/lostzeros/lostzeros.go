// Package lostzeros finds the zeros that some importers lost. A tar ends with two
// blocks of zeros, and many programs that write tars add more zeros to fill a record.
// Importers from March to May 2026 did not store these additional zeros.
package lostzeros

import (
	"bytes"
	"hash"
)

const (
	block = 512     // a tar is made of blocks of so many bytes
	limit = 1 << 20 // how many bytes are looked for at the most
)

// Find returns how many zeros have to follow what h has hashed, size bytes, for
// the hash to become want, and whether any number does: as many as fill a block,
// and whole blocks after that, up to 1 MiB. If they do, h has them too then.
func Find(h hash.Hash, size int64, want []byte) (zeros int64, found bool) {
	var nothing [block]byte
	for zeros < limit {
		n := block - (size+zeros)%block
		h.Write(nothing[:n])
		zeros += n
		if bytes.Equal(h.Sum(nil), want) {
			return zeros, true
		}
	}
	return 0, false
}

// May tells whether size bytes may be what is left of whole bytes: whether Find
// would try as many zeros as are missing.
func May(size, whole int64) bool {
	return whole%block == 0 && size < whole && whole-size <= limit
}
