package main

import (
	"archive/tar"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/tree"
)

// listedFile is a file of an image, or an entry of a layer, as it is listed.
type listedFile struct {
	Path      string            `json:"path"`
	RawPath   []byte            `json:"rawPath,omitempty"` // where the path is not UTF-8; so with RawTarget
	Type      string            `json:"type"`
	Mode      string            `json:"mode"` // the permissions, octal
	UID       int64             `json:"uid"`
	GID       int64             `json:"gid"`
	Size      *int64            `json:"size,omitempty"`  // of regular files and symlinks, in bytes
	ModTime   json.Number       `json:"mtime,omitempty"` // seconds since 1970, where it is known
	Target    string            `json:"target,omitempty"`
	RawTarget []byte            `json:"rawTarget,omitempty"`
	Device    string            `json:"device,omitempty"`
	Xattrs    map[string][]byte `json:"xattrs,omitempty"`
	Object    string            `json:"object,omitempty"` // that has the content
	Links     int               `json:"links,omitempty"`
	LinkTo    string            `json:"linkTo,omitempty"` // the first path of the same file
	Layer     int               `json:"layer,omitempty"`
	Total     *int64            `json:"total,omitempty"` // of what is in a directory

	time time.Time
	mode uint32
	kind byte // as in the first column
}

// kinds are the names of types of files, and the letters for them.
var kinds = map[uint32]struct {
	name   string
	letter byte
}{
	unix.S_IFREG: {"file", '-'}, unix.S_IFDIR: {"directory", 'd'}, unix.S_IFLNK: {"symlink", 'l'},
	unix.S_IFCHR: {"character device", 'c'}, unix.S_IFBLK: {"block device", 'b'}, unix.S_IFIFO: {"fifo", 'p'},
}

// listNode returns what is listed of a file.
func listNode(path string, n *tree.Node) *listedFile {
	f := &listedFile{
		mode: n.Mode & 0o7777, UID: int64(n.UID), GID: int64(n.GID),
		Links: n.Links, Layer: n.Layer + 1, Object: n.Object().String(),
		Type: kinds[n.Type()].name, kind: kinds[n.Type()].letter,
	}
	f.Mode = fmt.Sprintf("%04o", f.mode)
	f.setPath(path)
	f.setTarget(n.Target)
	if !n.ModTime.IsZero() {
		f.setTime(n.ModTime)
	}
	switch n.Type() {
	case unix.S_IFREG, unix.S_IFLNK:
		f.Size = &n.Size
	case unix.S_IFCHR, unix.S_IFBLK:
		f.Device = fmt.Sprintf("%d:%d", unix.Major(n.Rdev), unix.Minor(n.Rdev))
	}
	for name, value := range n.Xattrs {
		f.setXattr(name, value)
	}
	return f
}

// entryTypes are the types of files that entries of tars describe. A hard link is
// none of its own.
var entryTypes = map[byte]uint32{
	tar.TypeReg: unix.S_IFREG, tar.TypeDir: unix.S_IFDIR, tar.TypeSymlink: unix.S_IFLNK,
	tar.TypeChar: unix.S_IFCHR, tar.TypeBlock: unix.S_IFBLK, tar.TypeFifo: unix.S_IFIFO,
}

// listEntry returns what is listed of an entry, without its content.
func listEntry(e *tree.Entry) *listedFile {
	f := &listedFile{mode: uint32(e.Mode) & 0o7777, UID: int64(e.Uid), GID: int64(e.Gid)}
	f.Mode = fmt.Sprintf("%04o", f.mode)
	f.setPath(e.Name)
	f.setTime(e.ModTime)
	switch kind, ok := kinds[entryTypes[e.Typeflag]]; {
	case ok:
		f.Type, f.kind = kind.name, kind.letter
	case e.Typeflag == tar.TypeLink:
		f.Type, f.kind, f.LinkTo = "hard link", 'h', e.Linkname
	default:
		f.Type, f.kind = fmt.Sprintf("type %q", e.Typeflag), '?'
	}
	switch e.Typeflag {
	case tar.TypeReg:
		f.Size = &e.Size
	case tar.TypeSymlink:
		f.setTarget(e.Linkname)
	case tar.TypeChar, tar.TypeBlock:
		f.Device = fmt.Sprintf("%d:%d", e.Devmajor, e.Devminor)
	}
	for key, value := range e.PAXRecords {
		if name, ok := strings.CutPrefix(key, "SCHILY.xattr."); ok {
			f.setXattr(name, value)
		}
	}
	return f
}

func (f *listedFile) setPath(path string) {
	f.Path = path
	if !utf8.ValidString(path) {
		f.RawPath = []byte(path)
	}
}

func (f *listedFile) setTarget(target string) {
	f.Target = target
	if !utf8.ValidString(target) {
		f.RawTarget = []byte(target)
	}
}

func (f *listedFile) setTime(t time.Time) {
	f.time = t
	seconds, nanoseconds, sign := t.Unix(), t.Nanosecond(), ""
	if seconds < 0 && nanoseconds > 0 {
		seconds, nanoseconds = seconds+1, 1e9-nanoseconds
		if seconds == 0 {
			sign = "-"
		}
	}
	text := fmt.Sprintf("%s%d.%09d", sign, seconds, nanoseconds)
	f.ModTime = json.Number(strings.TrimSuffix(strings.TrimRight(text, "0"), "."))
}

func (f *listedFile) setXattr(name, value string) {
	if f.Xattrs == nil {
		f.Xattrs = map[string][]byte{}
	}
	f.Xattrs[name] = []byte(value)
}

// columns returns the file as columns of a listing, its name in the last.
func (f *listedFile) columns(name string) []string {
	size, at := "-", "-"
	switch {
	case f.Device != "":
		size = f.Device
	case f.Total != nil:
		size = fmt.Sprint(*f.Total)
	case f.Size != nil:
		size = fmt.Sprint(*f.Size)
	}
	if f.ModTime != "" {
		at = f.time.UTC().Format("2006-01-02 15:04")
	}
	name = printable(name)
	switch {
	case f.Target != "":
		name += " -> " + printable(f.Target)
	case f.kind == 'h':
		name += " link to " + printable(f.LinkTo)
	}
	return []string{f.permissions(), fmt.Sprint(f.UID), fmt.Sprint(f.GID), size, at, name}
}

// permissions spells type and permissions as ls does.
func (f *listedFile) permissions() string {
	mode, out := f.mode, []byte{f.kind}
	for i, letter := range []byte("rwxrwxrwx") {
		if mode&(1<<(8-i)) == 0 {
			letter = '-'
		}
		out = append(out, letter)
	}
	for i, special := range []struct{ set, alone byte }{{'s', 'S'}, {'s', 'S'}, {'t', 'T'}} {
		if at := 3 + 3*i; mode&(0o4000>>i) != 0 {
			if out[at] == 'x' {
				out[at] = special.set
			} else {
				out[at] = special.alone
			}
		}
	}
	return string(out)
}

// printColumns prints rows, all columns but the first and the last flush right.
func printColumns(out io.Writer, rows [][]string) error {
	if len(rows) == 0 {
		return nil
	}
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], len(cell))
		}
	}
	for _, row := range rows {
		for i, cell := range row[:len(row)-1] {
			row[i] = fmt.Sprintf("%*s", widths[i], cell)
		}
		if _, err := fmt.Fprintln(out, strings.Join(row, " ")); err != nil {
			return err
		}
	}
	return nil
}

// jsonArray writes one JSON array, an element at a time.
type jsonArray struct {
	out   io.Writer
	count int
}

func (a *jsonArray) add(element any) error {
	data, err := json.Marshal(element)
	if err != nil {
		return err
	}
	separator := ",\n"
	if a.count == 0 {
		separator = "[\n"
	}
	a.count++
	_, err = fmt.Fprintf(a.out, "%s%s", separator, data)
	return err
}

// end ends the array.
func (a *jsonArray) end() error {
	text := "\n]\n"
	if a.count == 0 {
		text = "[]\n"
	}
	_, err := io.WriteString(a.out, text)
	return err
}
