package composefsrepo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/beneath"
)

// The directories of a repository that have more than its description.
const (
	ObjectDir = "objects"
	StreamDir = streamDir
	ImageDir  = "images" // of EROFS images
)

// Entry is a name in a directory of a repository.
type Entry struct {
	// Path is the path within the repository. It may have any byte but NUL.
	Path string
	// Type has the bits of the file's type, none for a regular file.
	Type fs.FileMode
	// Target is where a symlink points to.
	Target string
	// Err is why a symlink, or the names in a directory, could not be read.
	Err error
}

// maxDepth bounds directories in directories: those of references to streams have
// a few levels.
const maxDepth = 32

// errTooDeep: there are more directories in each other than anybody makes.
var errTooDeep = fmt.Errorf("%d directories in each other", maxDepth)

// Walk calls visit with every name below the directory dir of the repository, in
// no order, except that a directory comes before the names in it, and once again
// with an Err where they can't be read. No symlink is followed. Where dir is not
// there, nothing is below it. Walk holds a number of names, however many there
// are. Its error is that of visit or of ctx.
func (r *Repo) Walk(ctx context.Context, dir string, visit func(Entry) error) error {
	return r.walk(ctx, dir, 0, visit)
}

func (r *Repo) walk(ctx context.Context, dir string, depth int, visit func(Entry) error) error {
	var err error
	if depth < maxDepth {
		err = r.walkNames(ctx, dir, func(e Entry) error {
			if err := visit(e); err != nil {
				return visitError{err}
			}
			if e.Type != fs.ModeDir {
				return nil
			}
			if err := r.walk(ctx, e.Path, depth+1, visit); err != nil {
				return visitError{err}
			}
			return nil
		})
	} else {
		err = errTooDeep
	}
	var visited visitError
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &visited):
		return visited.error
	case err == nil, depth == 0 && errors.Is(err, fs.ErrNotExist):
		return nil
	}
	return visit(Entry{Path: dir, Type: fs.ModeDir, Err: bare(err)})
}

// visitError is an error that is not of reading a directory.
type visitError struct{ error }

// walkNames calls visit with the names in a directory, until ctx is done.
func (r *Repo) walkNames(ctx context.Context, dir string, visit func(Entry) error) error {
	d, err := r.openBeneath(dir, unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer d.Close()
	buffer := make([]byte, unix.PathMax)
	return beneath.Entries(d, func(name string, kind fs.FileMode) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		e := Entry{Path: dir + "/" + name, Type: kind}
		if kind == fs.ModeSymlink {
			n, err := unix.Readlinkat(int(d.Fd()), name, buffer)
			if err == nil {
				e.Target = string(buffer[:n])
			}
			e.Err = err
		}
		return visit(e)
	})
}

// Object returns the object that a symlink in one of the directories StreamDir and
// ImageDir leads to, whether it is there or not. The error wraps ErrBadLink where the
// entry is anything else.
func (e Entry) Object() (fsverity.Digest, error) {
	switch {
	case e.Type != fs.ModeSymlink:
		return fsverity.Digest{}, fmt.Errorf("%w: it is not a symlink", ErrBadLink)
	case e.Err != nil:
		return fsverity.Digest{}, e.Err
	}
	return linkedObject(path.Dir(e.Path), e.Target)
}

// linkedObject returns the object that a symlink in a directory points to.
func linkedObject(dir, target string) (fsverity.Digest, error) {
	at := path.Join(dir, target)
	d, ok := ParseObjectPath(at)
	if !ok || path.IsAbs(target) {
		return fsverity.Digest{}, fmt.Errorf("%w: %q is not an object of this repository", ErrBadLink, target)
	}
	return d, nil
}

// ObjectPath returns the path of an object within the repository.
func ObjectPath(d fsverity.Digest) string {
	name := d.String()
	return ObjectDir + "/" + name[:2] + "/" + name[2:]
}

// ParseObjectPath returns the object that has a path within the repository, if it
// is one of an object.
func ParseObjectPath(at string) (d fsverity.Digest, ok bool) {
	name, ok := strings.CutPrefix(at, ObjectDir+"/")
	if !ok || len(name) < 3 || name[2] != '/' {
		return fsverity.Digest{}, false
	}
	d, err := fsverity.Parse(name[:2] + name[3:])
	return d, err == nil
}

// Tag returns the tag that an entry is.
func (e Entry) Tag() (tag string, ok bool) {
	name, ok := strings.CutPrefix(e.Path, tagDir+"/")
	if !ok {
		return "", false
	}
	return decodeTag(name)
}

// ObjectSize returns an object's size in bytes, without opening it. The error wraps
// ErrMissingObject or ErrNotRegular, among others.
func (r *Repo) ObjectSize(d fsverity.Digest) (int64, error) {
	size, err := r.objectSize(d)
	if err != nil {
		return 0, fmt.Errorf("object %s: %w", d, err)
	}
	return size, nil
}
