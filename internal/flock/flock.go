// Package flock takes flock(2) locks without waiting in the kernel, so that a wait
// ends when its context does.
package flock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// How often a lock that somebody else holds is tried, and how long until the
// user should hear of it.
const (
	interval = 50 * time.Millisecond
	patience = time.Second
)

// Shared and Exclusive are the kinds of lock.
const (
	Shared    = unix.LOCK_SH
	Exclusive = unix.LOCK_EX
)

// Lock takes a lock on an open file or directory. It lasts until the file is
// closed or the process ends. Lock waits until ctx is done, and calls waiting,
// unless that is nil, once it has waited for a second.
func Lock(ctx context.Context, file *os.File, kind int, waiting func()) error {
	start := time.Now()
	for {
		locked, err := Try(file, kind)
		if locked || err != nil {
			return err
		}
		if waiting != nil && time.Since(start) >= patience {
			waiting()
			waiting = nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for the lock that another program holds: %w", ctx.Err())
		case <-time.After(interval):
		}
	}
}

// Try takes a lock, and returns false where somebody else holds it.
func Try(file *os.File, kind int) (bool, error) {
	err := unix.Flock(int(file.Fd()), kind|unix.LOCK_NB)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, unix.EWOULDBLOCK), errors.Is(err, unix.EINTR):
		return false, nil
	}
	return false, fmt.Errorf("locking: %w", err)
}
