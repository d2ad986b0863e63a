package composefsrepo

import (
	"context"
	"os"

	"github.com/skopeo-cfs/skopeo-cfs/internal/flock"
)

// lock takes the shared lock that keeps the repository's garbage from being
// collected; closing dir releases it.
func lock(ctx context.Context, dir *os.File, options *Options) error {
	var waiting func()
	if options != nil && options.Waiting != nil {
		waiting = func() { options.Waiting(dir.Name()) }
	}
	return flock.Lock(ctx, dir, flock.Shared, waiting)
}
