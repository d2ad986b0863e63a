package unpack

import (
	"archive/tar"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

var errRoot = fmt.Errorf("%w: the root entry is not a directory", ErrUnusual)

// root handles an entry that sets what the root directory has.
func (s *scanner) root(h *tar.Header) error {
	if h.Typeflag != tar.TypeDir {
		return errRoot
	}
	s.rootHeader = h
	// What is under way is made as it would have been before this entry: files
	// inherit access lists and groups of their directory.
	if err := s.inodes.wait(s.ctx); err != nil {
		return err
	}
	m := newMetadata(h, s.tree.options)
	if err := m.applyTo(s.tree.root, s.tree.options); err != nil {
		return err
	}
	mode := os.FileMode(m.mode)
	s.rootMode = &mode
	s.dirs = append(s.dirs, dirTimes{".", fileTimes(h.AccessTime, h.ModTime)})
	return nil
}

// parents makes a directory, and those above it, that the tar has no entry for.
func (s *scanner) parents(dir string) error {
	switch s.kinds.at(dir) {
	case directory, implied:
		return nil
	case nothing:
	default:
		return fmt.Errorf("%w: its parent %q is not a directory", ErrUnusual, dir)
	}
	if err := s.parents(path.Dir(dir)); err != nil {
		return err
	}
	fd, err := s.tree.mkdir(dir, 0o777)
	if err != nil {
		return err
	}
	s.kinds.set(dir, implied)
	s.made++
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return fmt.Errorf("%s: fstat: %w", dir, err)
	}
	uid, gid := s.idMaps.root()
	_, err = (&metadata{uid: uid, gid: gid, chown: true}).applyOwner(fd, &stat, strict)
	return withPath(dir, err)
}

// strict are options by which no owner is optional.
var strict = &Options{}

var errPlace = fmt.Errorf("%w: it takes the place of another entry", ErrUnusual)

// claim notes what is made at a path, where nothing may be yet.
func (s *scanner) claim(name string, k kind) error {
	if s.kinds.at(name) != nothing {
		return errPlace
	}
	s.kinds.set(name, k)
	if k != unmade {
		s.made++
	}
	return nil
}

// The names of whiteouts begin with whiteoutPrefix; opaqueWhiteout hides all that
// lower layers have in its directory.
const (
	whiteoutPrefix = ".wh."
	opaqueWhiteout = ".wh..wh..opq"
)

// whiteout makes what overlay filesystems have for a whiteout.
func (s *scanner) whiteout(h *tar.Header, name string) error {
	if h.Size > 0 {
		return fmt.Errorf("%w: a whiteout with content", ErrUnusual)
	}
	if s.kinds.at(name) != nothing { // a directory, of something in it
		return errPlace
	}
	dir, base := path.Split(name)
	if base == opaqueWhiteout {
		fd, err := s.tree.in(path.Clean("./" + dir))
		if err != nil {
			return err
		}
		opaque := "trusted.overlay.opaque"
		if s.tree.options.InUserNS {
			opaque = "user.overlay.opaque"
		}
		if err := unix.Fsetxattr(fd, opaque, []byte{'y'}, 0); err != nil {
			return fmt.Errorf("making its directory opaque: %w", err)
		}
		return nil
	}
	hidden := strings.TrimPrefix(base, whiteoutPrefix)
	if hidden == "" || hidden == "." || hidden == ".." {
		return fmt.Errorf("%w: a whiteout of %q", ErrUnusual, hidden)
	}
	name = dir + hidden
	if err := s.claim(name, device); err != nil {
		return err
	}
	return s.tree.at(name, func(dir int, base, procPath string) error {
		if err := unix.Mknodat(dir, base, unix.S_IFCHR, 0); err != nil {
			return fmt.Errorf("making a whiteout: %w", err)
		}
		return (&metadata{uid: h.Uid, gid: h.Gid, chown: true}).applyOwnerAt(dir, base, strict)
	})
}

// special makes what is neither a regular file nor a whiteout.
func (s *scanner) special(h *tar.Header, name string) error {
	m := newMetadata(h, s.tree.options)
	switch h.Typeflag {
	case tar.TypeDir:
		return s.directory(h, name, m)
	case tar.TypeLink:
		return s.link(h, name, m)
	case tar.TypeSymlink:
		if err := s.claim(name, symlink); err != nil {
			return err
		}
		return s.tree.symlink(h, name, m)
	case tar.TypeChar, tar.TypeBlock:
		if s.tree.options.InUserNS && s.tree.options.ForceMask == nil {
			// It can't be made there. In containers/storage, what stands at its path
			// goes all the same.
			return s.claim(name, unmade)
		}
	}
	if err := s.claim(name, device); err != nil {
		return err
	}
	return s.tree.node(h, name, m)
}

// directory makes a directory.
func (s *scanner) directory(h *tar.Header, name string, m *metadata) (err error) {
	var fd int
	if s.kinds.at(name) == implied {
		if err := s.inodes.wait(s.ctx); err != nil { // as in root
			return err
		}
		fd, err = s.tree.in(name)
	} else {
		if err := s.claim(name, directory); err != nil {
			return err
		}
		fd, err = s.tree.mkdir(name, m.mode)
	}
	if err != nil {
		return err
	}
	s.kinds.set(name, directory)
	s.dirs = append(s.dirs, dirTimes{name, fileTimes(h.AccessTime, h.ModTime)})
	return withPath(name, m.applyTo(fd, s.tree.options))
}

// regular has a worker make a regular file.
func (s *scanner) regular(h *tar.Header, name string, i *item) error {
	if err := s.claim(name, file); err != nil {
		return err
	}
	job := &fileJob{name: name, metadata: newMetadata(h, s.tree.options), done: make(chan struct{}), item: i}
	s.inodes.add(s.kinds.hash(name), &inode{last: job.done})
	if h.Size == 0 {
		return s.sendJob(job)
	}
	i.buffers = make(chan *buffer, workerBuffers)
	first, whole, err := s.stream.takeAll(h.Size)
	if err != nil {
		return err
	}
	if whole {
		job.content = first
		return s.sendJob(job)
	}
	pieces := make(chan []byte, 1)
	defer close(pieces)
	job.pieces, job.content.size = pieces, h.Size
	if err := s.sendJob(job); err != nil {
		return err
	}
	for left := h.Size; left > 0; {
		piece, err := s.stream.takeSome(left, bufferSize)
		if err != nil {
			return err
		}
		select {
		case pieces <- piece:
		case <-s.ctx.Done():
			return s.ctx.Err()
		}
		left -= int64(len(piece))
	}
	s.stream.skipped = h.Size
	return nil
}

// sendJob hands a job to the workers, and its item, if it has one, to the
// record before that.
func (s *scanner) sendJob(job *fileJob) error {
	if job.item != nil {
		if err := s.send(job.item); err != nil {
			job.content.close()
			return err
		}
	}
	select {
	case s.jobs <- job:
		return nil
	case <-s.ctx.Done():
		job.content.close()
		return s.ctx.Err()
	}
}

// link makes a hard link, in its turn where the target is a worker's.
func (s *scanner) link(h *tar.Header, name string, m *metadata) error {
	target := strings.TrimLeft(filepath.Clean("/"+h.Linkname), "/")
	targetKind := s.kinds.at(target)
	if targetKind != file && targetKind != symlink && targetKind != device {
		return fmt.Errorf("%w: a hard link to %q, which is not a file of the layer", ErrUnusual, h.Linkname)
	}
	// containers/storage cleans the target for the link, but asks the kernel about
	// it as it is before it sets the metadata. These the kernel sees otherwise.
	if l := h.Linkname; strings.Contains(l, "..") || strings.HasSuffix(l, "/") || strings.HasSuffix(l, "/.") || len(l) > maxName {
		return fmt.Errorf("%w: a hard link to %q", ErrUnusual, l)
	}
	if err := s.claim(name, targetKind); err != nil {
		return err
	}
	node := s.inodes.at(s.kinds.hash(target))
	if node == nil { // it is there, and no worker has to do with it
		return s.tree.link(target, name, m, targetKind == symlink)
	}
	job := &fileJob{name: name, metadata: m, linkTo: target, after: node.last, done: make(chan struct{})}
	node.last = job.done
	s.inodes.add(s.kinds.hash(name), node)
	return s.sendJob(job)
}
