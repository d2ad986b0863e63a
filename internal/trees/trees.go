// Package trees lists directories for tests, with all that tells two entries
// apart but for what a copy can't have: inode numbers and the times of changes.
// It also computes the tree that the layers of an image make up.
package trees

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Entry is what stands at a path.
type Entry struct {
	Mode     string // type and permissions, octal
	UID, GID uint32
	Size     int64 // in bytes, of regular files and symlinks
	ModTime  string
	// AccessTime is "" where it may be that of a test's own reading.
	AccessTime string
	Device     string // of devices
	Target     string // of symlinks
	Content    string // of regular files: its SHA-256
	Xattrs     string // all of them, sorted
	Links      string // the other names of what has several, sorted
}

// List returns the entries below a directory, and itself as ".".
func List(t testing.TB, dir string) map[string]Entry {
	t.Helper()
	entries := listAll(t, dir)
	for name, e := range entries {
		e.AccessTime = ""
		entries[name] = e
	}
	return entries
}

// listAll is List with access times, which are those before it.
func listAll(t testing.TB, dir string) map[string]Entry {
	t.Helper()
	entries := map[string]Entry{}
	names := map[uint64][]string{}
	inodes := map[string]uint64{}
	accessTimes := map[uint64]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		var stat unix.Stat_t
		if err := unix.Lstat(path, &stat); errors.Is(err, fs.ErrNotExist) && d.Type() == fs.ModeDevice|fs.ModeCharDevice {
			return nil // a whiteout of an overlay filesystem, which lists those that hide nothing
		} else if err != nil {
			return err
		}
		if entries[name], err = entry(path, &stat); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if !d.IsDir() && stat.Nlink > 1 {
			// The first of the names was read already.
			if at, ok := accessTimes[stat.Ino]; ok {
				e := entries[name]
				e.AccessTime = at
				entries[name] = e
			}
			accessTimes[stat.Ino] = entries[name].AccessTime
			names[stat.Ino] = append(names[stat.Ino], name)
			inodes[name] = stat.Ino
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, inode := range inodes {
		e := entries[name]
		e.Links = strings.Join(names[inode], " ")
		entries[name] = e
	}
	return entries
}

// ListUnpacked lists a directory that something was unpacked into after start.
// A time since then is none of what was unpacked: it is "now".
func ListUnpacked(t testing.TB, dir string, start time.Time) map[string]Entry {
	t.Helper()
	return sinceIsNow(t, List(t, dir), start)
}

// ListUntouched is ListUnpacked with access times, for a directory that nothing
// was read of since it was unpacked into.
func ListUntouched(t testing.TB, dir string, start time.Time) map[string]Entry {
	t.Helper()
	return sinceIsNow(t, listAll(t, dir), start)
}

func sinceIsNow(t testing.TB, entries map[string]Entry, start time.Time) map[string]Entry {
	t.Helper()
	for name, e := range entries {
		for _, at := range []*string{&e.ModTime, &e.AccessTime} {
			var seconds int64
			if *at == "" {
				continue
			}
			if _, err := fmt.Sscanf(*at, "%d.", &seconds); err != nil {
				t.Fatal(err)
			}
			if now := time.Now().Unix(); seconds >= start.Unix() && seconds <= now {
				*at = "now"
			}
		}
		entries[name] = e
	}
	return entries
}

func entry(path string, stat *unix.Stat_t) (e Entry, err error) {
	e = Entry{
		Mode: fmt.Sprintf("%o", stat.Mode), UID: stat.Uid, GID: stat.Gid,
		ModTime:    fmt.Sprintf("%d.%09d", stat.Mtim.Sec, stat.Mtim.Nsec),
		AccessTime: fmt.Sprintf("%d.%09d", stat.Atim.Sec, stat.Atim.Nsec),
	}
	switch stat.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		content, err := os.ReadFile(path)
		if err != nil {
			return e, err
		}
		sum := sha256.Sum256(content)
		e.Size, e.Content = stat.Size, hex.EncodeToString(sum[:])
	case unix.S_IFLNK:
		e.Size = stat.Size
		if e.Target, err = os.Readlink(path); err != nil {
			return e, err
		}
	case unix.S_IFCHR, unix.S_IFBLK:
		e.Device = fmt.Sprintf("%d:%d", unix.Major(stat.Rdev), unix.Minor(stat.Rdev))
	}
	all, err := xattrsOf(path)
	e.Xattrs = Joined(all)
	return e, err
}

// xattrsOf returns the extended attributes of what is at a path.
func xattrsOf(path string) (map[string]string, error) {
	buffer := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, buffer)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	found := map[string]string{}
	value := make([]byte, 64<<10)
	for _, name := range strings.Split(strings.TrimSuffix(string(buffer[:n]), "\x00"), "\x00") {
		if name == "" {
			continue
		}
		n, err := unix.Lgetxattr(path, name, value)
		if errors.Is(err, unix.EINVAL) { // capabilities that are none, which can be set
			found[name] = "(invalid)"
			continue
		}
		if err != nil {
			return nil, err
		}
		found[name] = string(value[:n])
	}
	return found, nil
}

// Joined returns extended attributes as an Entry has them, sorted by name.
func Joined(xattrs map[string]string) string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(xattrs)) {
		list = append(list, fmt.Sprintf("%s=%q", name, xattrs[name]))
	}
	return strings.Join(list, " ")
}
