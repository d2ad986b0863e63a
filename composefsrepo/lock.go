package composefsrepo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// How often a lock that somebody else holds is tried, and when the user is to
// hear of it.
const (
	lockInterval = 50 * time.Millisecond
	lockPatience = time.Second
)

// lock takes the shared lock that keeps the repository's garbage from being
// collected; closing dir releases it. It does not wait in the kernel, where a
// cancel would not reach it.
func lock(ctx context.Context, dir *os.File, options *Options) error {
	start := time.Now()
	told := options == nil || options.Waiting == nil
	for {
		err := unix.Flock(int(dir.Fd()), unix.LOCK_SH|unix.LOCK_NB)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("locking: %w", err)
		}
		if !told && time.Since(start) >= lockPatience {
			options.Waiting(dir.Name())
			told = true
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for the lock that another program holds: %w", ctx.Err())
		case <-time.After(lockInterval):
		}
	}
}
