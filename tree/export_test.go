package tree

import "testing"

// WithMaxHeld bounds what is held of an image, for the time of a test.
func WithMaxHeld(t testing.TB, bytes int64) {
	was := maxHeld
	maxHeld = bytes
	t.Cleanup(func() { maxHeld = was })
}
