package tree

import (
	"archive/tar"
	"context"
	"fmt"
	"math"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
)

// layer is the tree that containers-storage unpacks a layer into, to be mounted over
// those of the layers below: its archive package does with a directory what the
// methods here do with nodes, in the same order. Whiteouts are what they are for an
// overlay filesystem: devices with the number 0.
type layer struct {
	image  *composefsrepo.Image
	number int
	budget *budget
	taken  int // of the budget, in bytes
	root   *Node
	dirs   []dirTime
}

// dirTime is the time of a directory's entry, which is set when everything is there.
type dirTime struct {
	path string
	time time.Time
}

// unpackLayer reads a layer. An importer makes each content one object, or none; so the
// objects are not asked for their sizes, unless that makes no sense.
func unpackLayer(ctx context.Context, image *composefsrepo.Image, n int, b *budget) (*Node, error) {
	l := &layer{image: image, number: n, budget: b}
	root, err := l.unpack(ctx, scanMode{assume: true, reuse: true})
	if err == nil || ctx.Err() != nil {
		return root, err
	}
	b.giveBack(l.taken)
	l = &layer{image: image, number: n, budget: b}
	return l.unpack(ctx, scanMode{reuse: true})
}

// take takes so many bytes of the budget.
func (l *layer) take(bytes int) error {
	l.taken += bytes
	return l.budget.take(bytes)
}

func (l *layer) unpack(ctx context.Context, mode scanMode) (*Node, error) {
	image, n := l.image, l.number
	l.root = l.newDir(0)
	err := scanned(image, n, scanLayer(ctx, image, n, mode, func(number int, e *Entry) error {
		if err := l.entry(number, e); err != nil {
			return inLayer(image, n, fmt.Errorf("%.200q: %w", e.Name, err))
		}
		return nil
	}))
	if err != nil {
		return nil, err
	}
	for _, d := range l.dirs {
		w, err := l.follow(d.path, true)
		if err == nil && w.node == nil {
			err = unix.ENOENT
		}
		if err != nil {
			return nil, inLayer(image, n, fmt.Errorf("%.200q: setting a directory's time: %w", d.path, refused(err)))
		}
		w.node.ModTime = d.time
	}
	return l.root, nil
}

// refused is the error of what the kernel does not do.
func refused(err error) error { return fmt.Errorf("%w: %w", ErrLayer, err) }

// newDir returns a directory that there is no entry for.
func (l *layer) newDir(depth int) *Node {
	return &Node{
		Mode: unix.S_IFDIR | 0o755, Layer: l.number, Implied: true,
		dir: &dir{byName: map[string]*Node{}, depth: depth},
	}
}

func (l *layer) follow(path string, last bool) (walk, error) {
	return follow(l.root, path, last, func(n *Node, name string) *Node { return n.dir.byName[name] })
}

// The names of whiteouts begin with whiteoutPrefix; opaqueWhiteout hides all that
// lower layers have in its directory.
const (
	whiteoutPrefix = ".wh."
	opaqueWhiteout = ".wh..wh..opq"
)

// entry unpacks an entry.
func (l *layer) entry(number int, e *Entry) error {
	name := path.Clean(e.Name)
	at := name
	if name[0] == '/' || name[0] == '.' {
		at = strings.TrimPrefix(path.Join("/", name), "/")
	}
	if len(at) >= maxPath {
		return refused(unix.ENAMETOOLONG)
	}
	w, err := l.follow(at, false)
	if err == unix.ENOENT {
		if err := l.mkdirAll(path.Dir(at)); err != nil {
			return refused(err)
		}
		w, err = l.follow(at, false)
	}
	hidden, isWhiteout := strings.CutPrefix(path.Base(at), whiteoutPrefix)
	if err != nil && !isWhiteout {
		return refused(err)
	}
	if at == "" {
		return l.rootEntry(name, e)
	}
	if err == nil && w.node != nil && !(w.node.IsDir() && e.Typeflag == tar.TypeDir) {
		if w.name == "" {
			return refused(unix.EBUSY)
		}
		delete(w.in().dir.byName, w.name)
		w.node = nil
	}
	if isWhiteout {
		return l.whiteout(path.Dir(at), hidden)
	}
	return l.file(number, e, at, w)
}

// mkdirAll makes a directory, and those above it, where they are missing.
func (l *layer) mkdirAll(at string) error {
	for end := 0; end < len(at); {
		if i := strings.IndexByte(at[end+1:], '/'); i >= 0 {
			end += 1 + i
		} else {
			end = len(at)
		}
		w, err := l.follow(at[:end], false)
		if err == nil && w.node == nil {
			err = l.add(&w, l.newDir(0))
		} else if err == nil && w.node.IsSymlink() {
			if w, err = l.follow(at[:end], true); err == nil && w.node == nil {
				err = unix.EEXIST
			}
		}
		if err == nil && !w.node.IsDir() {
			err = unix.ENOTDIR
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// maxDepth is how many directories may be in each other.
const maxDepth = 4096

// add puts a new node to where a walk has ended.
func (l *layer) add(w *walk, n *Node) error {
	in := w.in()
	if n.dir != nil {
		if n.dir.depth = in.dir.depth + 1; n.dir.depth > maxDepth {
			return fmt.Errorf("%w: one in the other, more than %d directories", ErrTooLarge, maxDepth)
		}
	}
	in.dir.byName[strings.Clone(w.name)] = n
	w.node = n
	return l.take(nodeSize + len(w.name) + len(n.Target))
}

// rootEntry sets what the root directory has. Versions of containers-storage differ
// in whether they take an entry that is called ".".
func (l *layer) rootEntry(name string, e *Entry) error {
	switch {
	case e.Typeflag == tar.TypeDir:
		return l.describe(e, l.root, "")
	case name == ".":
		return nil
	default:
		return refused(unix.EBUSY)
	}
}

// whiteout hides what lower layers have at a name, or all in a directory.
func (l *layer) whiteout(in, hidden string) error {
	if whiteoutPrefix+hidden == opaqueWhiteout {
		w, err := l.follow(in, true)
		if err == nil && w.node == nil {
			err = unix.ENOENT
		}
		if err != nil {
			return refused(err)
		}
		if w.node.IsDir() {
			w.node.dir.opaque = true
		}
		return nil
	}
	w, err := l.follow(path.Join(in, hidden), false)
	switch {
	case err == unix.ENOTDIR: // of something in what has a whiteout of its own
		return nil
	case err == nil && w.node != nil:
		err = unix.EEXIST
	}
	if err != nil {
		return refused(err)
	}
	return l.add(&w, &Node{Mode: unix.S_IFCHR, Layer: l.number})
}

// isWhiteout tells whether a node hides what lower layers have in its place.
func (n *Node) isWhiteout() bool { return n.Type() == unix.S_IFCHR && n.Rdev == 0 }

// file makes what is no whiteout.
func (l *layer) file(number int, e *Entry, at string, w walk) error {
	n := &Node{Layer: l.number}
	switch e.Typeflag {
	case tar.TypeDir:
		if w.node == nil {
			if err := l.add(&w, l.newDir(0)); err != nil {
				return refused(err)
			}
		}
		return l.describe(e, w.node, at)
	case tar.TypeReg:
		n.Mode, n.Size = unix.S_IFREG, e.Size
		var err error
		if n.content, err = l.readContent(number, e); err != nil {
			return err
		}
	case tar.TypeChar:
		n.Mode, n.Rdev = unix.S_IFCHR, deviceNumber(e.Devmajor, e.Devminor)
	case tar.TypeBlock:
		n.Mode, n.Rdev = unix.S_IFBLK, deviceNumber(e.Devmajor, e.Devminor)
	case tar.TypeFifo:
		n.Mode = unix.S_IFIFO
	case tar.TypeSymlink:
		switch {
		case e.Linkname == "":
			return refused(unix.ENOENT)
		case len(e.Linkname) > maxPath:
			return refused(unix.ENAMETOOLONG)
		}
		n.Mode, n.Target, n.Size = unix.S_IFLNK|0o777, strings.Clone(e.Linkname), int64(len(e.Linkname))
	case tar.TypeLink:
		return l.link(e, w)
	case tar.TypeXGlobalHeader:
		return nil
	default:
		return fmt.Errorf("%w: an entry of type %q", ErrLayer, e.Typeflag)
	}
	if err := l.add(&w, n); err != nil {
		return refused(err)
	}
	return l.setMetadata(e, n, true)
}

// deviceNumber returns the number that containers-storage gives a device: of what is
// too large, the lower bits.
func deviceNumber(major, minor int64) uint64 {
	number := uint64((minor&0xfff00)<<12 | (major&0xfff)<<8 | minor&0xff)
	return unix.Mkdev(unix.Major(number), unix.Minor(number))
}

// link gives a file another name, and what the name's entry says of it.
func (l *layer) link(e *Entry, w walk) error {
	target, err := l.follow(path.Join("/", e.Linkname), false)
	switch {
	case err == nil && target.node == nil:
		err = unix.ENOENT
	case err == nil && target.node.IsDir():
		err = unix.EPERM
	}
	if err == nil {
		err = l.add(&w, target.node)
	}
	if err != nil {
		return fmt.Errorf("linking to %.200q: %w", e.Linkname, refused(err))
	}
	// The target as it is, and not cleaned, decides.
	seen, err := l.follow(e.Linkname, false)
	return l.setMetadata(e, target.node, err == nil && e.Linkname != "" && seen.node != nil && !seen.node.IsSymlink())
}

// describe sets what a directory's entry says of it.
func (l *layer) describe(e *Entry, n *Node, at string) error {
	n.Implied = false
	l.dirs = append(l.dirs, dirTime{strings.Clone(at), e.ModTime})
	return l.setMetadata(e, n, true)
}

// xattrPrefix begins the names of PAX records that are extended attributes.
const xattrPrefix = "SCHILY.xattr."

// setMetadata sets what an entry says of a file, permissions and time only where
// all.
func (l *layer) setMetadata(e *Entry, n *Node, all bool) error {
	l.chown(n, uint32(e.Uid), uint32(e.Gid))
	switch {
	case n.IsSymlink() && e.Typeflag == tar.TypeSymlink:
		n.ModTime = e.ModTime
	case all:
		n.Mode = n.Type() | uint32(e.Mode)&0o7777
		n.ModTime = e.ModTime
	}
	for key, value := range e.PAXRecords {
		name, ok := strings.CutPrefix(key, xattrPrefix)
		if !ok {
			continue
		}
		if err := l.setXattr(n, name, value); err != nil {
			return err
		}
	}
	return nil
}

// chown gives a file to another owner, as lchown(2) does.
func (l *layer) chown(n *Node, uid, gid uint32) {
	if n.UID == uid && n.GID == gid {
		return // nothing is called then
	}
	const same = math.MaxUint32
	if uid != same {
		n.UID = uid
	}
	if gid != same {
		n.GID = gid
	}
	if !n.IsDir() && n.Xattrs[capability] != "" {
		delete(n.Xattrs, capability)
	}
}

// capability is the extended attribute that a file loses with its owner.
const capability = "security.capability"

// setXattr sets an extended attribute, if there can be one of that name.
func (l *layer) setXattr(n *Node, name, value string) error {
	switch overlays := strings.TrimPrefix(name, "trusted.overlay."); {
	case name == "security.selinux":
		return nil
	case overlays == name:
	case overlays == "opaque":
		if n.dir != nil && value == "y" {
			n.dir.opaque = true
		}
		return nil
	case overlays == "redirect", overlays == "metacopy":
		return fmt.Errorf("%w: it has the extended attribute %s, which is for overlay filesystems alone", ErrLayer, name)
	default:
		return nil
	}
	for _, prefix := range []string{"user.", "trusted.", "security.", "system.posix_acl_"} {
		if strings.HasPrefix(name, prefix) && len(name) > len(prefix) {
			if n.Xattrs == nil {
				n.Xattrs = map[string]string{}
			}
			n.Xattrs[strings.Clone(name)] = strings.Clone(value)
			return l.take(len(name) + len(value) + nodeSize)
		}
	}
	return nil
}
