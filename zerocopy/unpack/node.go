package unpack

import (
	"archive/tar"
	"fmt"
	"path"

	"golang.org/x/sys/unix"
)

// symlink makes a symlink.
func (t *tree) symlink(h *tar.Header, name string, m *metadata) error {
	return t.at(name, func(dir int, base, procPath string) error {
		if err := unix.Symlinkat(h.Linkname, dir, base); err != nil {
			return fmt.Errorf("making a symlink: %w", err)
		}
		if err := m.applyOwnerAt(dir, base, t.options); err != nil {
			return err
		}
		if err := unix.UtimesNanoAt(dir, base, linkTimes(accessTime(h), h.ModTime), unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return fmt.Errorf("setting times: %w", err)
		}
		return m.setXattrsAt(procPath, t.options)
	})
}

// node makes a device or a fifo, or the empty file that stands for one in a
// store that gives all files one mask.
func (t *tree) node(h *tar.Header, name string, m *metadata) error {
	if t.options.ForceMask != nil {
		fd, err := t.create(name, m.mode)
		if err != nil {
			return err
		}
		if err := m.applyTo(fd, t.options); err != nil {
			unix.Close(fd)
			return withPath(name, err)
		}
		return withPath(name, closed(fd))
	}
	mode, number := m.mode, deviceNumber(h.Devmajor, h.Devminor)
	switch h.Typeflag {
	case tar.TypeBlock:
		mode |= unix.S_IFBLK
	case tar.TypeChar:
		mode |= unix.S_IFCHR
	case tar.TypeFifo:
		mode |= unix.S_IFIFO
	}
	return t.at(name, func(dir int, base, procPath string) error {
		if err := unix.Mknodat(dir, base, mode, int(number)); err != nil {
			return fmt.Errorf("making a device or fifo: %w", err)
		}
		return m.applyAt(dir, base, procPath, t.options)
	})
}

// deviceNumber returns the number that mknod(2) takes, as containers/storage
// makes it: of what is too large, the lower bits.
func deviceNumber(major, minor int64) uint32 {
	return uint32((minor&0xfff00)<<12 | (major&0xfff)<<8 | minor&0xff)
}

// link makes a hard link and gives the file the metadata of the link's entry.
// It uses no directory but its own, so that workers may call it.
func (t *tree) link(target, name string, m *metadata, toSymlink bool) error {
	from, err := t.open(path.Dir(target), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(from)
	dir, err := t.open(path.Dir(name), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	base := path.Base(name)
	if err := unix.Linkat(from, path.Base(target), dir, base, 0); err != nil {
		return fmt.Errorf("%s: making a hard link to %s: %w", name, target, err)
	}
	procPath := fmt.Sprintf("/proc/self/fd/%d/%s", dir, base)
	if !toSymlink {
		return withPath(name, m.applyAt(dir, base, procPath, t.options))
	}
	if err := m.applyOwnerAt(dir, base, t.options); err != nil {
		return withPath(name, err)
	}
	return withPath(name, m.setXattrsAt(procPath, t.options))
}

// applyAt sets the metadata of what is no symlink and can't be opened, or not
// without effects.
func (m *metadata) applyAt(dir int, base, procPath string, options *Options) error {
	if err := m.applyOwnerAt(dir, base, options); err != nil {
		return err
	}
	if err := unix.Fchmodat(dir, base, m.mode, 0); err != nil {
		return fmt.Errorf("setting mode %o: %w", m.mode, err)
	}
	if err := unix.UtimesNanoAt(dir, base, m.times[:], unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("setting times: %w", err)
	}
	return m.setXattrsAt(procPath, options)
}

// applyOwnerAt sets the owner of a name in a directory, not of what it points to.
func (m *metadata) applyOwnerAt(dir int, base string, options *Options) error {
	if !m.chown {
		return nil
	}
	var stat unix.Stat_t
	if err := unix.Fstatat(dir, base, &stat, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("fstatat: %w", err)
	}
	_, err := m.setOwner(&stat, options, func() error {
		return unix.Fchownat(dir, base, m.uid, m.gid, unix.AT_SYMLINK_NOFOLLOW)
	})
	return err
}

func (m *metadata) setXattrsAt(procPath string, options *Options) error {
	return m.setXattrs(options, func(x xattr) error { return unix.Lsetxattr(procPath, x.name, []byte(x.value), 0) })
}
