package tree

import (
	"fmt"
	"sync/atomic"
)

// budget bounds what is held of an image, all layers together.
type budget struct{ taken atomic.Int64 }

// maxHeld is how much, in bytes, but for tests.
var maxHeld int64 = 1 << 30

// nodeSize is about what a file takes, in bytes, without the letters of its name.
const nodeSize = 512

// take takes so many bytes. It may be called concurrently.
func (b *budget) take(bytes int) error {
	if b.taken.Add(int64(bytes)) > maxHeld {
		return fmt.Errorf("%w: what there is to know of the image's files takes more than %d MiB", ErrTooLarge, maxHeld>>20)
	}
	return nil
}

// giveBack gives back what was taken for what is not held after all.
func (b *budget) giveBack(bytes int) { b.taken.Add(-int64(bytes)) }
