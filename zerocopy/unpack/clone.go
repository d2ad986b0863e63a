package unpack

import (
	"sync"

	"github.com/skopeo-cfs/skopeo-cfs/internal/cloner"
)

// Cloner gives files the contents of others: as shared blocks where the
// filesystem has that, by copy_file_range(2) where the kernel copies by itself,
// and not at all elsewhere. It remembers what is refused between two
// filesystems. It may be used concurrently; the zero Cloner is ready for use.
type Cloner struct {
	cloner cloner.Cloner
	dated  sync.Map // of filesystems to whether they tell of all changes
}
