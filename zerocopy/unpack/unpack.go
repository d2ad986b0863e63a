// Package unpack unpacks a layer's tar into a directory, as containers/storage does it.
// The contents of the tar's files are in files already. The package clones these
// instead of writing them, reads each once for the digests, and does so on all cores.
//
// It unpacks ordinary layers. It refuses unusual entries (sparse files, a path through a
// symlink, an entry that replaces another, …) with ErrUnusual. containers/storage then
// extracts the layer.
package unpack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

var (
	// ErrUnusual: the tar has something that only the extraction of
	// containers/storage itself is to judge.
	ErrUnusual = errors.New("unusual entry")
	// ErrTar: the pieces make up no tar; a file among them may be damaged.
	ErrTar = errors.New("not a valid tar")
)

// Feed is a tar in pieces.
type Feed interface {
	// Next returns the next piece, or io.EOF behind the last.
	Next() (Piece, error)
	// Open opens the file of a piece and tells its size in bytes. The caller
	// closes it.
	Open(name string) (file *os.File, size int64, err error)
}

// Piece is some bytes of a tar, or the whole content of a file.
type Piece struct {
	// Inline is valid until the next call of Next.
	Inline []byte
	// File names the file for Open, "" where the piece is inline.
	File string
}

// Options are optional.
type Options struct {
	// Workers is how many files are worked on at once; 0 for one more than there
	// are cores.
	Workers int
	// Cloner clones contents; several calls may share one. Where it is nil, the
	// call has its own.
	Cloner *Cloner
	// Progress is told how many bytes of the tar are through, since it was last
	// called. It is called by one goroutine.
	Progress func(bytes int64)
	// DiffID is the digest that the tar should have, in SHA-256. Where it comes
	// out with zeros behind the tar, such as some importers have lost, they are
	// taken for part of it. What comes out is for the caller to compare.
	DiffID digest.Digest
	// TempDir is the directory in which the record of the tar is written, to a
	// file without a name; "" for that of os.TempDir.
	TempDir string

	// UIDMaps and GIDMaps map the IDs in the tar to those of the files. An ID that
	// its maps don't have is an error. Without any maps, IDs stay what they are, and
	// so do users where UIDMaps is nil, and groups where GIDMaps is.
	UIDMaps, GIDMaps []IDMap
	// IgnoreChownErrors leaves files their owner where it can't be changed.
	IgnoreChownErrors bool
	// InUserNS: the process is in a user namespace. Devices are not made then,
	// extended attributes that are not permitted are left out, and those of
	// overlay are in the namespace "user".
	InUserNS bool
	// OverlayWhiteouts makes overlay's whiteouts of those in the tar; else they
	// are files like others.
	OverlayWhiteouts bool
	// ForceMask, where it is not nil, is the mode of all files; what their entries
	// say of owner, mode and device is in an extended attribute. Devices are
	// regular files then.
	ForceMask *os.FileMode
	// DotRoot: an entry that is called "." sets the root directory's owner, mode and
	// times, as one that is called "/" does. Versions of containers/storage differ
	// in that; older ones pass it over.
	DotRoot bool
}

// Result is what was unpacked.
type Result struct {
	// Digest is the SHA-256 of the tar, Size its size in bytes.
	Digest digest.Digest
	Size   int64
	// UIDs and GIDs are those in the tar, sorted.
	UIDs, GIDs []uint32
	// RootMode is the mode of the root directory where the tar sets it, else nil.
	// It has the bits of chmod(2), as containers/storage has them in the
	// RootDirMode of a differ's output: set-id and sticky are 07000, not the bits
	// of package os.
	RootMode *os.FileMode
	// TarSplit has the record from which tar-split rebuilds the tar, in a file
	// without a name. The caller closes it.
	TarSplit *os.File
	// Files counts regular files, Shared and Written the bytes of their
	// contents that were cloned and that were not.
	Files, Shared, Written int64
	// Entries counts what was made below the directory: names of all kinds.
	Entries int64
}

// Layer unpacks a tar into the empty directory dest. It ends soon after ctx does. On an
// error, dest has whatever was unpacked till then. The error wraps ErrUnusual or
// ErrTar, or is the feed's or the system's.
func Layer(ctx context.Context, feed Feed, dest string, options Options) (_ *Result, err error) {
	if options.Workers <= 0 {
		options.Workers = runtime.GOMAXPROCS(0) + 1
	}
	if options.Cloner == nil {
		options.Cloner = &Cloner{}
	}
	root, err := unix.Open(dest, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", dest, err)
	}
	defer unix.Close(root)
	record, err := newRecord(options)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			record.tarSplit.Close()
		}
	}()

	group, ctx := errgroup.WithContext(ctx)
	items := make(chan *item, queueLength)
	jobs := make(chan *fileJob, queueLength)
	s := newScanner(ctx, feed, &tree{root: root, options: &options}, items, jobs)
	group.Go(s.scan)
	group.Go(func() error { return record.run(ctx, items) })
	workers := make([]*worker, options.Workers)
	for i := range workers {
		workers[i] = newWorker(ctx, s.tree, options.Cloner)
		group.Go(func() error { return workers[i].run(jobs) })
	}
	err = group.Wait()
	for job := range jobs { // those that nobody took
		job.content.close()
	}
	if err != nil {
		return nil, err
	}
	if err := s.finish(); err != nil {
		return nil, err
	}
	result := record.result
	result.UIDs, result.GIDs = s.ids()
	result.RootMode, result.Entries = s.rootMode, s.made
	for _, w := range workers {
		result.Files += w.files
		result.Shared += w.shared
		result.Written += w.written
	}
	return &result, nil
}

// queueLength is how many entries, and open files among them, are under way.
const queueLength = 64
