//go:build !amd64

package fsverity

// canHash2 tells whether sum256x2 may be called.
const canHash2 = false

func sum256x2([]byte, []byte, int) []byte { panic("unreachable: canHash2 is false") }
