package tree

import (
	"fmt"
	"sync/atomic"
)

// budget bounds what is held of an image, all layers together.
type budget struct{ taken atomic.Int64 }

const (
	maxHeld  = 1 << 30 // bytes
	nodeSize = 512     // about what a file takes, its name but for the letters included
)

// take takes so many bytes. It may be called concurrently.
func (b *budget) take(bytes int) error {
	if b.taken.Add(int64(bytes)) > maxHeld {
		return fmt.Errorf("%w: what there is to know of the image's files takes more than %d MiB", ErrTooLarge, maxHeld>>20)
	}
	return nil
}
