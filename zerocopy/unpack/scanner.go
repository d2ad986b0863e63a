package unpack

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// scanner reads the tar's entries in order. It makes all but regular files and
// hard links, which it hands to the workers, and passes all of the tar on to the
// record. Nothing is ever removed, replaced or reached through a symlink, so
// what it knows of the tree is what is there, or will be.
type scanner struct {
	ctx    context.Context
	stream *stream
	tar    *tar.Reader
	tree   *tree
	items  chan<- *item
	jobs   chan<- *fileJob

	idMaps     idMaps
	kinds      *kinds
	inodes     *inodes
	dirs       []dirTimes
	rootMode   *os.FileMode
	rootHeader *tar.Header
	made       int64 // names below the root
	uids, gids map[uint32]struct{}
}

// dirTimes are times to set of a directory when nothing is made in it any more.
type dirTimes struct {
	name  string
	times [2]unix.Timespec
}

func newScanner(ctx context.Context, feed Feed, t *tree, items chan<- *item, jobs chan<- *fileJob) *scanner {
	s := &scanner{
		ctx: ctx, stream: &stream{feed: feed}, tree: t, items: items, jobs: jobs,
		idMaps: idMaps{t.options.UIDMaps, t.options.GIDMaps},
		kinds:  newKinds(),
		inodes: newInodes(),
		uids:   map[uint32]struct{}{}, gids: map[uint32]struct{}{},
	}
	s.tar = tar.NewReader(s.stream)
	return s
}

// maxName is how long a path may be, in bytes. With the path of a store's
// directory before it, it still has to be one that the kernel takes.
const maxName = unix.PathMax / 2

// scan reads the whole tar.
func (s *scanner) scan() error {
	defer close(s.items)
	defer close(s.jobs)
	defer s.tree.close()
	defer s.stream.closeFile()
	for {
		header, err := s.tar.Next()
		if errors.Is(err, io.EOF) {
			return s.scanTrailer()
		}
		if err != nil {
			return s.unreadable(err)
		}
		if err := s.entry(header); err != nil {
			return fmt.Errorf("%q: %w", header.Name, err)
		}
	}
}

// unreadable is the error of archive/tar: the feed's, if that had one.
func (s *scanner) unreadable(err error) error {
	if s.stream.err != nil {
		return s.stream.err
	}
	return fmt.Errorf("%w: %w", ErrTar, err)
}

// scanTrailer passes on what follows the end of the archive.
func (s *scanner) scanTrailer() error {
	buffer := make([]byte, 64<<10)
	for {
		if err := s.send(&item{raw: s.stream.cut()}); err != nil {
			return err
		}
		_, err := s.stream.Read(buffer)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading what follows the tar: %w", err)
		}
	}
}

func (s *scanner) send(i *item) error {
	select {
	case s.items <- i:
		return nil
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

// entry unpacks an entry.
func (s *scanner) entry(h *tar.Header) error {
	i := &item{raw: s.stream.cut(), isEntry: true, name: h.Name, size: h.Size}
	if err := checkOrdinary(h); err != nil {
		return err
	}
	name := filepath.Clean(h.Name)
	isWhiteout := strings.HasPrefix(path.Base(name), whiteoutPrefix)
	if !isWhiteout {
		s.uids[uint32(h.Uid)] = struct{}{}
		s.gids[uint32(h.Gid)] = struct{}{}
	}
	if name == "." && !s.tree.options.DotRoot {
		if h.Typeflag != tar.TypeDir {
			return errRoot
		}
		s.rootHeader = h
		return s.send(i)
	}
	if !s.idMaps.empty() {
		var err error
		if h.Uid, h.Gid, err = s.idMaps.toHost(h.Uid, h.Gid); err != nil {
			return err
		}
	}
	// Not of what was cleaned already: tar-split has /../x outside.
	switch relative := filepath.Clean(strings.TrimLeft(h.Name, "/")); {
	case relative == ".":
		if err := s.root(h); err != nil {
			return err
		}
	case relative == ".." || strings.HasPrefix(relative, "../"):
		return fmt.Errorf("%w: the name leads out of the layer", ErrUnusual)
	case len(relative) > maxName:
		return fmt.Errorf("%w: the name has %d bytes", ErrUnusual, len(relative))
	default:
		if err := s.parents(path.Dir(relative)); err != nil {
			return err
		}
		if isWhiteout && s.tree.options.OverlayWhiteouts {
			if err := s.whiteout(h, relative); err != nil {
				return err
			}
			break
		}
		if h.Typeflag == tar.TypeReg {
			return s.regular(h, relative, i)
		}
		if err := s.special(h, relative); err != nil {
			return err
		}
	}
	return s.send(i)
}

// checkOrdinary refuses the entries whose content is not simply that of a file.
func checkOrdinary(h *tar.Header) error {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return fmt.Errorf("%w: a sparse file", ErrUnusual)
		}
	}
	switch h.Typeflag {
	case tar.TypeReg:
		return nil
	case tar.TypeDir, tar.TypeSymlink, tar.TypeLink, tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		if h.Size == 0 {
			return nil
		}
		return fmt.Errorf("%w: content of an entry that can't have any", ErrUnusual)
	default:
		return fmt.Errorf("%w: an entry of type %q", ErrUnusual, h.Typeflag)
	}
}

// finish sets what has to wait until everything is there.
func (s *scanner) finish() error {
	for _, d := range s.dirs {
		fd, err := s.tree.open(d.name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			return err
		}
		err = setTimes(fd, &d.times)
		unix.Close(fd)
		if err != nil {
			return withPath(d.name, err)
		}
	}
	if s.tree.options.ForceMask == nil {
		return nil
	}
	x := override(&tar.Header{}, os.ModeDir|0o755)
	if h := s.rootHeader; h != nil {
		x = override(&tar.Header{Uid: h.Uid, Gid: h.Gid}, os.ModeDir|os.FileMode(h.Mode))
	}
	if err := unix.Fsetxattr(s.tree.root, x.name, []byte(x.value), 0); err != nil {
		return fmt.Errorf("setting extended attribute %q of the root directory: %w", x.name, err)
	}
	return nil
}

// ids returns the IDs that the tar has, sorted.
func (s *scanner) ids() (uids, gids []uint32) {
	return slices.Sorted(maps.Keys(s.uids)), slices.Sorted(maps.Keys(s.gids))
}
