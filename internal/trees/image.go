package trees

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// Image is the tree that the layers of an image make up. It is computed from the
// tars alone, by the rules of OCI's image specification, and of
// containers-storage where they leave a choice: a directory that a layer needs
// and does not describe is made anew, and may have any attributes; so may the
// root; the entry of a hard link sets the attributes of the file.
type Image struct {
	nodes tree
	lines map[string]string
}

// OfLayers returns the tree of layers' tars, the lowest first.
func OfLayers(layers [][]byte) (Image, error) {
	all := tree{".": {mode: unix.S_IFDIR, implied: true}}
	for i, layer := range layers {
		if err := all.apply(layer); err != nil {
			return Image{}, fmt.Errorf("layer %d: %w", i+1, err)
		}
	}
	return Image{all, all.describe(all)}, nil
}

// Compare returns an error if a directory is not the image's tree, entry by
// entry: types, permissions, owners, devices, contents, links of both kinds,
// extended attributes and modification times. The error names the first few
// differences. Compare may be called concurrently.
func (i Image) Compare(dir string) error {
	found, err := treeAt(dir)
	if err != nil {
		return err
	}
	got := found.describe(i.nodes)
	names := maps.Clone(i.lines)
	maps.Copy(names, got)
	var differences []string
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if want, got := i.lines[name], got[name]; want != got {
			differences = append(differences, fmt.Sprintf("%q is %s, not %s", name, orMissing(got), orMissing(want)))
		}
	}
	const shown = 5
	switch n := len(differences); {
	case n == 0:
		return nil
	case n > shown:
		differences = append(differences[:shown], fmt.Sprintf("and %d more", n-shown))
	}
	return errors.New(strings.Join(differences, "; "))
}

func orMissing(line string) string {
	if line == "" {
		return "missing"
	}
	return line
}

// tree is the files of an image by their paths, "." being the root.
type tree map[string]*node

// node is what a path of a tree stands for. Names of one file have one node.
type node struct {
	mode      uint32 // type and permissions
	uid, gid  uint32
	device    uint64
	content   string // a file's digest, a symlink's target
	xattrs    string // sorted
	sec, nsec int64  // of the modification time
	implied   bool   // a directory that no entry of the last tar that needs it describes
}

// apply applies a layer's tar.
func (all tree) apply(layer []byte) error {
	below := maps.Clone(all) // what may be whited out
	for entries := tar.NewReader(bytes.NewReader(layer)); ; {
		h, err := entries.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := all.add(h, entries, below); err != nil {
			return fmt.Errorf("%q: %w", h.Name, err)
		}
	}
}

// add applies an entry.
func (all tree) add(h *tar.Header, content io.Reader, below tree) error {
	name := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
	if name == "" {
		return nil
	}
	all.imply(path.Dir(name), below)
	dir, base := path.Split(name)
	if base == ".wh..wh..opq" {
		all.removeBelow(dir, below)
		return nil
	}
	if hidden, ok := strings.CutPrefix(base, ".wh."); ok {
		if all[dir+hidden] == below[dir+hidden] {
			delete(all, dir+hidden)
		}
		all.removeBelow(dir+hidden+"/", below)
		return nil
	}
	if old := all[name]; old != nil && old.mode&unix.S_IFMT == unix.S_IFDIR && h.Typeflag != tar.TypeDir {
		all.removeBelow(name+"/", all) // this layer's, too
	}
	if h.Typeflag == tar.TypeLink {
		linked := all[strings.TrimPrefix(path.Clean("/"+h.Linkname), "/")]
		if linked == nil {
			return fmt.Errorf("a link to %q, which is not there", h.Linkname)
		}
		attributes := nodeOf(h, nil)
		linked.uid, linked.gid, linked.sec, linked.nsec = attributes.uid, attributes.gid, attributes.sec, attributes.nsec
		linked.mode = linked.mode&unix.S_IFMT | attributes.mode&^unix.S_IFMT
		all[name] = linked
		return nil
	}
	data, err := io.ReadAll(content)
	if err != nil {
		return err
	}
	all[name] = nodeOf(h, data)
	return nil
}

// removeBelow removes what has the prefix, but for what this layer has added.
func (all tree) removeBelow(prefix string, below tree) {
	for name, n := range below {
		if strings.HasPrefix(name, prefix) && all[name] == n {
			delete(all, name)
		}
	}
}

// imply adds a directory and those above it, where this layer has not.
func (all tree) imply(dir string, below tree) {
	for ; all[dir] == nil || all[dir] == below[dir]; dir = path.Dir(dir) {
		all[dir] = &node{mode: unix.S_IFDIR, implied: true}
	}
}

var fileTypes = map[byte]uint32{
	tar.TypeReg: unix.S_IFREG, tar.TypeDir: unix.S_IFDIR, tar.TypeSymlink: unix.S_IFLNK,
	tar.TypeChar: unix.S_IFCHR, tar.TypeBlock: unix.S_IFBLK, tar.TypeFifo: unix.S_IFIFO,
}

// nodeOf returns what an entry of a tar describes.
func nodeOf(h *tar.Header, content []byte) *node {
	n := &node{
		mode: uint32(h.Mode)&0o7777 | fileTypes[h.Typeflag], uid: uint32(h.Uid), gid: uint32(h.Gid),
		sec: h.ModTime.Unix(), nsec: int64(h.ModTime.Nanosecond()),
	}
	switch h.Typeflag {
	case tar.TypeReg:
		n.content = digest.FromBytes(content).String()
	case tar.TypeSymlink:
		n.content = h.Linkname
		n.mode |= 0o777 // whatever the tar says
	case tar.TypeChar, tar.TypeBlock:
		n.device = unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))
	}
	xattrs := map[string]string{}
	for key, value := range h.PAXRecords {
		if name, ok := strings.CutPrefix(key, "SCHILY.xattr."); ok {
			xattrs[name] = value
		}
	}
	n.xattrs = Joined(xattrs)
	return n
}

// treeAt reads the tree below a directory.
func treeAt(root string) (tree, error) {
	all, inodes := tree{}, map[uint64]*node{}
	err := filepath.WalkDir(root, func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		var stat unix.Stat_t
		if err := unix.Lstat(name, &stat); err != nil {
			return fmt.Errorf("looking at %q: %w", name, err)
		}
		n := inodes[stat.Ino]
		if n == nil || stat.Nlink == 1 || stat.Mode&unix.S_IFMT == unix.S_IFDIR {
			if n, err = nodeAt(name, &stat); err != nil {
				return fmt.Errorf("reading %q: %w", name, err)
			}
			inodes[stat.Ino] = n
		}
		all[relative] = n
		return nil
	})
	return all, err
}

// nodeAt reads what is at a path.
func nodeAt(name string, stat *unix.Stat_t) (*node, error) {
	e, err := entry(name, stat)
	if err != nil {
		return nil, err
	}
	n := &node{
		mode: stat.Mode, uid: stat.Uid, gid: stat.Gid,
		xattrs: e.Xattrs, sec: stat.Mtim.Sec, nsec: stat.Mtim.Nsec,
	}
	switch stat.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		n.content = "sha256:" + e.Content
	case unix.S_IFLNK:
		n.content = e.Target
	case unix.S_IFCHR, unix.S_IFBLK:
		n.device = stat.Rdev
	}
	return n, nil
}

// describe spells a tree out, to be compared: a line a path, with the first of
// the names that the file has. Directories that other implies have no attributes.
func (all tree) describe(other tree) map[string]string {
	first, lines := map[*node]string{}, map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		n := all[name]
		if first[n] == "" {
			first[n] = name
		}
		if implied := other[name]; implied != nil && implied.implied && n.mode&unix.S_IFMT == unix.S_IFDIR {
			lines[name] = "a directory"
			continue
		}
		lines[name] = fmt.Sprintf("%o %d:%d device %x, %q, %q, modified %d.%09d, is %q",
			n.mode, n.uid, n.gid, n.device, n.content, n.xattrs, n.sec, n.nsec, first[n])
	}
	return lines
}
