// Package cloner gives files the contents of others without reading them.
package cloner

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Cloner gives files the contents of others: as shared blocks where the
// filesystem has that, by copy_file_range(2) where the kernel copies by itself,
// and not at all elsewhere. It remembers what is refused between two
// filesystems. It may be used concurrently; the zero Cloner is ready for use.
type Cloner struct {
	refusals sync.Map    // of filesystems to a refusal
	some     atomic.Bool // there are refusals
}

// filesystems are those of a file that is cloned and of one that it is cloned to.
type filesystems struct{ from, to uint64 }

// refusal tells how much was refused.
type refusal int

const (
	refusedShare refusal = iota + 1
	refusedAll
)

// Outcome is what became of a clone.
type Outcome int

// What may become of a clone.
const (
	Refused Outcome = iota // the file is empty
	Copied                 // it has the content, in blocks of its own
	Shared                 // it has the content's blocks
)

// Clone gives the empty file fd the content of from, size bytes. A clone that is
// refused, for whatever reason, is no error.
func (c *Cloner) Clone(fd int, from *os.File, size int64) (Outcome, error) {
	var between filesystems
	var known any
	var err error
	if c.some.Load() { // else there is no need to know
		if between, err = devices(fd, from); err != nil {
			return Refused, err
		}
		known, _ = c.refusals.Load(between)
	}
	if known == nil {
		cloneErr := unix.IoctlFileClone(fd, int(from.Fd()))
		if cloneErr == nil {
			return Shared, nil
		}
		if between, err = devices(fd, from); err != nil {
			return Refused, err
		}
		if isRefusal(cloneErr) {
			c.refuse(between, refusedShare)
		}
	}
	if known == refusedAll {
		return Refused, nil
	}
	done, err := copyRange(fd, from, size)
	switch {
	case err == nil && done == size:
		return Copied, nil
	case done > 0: // somebody has to write all of it then
		if err := unix.Ftruncate(fd, 0); err != nil {
			return Refused, fmt.Errorf("ftruncate: %w", err)
		}
		_, err := unix.Seek(fd, 0, 0)
		return Refused, err
	case isRefusal(err):
		c.refuse(between, refusedAll)
	}
	return Refused, nil
}

func (c *Cloner) refuse(between filesystems, r refusal) {
	c.refusals.Store(between, r)
	c.some.Store(true)
}

// devices returns the filesystems of two files.
func devices(fd int, from *os.File) (filesystems, error) {
	var source, dest unix.Stat_t
	if err := errors.Join(unix.Fstat(int(from.Fd()), &source), unix.Fstat(fd, &dest)); err != nil {
		return filesystems{}, fmt.Errorf("fstat: %w", err)
	}
	return filesystems{source.Dev, dest.Dev}, nil
}

// isRefusal tells whether an error says that something can't be done at all,
// between these filesystems or by this process.
func isRefusal(err error) bool {
	for _, errno := range []unix.Errno{unix.EXDEV, unix.EOPNOTSUPP, unix.ENOTTY, unix.ENOSYS, unix.EPERM, unix.EACCES} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// copyRange copies with copy_file_range and returns how far it came.
func copyRange(fd int, from *os.File, size int64) (done int64, err error) {
	for done < size {
		at := done
		n, err := unix.CopyFileRange(int(from.Fd()), &at, fd, nil, int(min(size-done, 1<<30)), 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return done, err
		}
		done += int64(n)
	}
	return done, nil
}
