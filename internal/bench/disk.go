package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// disk is the filesystem that all is on: one of its own, XFS with reflinks,
// where that can be had, else a directory.
type disk struct {
	work     string // a temporary directory
	path     string // in it
	reflinks bool
	whyDir   error // why it is a directory, nil if it is not
}

// newDisk makes a disk of size bytes below dir. Where it is a filesystem of its
// own, that ends with the mount namespace, at the latest.
func newDisk(ctx context.Context, dir string, size int64) (_ *disk, err error) {
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		return nil, fmt.Errorf("looking at %s: %w", dir, err)
	}
	if free := int64(stat.Bavail) * stat.Bsize; free < size {
		return nil, fmt.Errorf("%s has %s free, %s are needed", dir, bytesText(free), bytesText(size))
	}
	work, err := os.MkdirTemp(dir, "skopeo-cfs-bench-")
	if err != nil {
		return nil, err
	}
	d := &disk{work: work, path: filepath.Join(work, "disk")}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.close())
		}
	}()
	if err := os.Mkdir(d.path, 0o755); err != nil {
		return nil, err
	}
	d.whyDir = d.mount(ctx, max(size, minXFS))
	d.reflinks, err = canClone(d.path)
	return d, err
}

const minXFS = 512 << 20 // bytes; mkfs.xfs makes none below 300 MB

// mount makes a filesystem in a file, which needs no name once it is mounted.
func (d *disk) mount(ctx context.Context, size int64) error {
	file := filepath.Join(d.work, "image")
	defer os.Remove(file)
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		return err
	}
	if err := os.Truncate(file, size); err != nil {
		return err
	}
	for _, command := range [][]string{
		{"mkfs.xfs", "-q", "-m", "reflink=1", file},
		{"mount", "-o", "loop", file, d.path},
	} {
		if out, err := exec.CommandContext(ctx, command[0], command[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", command[0], err, strings.TrimSpace(string(out)))
		}
	}
	return nil
}

// canClone tells whether files in dir can share their blocks.
func canClone(dir string) (bool, error) {
	from, err := os.CreateTemp(dir, "from-")
	if err != nil {
		return false, err
	}
	defer os.Remove(from.Name())
	defer from.Close()
	to, err := os.CreateTemp(dir, "to-")
	if err != nil {
		return false, err
	}
	defer os.Remove(to.Name())
	defer to.Close()
	if _, err := from.Write(make([]byte, 4096)); err != nil {
		return false, err
	}
	return unix.IoctlFileClone(int(to.Fd()), int(from.Fd())) == nil, nil
}

// String says what the disk is.
func (d *disk) String() string {
	kind := "a filesystem of its own, XFS"
	if d.whyDir != nil {
		kind = "a directory"
	}
	if !d.reflinks {
		return kind + ", without reflinks"
	}
	return kind + ", with reflinks"
}

// occupied returns how many bytes of the filesystem are in use.
func (d *disk) occupied() (int64, error) {
	var stat unix.Statfs_t
	if err := unix.Statfs(d.path, &stat); err != nil {
		return 0, fmt.Errorf("looking at the disk: %w", err)
	}
	return int64(stat.Blocks-stat.Bfree) * stat.Bsize, nil
}

// used returns how many bytes the files take: what the filesystem says, or,
// where others use it too and no blocks are shared, what the files say.
func (d *disk) used() (int64, error) {
	if d.whyDir == nil || d.reflinks {
		return d.occupied()
	}
	var size int64
	counted := map[uint64]bool{} // inodes with several names
	err := filepath.WalkDir(d.path, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		if !ok || counted[stat.Ino] {
			return nil
		}
		if stat.Nlink > 1 && !e.IsDir() {
			counted[stat.Ino] = true
		}
		size += stat.Blocks * 512
		return nil
	})
	return size, err
}

// settle waits until what was written is on the disk and what was removed no
// longer is, so that neither is work for what comes next. It returns what is
// used then.
func (d *disk) settle(ctx context.Context) (int64, error) {
	dir, err := os.Open(d.path)
	if err != nil {
		return 0, err
	}
	defer dir.Close()
	last, same := int64(-1), 0
	for range 200 { // on a disk that others use it may never be quiet
		if err := unix.Syncfs(int(dir.Fd())); err != nil {
			return 0, fmt.Errorf("writing to the disk: %w", err)
		}
		used, err := d.occupied()
		if err != nil {
			return 0, err
		}
		if same++; used != last {
			last, same = used, 0
		}
		if same == 2 {
			break
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	return d.used()
}

// removeAll removes a directory, and unmounts what containers-storage leaves
// mounted in it.
func removeAll(dir string) error {
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil {
		return fmt.Errorf("looking for mounts in %s: %w", dir, err)
	}
	for i := len(mounts) - 1; i >= 0; i-- {
		if err := unix.Unmount(mounts[i].Mountpoint, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmounting %s: %w", mounts[i].Mountpoint, err)
		}
	}
	return os.RemoveAll(dir)
}

// close unmounts the disk and removes it.
func (d *disk) close() error { return removeAll(d.work) }
