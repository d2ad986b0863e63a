// Package extract takes files out of an image's tree, into a directory.
package extract

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/internal/cloner"
	"github.com/skopeo-cfs/skopeo-cfs/tree"
)

// ErrExists: something is in the way that is no directory, or that is to be one.
var ErrExists = errors.New("it is there already")

// Options are optional.
type Options struct {
	// Owners gives files the owners that they have in the image, and all of their
	// extended attributes, which takes root. Without it they are the user's: they
	// keep no set-id bits, and of the attributes those in the namespace "user".
	Owners bool
}

// Result is what was extracted.
type Result struct {
	// Files counts regular files, Shared and Written the bytes of their contents that
	// share blocks with the repository and that do not.
	Files, Shared, Written int64
	// LeftOut counts extended attributes that the filesystem can't have.
	LeftOut int64
}

// File extracts a node, with all that is in it where it is a directory, to the path
// dest, whose directory must be there. Where both are directories, what is in the
// node is added to what is there, and directories that are there stay as they are;
// anything else in the way is an error that wraps ErrExists. Nothing is made outside
// of dest, and no symlink in it is followed.
//
// Each content is checked as it is in the new file. Hard links among the extracted
// files are kept. On an error, ctx's end included, what was made is removed again, and
// nothing else.
func File(ctx context.Context, files *tree.Tree, n *tree.Node, dest string, options Options) (_ *Result, err error) {
	parent, err := os.OpenFile(filepath.Dir(dest), os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	name := filepath.Base(dest)
	if name == "." || name == ".." || name == "/" { // itself there, whatever it is called
		again, err := os.OpenFile(dest, os.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			return nil, err
		}
		defer again.Close()
		parent, name = again, "."
	}
	e := &extractor{
		ctx: ctx, tree: files, top: parent, options: options,
		first: map[*tree.Node]string{},
	}
	e.group, e.working = errgroup.WithContext(ctx)
	e.group.SetLimit(runtime.GOMAXPROCS(0))
	err = e.extract(name, n)
	if workersErr := e.group.Wait(); workersErr != nil {
		err = workersErr // which has ended the rest
	}
	if err == nil {
		err = e.finish()
	}
	if err == nil {
		return &e.result, nil
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	if removeErr := e.remove(); removeErr != nil {
		err = fmt.Errorf("%w; what was extracted could not be removed: %w", err, removeErr)
	}
	return nil, fmt.Errorf("extracting to %s: %w", dest, err)
}

// extractor extracts below a directory. Directories and links are its own, regular
// files each a worker's. Paths are relative to the directory.
type extractor struct {
	ctx     context.Context
	tree    *tree.Tree
	top     *os.File
	options Options
	group   *errgroup.Group
	working context.Context // done when a worker has had an error
	cloner  cloner.Cloner

	first map[*tree.Node]string // where the first name is of what has several
	dirs  []made                // in the order in which they were made
	links []made                // to be made when the rest is there

	mutex  sync.Mutex
	others []string // made, but for directories
	result Result
}

// made is a node and the path that it was extracted to.
type made struct {
	path string
	node *tree.Node
}

// extract extracts a node to a path.
func (e *extractor) extract(path string, n *tree.Node) error {
	if err := e.working.Err(); err != nil {
		return err
	}
	if n.IsDir() {
		return e.directory(path, n)
	}
	if n.Links > 1 {
		if _, ok := e.first[n]; ok {
			e.links = append(e.links, made{path, n})
			return nil
		}
		e.first[n] = path
	}
	if n.IsRegular() {
		e.group.Go(func() error { return e.regular(path, n) })
		return nil
	}
	return e.special(path, n)
}

// directory extracts a directory and what is in it. Nobody else gets into one that
// is made until all is there.
func (e *extractor) directory(path string, n *tree.Node) error {
	err := error(unix.EEXIST)
	if path != "." {
		err = e.in(path, func(dir int, base string) error { return unix.Mkdirat(dir, base, 0o700) })
	}
	switch {
	case err == nil:
		e.dirs = append(e.dirs, made{path, n})
	case errors.Is(err, unix.EEXIST):
		fd, err := e.open(path, unix.O_PATH|unix.O_DIRECTORY)
		if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
			err = withPath(path, ErrExists)
		}
		if err != nil {
			return err
		}
		unix.Close(fd)
	default:
		return err
	}
	for _, child := range n.Children() {
		if err := e.extract(filepath.Join(path, child.Name), child.Node); err != nil {
			return err
		}
	}
	return nil
}

// finish makes the hard links, and gives directories what they are to have when
// nothing is made in them any more.
func (e *extractor) finish() error {
	for _, l := range e.links {
		if err := e.ctx.Err(); err != nil {
			return err
		}
		if err := e.link(e.first[l.node], l.path); err != nil {
			return err
		}
	}
	for i := len(e.dirs) - 1; i >= 0; i-- {
		fd, err := e.open(e.dirs[i].path, unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			return err
		}
		err = e.setMetadata(fd, e.dirs[i].node)
		unix.Close(fd)
		if err != nil {
			return withPath(e.dirs[i].path, err)
		}
	}
	return nil
}

// remove removes what was made.
func (e *extractor) remove() error {
	var all error
	unlink := func(path string, flags int) {
		err := e.in(path, func(dir int, base string) error { return unix.Unlinkat(dir, base, flags) })
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			all = errors.Join(all, err)
		}
	}
	for _, path := range e.others {
		unlink(path, 0)
	}
	for i := len(e.dirs) - 1; i >= 0; i-- {
		unlink(e.dirs[i].path, unix.AT_REMOVEDIR)
	}
	return all
}
