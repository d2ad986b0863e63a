package erofs

import (
	"encoding/binary"
	"strings"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
)

// The extended attributes that are looked at, without "trusted.".
const (
	metacopy = "overlay.metacopy"         // has the digest of the file's content
	redirect = "overlay.redirect"         // has the path of the object
	whiteout = "overlay.overlay.whiteout" // of a regular file: it stands for a whiteout
)

const (
	xattrBodySize  = 12 // of what is before an inode's attributes, in bytes
	xattrEntrySize = 4  // of what is before each
	metacopyHeader = 4  // of what is before the digest
	maxRedirect    = 4096
	trusted        = 4 // number of the prefix "trusted."
)

// inodeXattrs visits the extended attributes of an inode: those that it shares with
// others, whose places it has, and its own.
func (w *walk) inodeXattrs(n inode) error {
	if n.xattrs == 0 {
		return nil
	}
	if w.xattrBytes -= n.xattrs; w.xattrBytes < 0 {
		return invalid("extended attributes overlap")
	}
	var body [xattrBodySize]byte
	at, end := n.offset+n.header, n.tail()
	if err := w.read(body[:], at); err != nil {
		return err
	}
	const sharedAt = 4
	at += xattrBodySize
	for range int(body[sharedAt]) {
		var id [4]byte
		if at+4 > end {
			return invalid("inode %d: extended attributes that have no room", n.number)
		}
		if err := w.read(id[:], at); err != nil {
			return err
		}
		at += 4
		if _, err := w.xattr(n, w.xattrs+4*int64(binary.LittleEndian.Uint32(id[:])), w.size); err != nil {
			return err
		}
	}
	for at < end {
		size, err := w.xattr(n, at, end)
		if err != nil {
			return err
		}
		at += size
	}
	return nil
}

// xattr visits the extended attribute at an offset, which ends before end, and returns
// its size, padding included.
func (w *walk) xattr(n inode, at, end int64) (int64, error) {
	var header [xattrEntrySize]byte
	if at+xattrEntrySize > end {
		return 0, invalid("inode %d: an extended attribute that has no room", n.number)
	}
	if err := w.read(header[:], at); err != nil {
		return 0, err
	}
	nameLength, valueLength := int64(header[0]), int64(binary.LittleEndian.Uint16(header[2:]))
	size := (xattrEntrySize + nameLength + valueLength + 3) &^ 3
	if at+size > end {
		return 0, invalid("inode %d: an extended attribute that has no room", n.number)
	}
	if header[1] != trusted || valueLength > maxRedirect-nameLength {
		return size, nil
	}
	text := w.scratch[:nameLength+valueLength]
	if err := w.read(text, at+xattrEntrySize); err != nil {
		return 0, err
	}
	name, value := string(text[:nameLength]), text[nameLength:]
	switch {
	case name == metacopy:
		if d, ok := w.parseMetacopy(value); ok {
			return size, w.visit(d)
		}
	case name == redirect:
		if d, ok := w.parseRedirect(string(value)); ok {
			return size, w.visit(d)
		}
	case name == whiteout && n.is(modeRegular) && !w.whiteouts:
		return 0, invalid("inode %d stands for a whiteout, which has files of its own in images of this version", n.number)
	}
	return size, nil
}

// parseMetacopy returns the digest in the attribute by which overlayfs knows it:
// version, length, flags, number of the hash, digest.
func (w *walk) parseMetacopy(value []byte) (d fsverity.Digest, ok bool) {
	size := metacopyHeader + w.algorithm.Size()
	if len(value) != size || value[0] != 0 || int(value[1]) != size || value[2] != 0 || value[3] != w.algorithm.HashNumber() {
		return fsverity.Digest{}, false
	}
	d, err := fsverity.FromBytes(value[metacopyHeader:])
	return d, err == nil
}

// parseRedirect returns the object at the end of a path.
func (w *walk) parseRedirect(path string) (d fsverity.Digest, ok bool) {
	rest, name := "", ""
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		rest, name = path[:i], path[i+1:]
	}
	if len(rest) < 2 {
		return fsverity.Digest{}, false
	}
	d, err := fsverity.Parse(rest[len(rest)-2:] + name)
	return d, err == nil && d.Size() == w.algorithm.Size()
}
