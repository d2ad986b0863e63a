package unpack

import (
	"archive/tar"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// metadata is what an entry sets of a file, but for its content: what
// extractTarFileEntry of containers/storage pkg/archive would set.
type metadata struct {
	uid, gid int
	chown    bool
	mode     uint32 // permissions, set-id and sticky bits
	times    [2]unix.Timespec
	setTimes bool // not of a directory, which gets them when all in it is there
	xattrs   []xattr
	override *xattr // the store's own, or nil
}

type xattr struct {
	name, value string
}

// xattrPrefix begins the names of PAX records that are extended attributes.
const xattrPrefix = "SCHILY.xattr."

// newMetadata returns the metadata of an entry, whose IDs were mapped already.
func newMetadata(h *tar.Header, options *Options) *metadata {
	m := &metadata{
		uid: h.Uid, gid: h.Gid, chown: options.ForceMask == nil,
		mode:  uint32(h.Mode) & 0o7777,
		times: fileTimes(accessTime(h), h.ModTime), setTimes: h.Typeflag != tar.TypeDir,
	}
	// In the order of names, so that one layer always fails with one error.
	for _, key := range slices.Sorted(maps.Keys(h.PAXRecords)) {
		if name, ok := strings.CutPrefix(key, xattrPrefix); ok && name != "security.selinux" {
			m.xattrs = append(m.xattrs, xattr{name, h.PAXRecords[key]})
		}
	}
	if options.ForceMask == nil {
		return m
	}
	m.mode = permissions(*options.ForceMask)
	if h.Typeflag != tar.TypeSymlink && h.Typeflag != tar.TypeLink {
		m.override = override(h, h.FileInfo().Mode())
	}
	return m
}

// accessTime returns an entry's access time, which is never before that of its
// modification.
func accessTime(h *tar.Header) time.Time {
	if h.AccessTime.Before(h.ModTime) {
		return h.ModTime
	}
	return h.AccessTime
}

// fileTimes returns times as containers/storage sets them of all but symlinks:
// what does not fit into nanoseconds since 1970 becomes 1970.
func fileTimes(access, modification time.Time) (times [2]unix.Timespec) {
	first, last := time.Unix(0, 0), time.Unix(0, 1<<63-1)
	for i, t := range []time.Time{access, modification} {
		if t.Before(first) || t.After(last) {
			t = first
		}
		times[i] = unix.NsecToTimespec(t.UnixNano())
	}
	return times
}

// linkTimes returns times as containers/storage sets them of symlinks.
func linkTimes(access, modification time.Time) []unix.Timespec {
	times := make([]unix.Timespec, 2)
	for i, t := range []time.Time{access, modification} {
		if t.IsZero() {
			times[i] = unix.Timespec{Nsec: unix.UTIME_OMIT}
		} else {
			times[i] = unix.NsecToTimespec(t.UnixNano())
		}
	}
	return times
}

// applyTo sets the metadata of an open file. What it has already is not set
// again: each would be a transaction of the filesystem.
func (m *metadata) applyTo(fd int, options *Options) error {
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return fmt.Errorf("fstat: %w", err)
	}
	chowned, err := m.applyOwner(fd, &stat, options)
	if err != nil {
		return err
	}
	if chowned || stat.Mode&0o7777 != m.mode {
		if err := unix.Fchmod(fd, m.mode); err != nil {
			return fmt.Errorf("setting mode %o: %w", m.mode, err)
		}
	}
	if m.setTimes {
		if err := setTimes(fd, &m.times); err != nil {
			return err
		}
	}
	return m.setXattrs(options, func(x xattr) error { return unix.Fsetxattr(fd, x.name, []byte(x.value), 0) })
}

// applyOwner sets the owner of an open file, and tells whether it had another.
func (m *metadata) applyOwner(fd int, stat *unix.Stat_t, options *Options) (bool, error) {
	return m.setOwner(stat, options, func() error { return unix.Fchown(fd, m.uid, m.gid) })
}

// setOwner calls chown where the owner is another one, and tells whether it did.
func (m *metadata) setOwner(stat *unix.Stat_t, options *Options, chown func() error) (bool, error) {
	if !m.chown || stat.Uid == uint32(m.uid) && stat.Gid == uint32(m.gid) {
		return false, nil
	}
	err := chown()
	switch {
	case err == nil, options.IgnoreChownErrors:
		return true, nil
	case errors.Is(err, unix.EINVAL):
		return false, fmt.Errorf("giving it the owner %d:%d, which the user namespace may not have (see /etc/subuid and /etc/subgid): %w", m.uid, m.gid, err)
	}
	return false, fmt.Errorf("giving it the owner %d:%d: %w", m.uid, m.gid, err)
}

// setXattrs sets the extended attributes of the entry, but for those that the
// filesystem or the user namespace can't have, and then the store's own, which
// has to be there.
func (m *metadata) setXattrs(options *Options, set func(xattr) error) error {
	for _, x := range m.xattrs {
		err := set(x)
		ignored := errors.Is(err, unix.ENOTSUP) || options.InUserNS && errors.Is(err, unix.EPERM)
		if err != nil && !ignored {
			return fmt.Errorf("setting extended attribute %q: %w", x.name, err)
		}
	}
	if m.override == nil {
		return nil
	}
	if err := set(*m.override); err != nil {
		return fmt.Errorf("setting extended attribute %q: %w", m.override.name, err)
	}
	return nil
}
