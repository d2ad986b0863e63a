//go:build !amd64

package fsverity

// canHash4 tells whether sum512x4 may be called.
const canHash4 = false

func sum512x4([]byte, []byte, int) []byte { panic("unreachable: canHash4 is false") }
