package unpack

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// What is stored has to be what was hashed. Where the blocks of a file were
// shared, either of two can be read for the hash: the clone, or the file itself.
// The clone is always right, as nobody but this process writes to it. The file is
// quicker, since it may be in the page cache already, but it may be rewritten
// between the clone and the read. It is read where that can't go unseen:
//
//   - It has fs-verity: it can't change.
//   - Or its change time is the same before the clone and after the last read.
//     write(2) moves that time before it changes the content, and holds a lock that
//     FICLONE waits for. A store through mmap(2) moves it when it faults, which it
//     has to after FICLONE: that writes dirty pages back, for which they are
//     write-protected, and keeps faults out until the blocks are shared.
//
// The second holds on filesystems whose change times are known to be kept that
// way, and only if the time is old enough that the next change gets another one:
// the clock of a filesystem has ticks. It is no proof against somebody who means
// harm: what direct I/O reads into a mapped page arrives without a fault. So the
// owner has to be one whom this process trusts.

// version is a file at a certain time.
type version struct {
	stat unix.Statx_t
	seen time.Time // before that; the file may be younger
}

// look returns what a file is now.
func look(f *os.File) (v version, err error) {
	v.seen = time.Now()
	mask := unix.STATX_TYPE | unix.STATX_MODE | unix.STATX_UID | unix.STATX_SIZE | unix.STATX_MTIME | unix.STATX_CTIME
	if err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, mask, &v.stat); err != nil {
		return v, fmt.Errorf("statx of %s: %w", f.Name(), err)
	}
	return v, nil
}

// immutable tells whether the file has fs-verity.
func (v *version) immutable() bool { return v.stat.Attributes&unix.STATX_ATTR_VERITY != 0 }

// settled tells whether any later change gives the file another change time.
func (v *version) settled() bool {
	changed := time.Unix(v.stat.Ctime.Sec, int64(v.stat.Ctime.Nsec))
	return v.seen.Sub(changed) >= settling
}

// settling is far above the tick of any filesystem's clock.
const settling = 2 * time.Second

// trusted tells whether nobody can write to the file but its owner, who is root
// or who runs this process.
func (v *version) trusted() bool {
	owner := v.stat.Uid == 0 || v.stat.Uid == uint32(os.Geteuid()) && v.stat.Uid != nobody
	return owner && v.stat.Mode&0o022 == 0
}

// nobody is also the owner of files whose owner a user namespace does not have.
const nobody = 65534

// same tells whether the file has not been changed since it was v.
func (v *version) same(later version) bool {
	return v.stat.Size == later.stat.Size && v.stat.Mtime == later.stat.Mtime && v.stat.Ctime == later.stat.Ctime
}

// device returns the file's filesystem.
func (v *version) device() uint64 { return unix.Mkdev(v.stat.Dev_major, v.stat.Dev_minor) }

// tellsChanges tells whether a file's filesystem is one of which it is known that
// no change goes without a new change time.
func (c *Cloner) tellsChanges(f *os.File, device uint64) bool {
	if known, ok := c.dated.Load(device); ok {
		return known.(bool)
	}
	var fs unix.Statfs_t
	err := unix.Fstatfs(int(f.Fd()), &fs)
	known := err == nil && (fs.Type == unix.XFS_SUPER_MAGIC || fs.Type == unix.BTRFS_SUPER_MAGIC)
	c.dated.Store(device, known)
	return known
}
