package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
)

// node is what a path of a tree stands for. Names of one file have one node.
type node struct {
	mode      uint32 // type and permissions
	uid, gid  uint32
	device    uint64
	content   string // a file's digest, a symlink's target
	xattrs    map[string]string
	sec, nsec int64 // of the modification time
	implied   bool  // a directory that no entry of the last tar that needs it describes
}

// tree is the files of an image by their paths, "." being the root.
type tree map[string]*node

// layersOf reads the layers of an image in a repository.
func layersOf(t testing.TB, repo string, image fixtures.Image) [][]byte {
	t.Helper()
	r, err := composefsrepo.Open(t.Context(), repo, nil)
	require.NoError(t, err)
	defer r.Close()
	opened, err := r.ImageByDigest(t.Context(), image.Manifest)
	require.NoError(t, err)
	var layers [][]byte
	for i := range opened.Layers {
		content, err := opened.OpenLayer(t.Context(), i)
		require.NoError(t, err)
		data, err := io.ReadAll(content)
		require.NoError(t, err)
		require.NoError(t, content.Close())
		layers = append(layers, data)
	}
	return layers
}

// apply applies a layer's tar, by the rules of OCI's image specification, and of
// containers-storage where they leave a choice: a directory that a layer needs
// and does not describe is made anew, and may have any attributes; the root has
// those that containers-storage gives it, whatever an entry says; the entry of a
// hard link is as good as the file's to set attributes.
func (all tree) apply(t testing.TB, layer []byte) {
	t.Helper()
	below := maps.Clone(all) // what may be whited out
	for entries := tar.NewReader(bytes.NewReader(layer)); ; {
		h, err := entries.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		require.NoError(t, err)
		name := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
		if name == "" {
			continue
		}
		all.imply(path.Dir(name), below)
		dir, base := path.Split(name)
		if base == ".wh..wh..opq" {
			all.removeBelow(dir, below)
			continue
		}
		if hidden, ok := strings.CutPrefix(base, ".wh."); ok {
			if all[dir+hidden] == below[dir+hidden] {
				delete(all, dir+hidden)
			}
			all.removeBelow(dir+hidden+"/", below)
			continue
		}
		if old := all[name]; old != nil && old.mode&unix.S_IFMT == unix.S_IFDIR && h.Typeflag != tar.TypeDir {
			all.removeBelow(name+"/", below)
		}
		if h.Typeflag == tar.TypeLink {
			linked := all[strings.TrimPrefix(path.Clean("/"+h.Linkname), "/")]
			require.NotNil(t, linked, "%s is a link to what is not there", name)
			attributes := nodeOf(h, nil)
			linked.uid, linked.gid, linked.sec, linked.nsec = attributes.uid, attributes.gid, attributes.sec, attributes.nsec
			linked.mode = linked.mode&unix.S_IFMT | attributes.mode&^unix.S_IFMT
			all[name] = linked
			continue
		}
		content, err := io.ReadAll(entries)
		require.NoError(t, err)
		all[name] = nodeOf(h, content)
	}
}

// removeBelow removes what has the prefix, but for what is not below.
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
		xattrs: map[string]string{}, sec: h.ModTime.Unix(), nsec: int64(h.ModTime.Nanosecond()),
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
	for key, value := range h.PAXRecords {
		if name, ok := strings.CutPrefix(key, "SCHILY.xattr."); ok {
			n.xattrs[name] = value
		}
	}
	return n
}

// treeAt reads the tree below a directory.
func treeAt(t testing.TB, root string) tree {
	t.Helper()
	all, inodes := tree{}, map[uint64]*node{}
	require.NoError(t, filepath.WalkDir(root, func(name string, _ fs.DirEntry, err error) error {
		require.NoError(t, err)
		relative, err := filepath.Rel(root, name)
		require.NoError(t, err)
		var stat unix.Stat_t
		require.NoError(t, unix.Lstat(name, &stat))
		n := inodes[stat.Ino]
		if n == nil || stat.Nlink == 1 || stat.Mode&unix.S_IFMT == unix.S_IFDIR {
			n = nodeAt(t, name, &stat)
			inodes[stat.Ino] = n
		}
		all[relative] = n
		return nil
	}))
	return all
}

// nodeAt reads what is at a path.
func nodeAt(t testing.TB, name string, stat *unix.Stat_t) *node {
	t.Helper()
	n := &node{
		mode: stat.Mode, uid: stat.Uid, gid: stat.Gid,
		xattrs: map[string]string{}, sec: stat.Mtim.Sec, nsec: stat.Mtim.Nsec,
	}
	switch stat.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		data, err := os.ReadFile(name)
		require.NoError(t, err)
		n.content = digest.FromBytes(data).String()
	case unix.S_IFLNK:
		target, err := os.Readlink(name)
		require.NoError(t, err)
		n.content = target
	case unix.S_IFCHR, unix.S_IFBLK:
		n.device = stat.Rdev
	}
	list, value := make([]byte, 64<<10), make([]byte, 64<<10)
	size, err := unix.Llistxattr(name, list)
	require.NoError(t, err)
	for _, key := range strings.FieldsFunc(string(list[:size]), func(r rune) bool { return r == 0 }) {
		size, err := unix.Lgetxattr(name, key, value)
		require.NoError(t, err)
		n.xattrs[key] = string(value[:size])
	}
	return n
}

// describe spells a tree out, to be compared: a line a path, with the first of
// the names that the file has.
func (all tree) describe(implied tree) map[string]string {
	first, lines := map[*node]string{}, map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		n := all[name]
		if first[n] == "" {
			first[n] = name
		}
		if other := implied[name]; other != nil && other.implied {
			lines[name] = "a directory"
			continue
		}
		var xattrs []string
		for _, key := range slices.Sorted(maps.Keys(n.xattrs)) {
			xattrs = append(xattrs, fmt.Sprintf("%s=%q", key, n.xattrs[key]))
		}
		lines[name] = fmt.Sprintf("%o %d:%d device %x, %q, %q, modified %d.%09d, is %q", n.mode, n.uid, n.gid, n.device, n.content, xattrs, n.sec, n.nsec, first[n])
	}
	return lines
}

// assertTree demands that a directory is what the layers make up, file by file:
// types, permissions, owners, devices, contents, links of both kinds, extended
// attributes and times.
func assertTree(t testing.TB, layers [][]byte, at string) {
	t.Helper()
	want := tree{}
	for _, layer := range layers {
		want.apply(t, layer)
	}
	assert.Equal(t, want.describe(want), treeAt(t, at).describe(want))
}
