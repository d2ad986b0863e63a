package serve

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/splitstream"
)

// A layer is read and hashed once, beside the clients that it is sent to, rather
// than for each of them. Until it has come out right, none of them gets its end.
// Afterwards it is made of the same stream, and of objects that either have
// fs-verity, so that the kernel answers for them, or are the same files with the same
// times as when they were hashed. An object of which neither is true is hashed before
// a byte of it is sent.

const (
	// maxChecks bounds the layers of which it is held that they came out right.
	maxChecks = 10000
	// failureAge is how long a layer that came out wrong is not read again.
	failureAge = 30 * time.Second
)

// errChanged: an object was written to while it was read.
var errChanged = errors.New("the object was changed while it was read")

// layerKey names a layer's content by how it is rebuilt and what it must come to.
type layerKey struct {
	verity fsverity.Digest
	digest digest.Digest
}

// check is the reading of a layer, under way or over.
type check struct {
	done  chan struct{} // closed at its end, when index or err is set
	index *index
	err   error

	ended  time.Time
	used   time.Time
	users  int // who wait for its end
	cancel context.CancelFunc
}

// index has what is to be known of a checked layer.
type index struct {
	*layout        // nil where it was too large
	sum     uint64 // of the identities of all files, the stream's first
}

// size returns how many bytes the index occupies.
func (ix *index) size() int64 {
	if ix == nil || ix.layout == nil {
		return 0
	}
	return ix.layout.size()
}

// object is an object's size in bytes and the identity of its file.
type object struct {
	size     int64
	identity atomic.Uint64
}

// seed makes identities impossible to foresee.
var seed = maphash.MakeSeed()

// identity returns what is another number for another file, and for one that was
// changed.
func identity(f *os.File) (uint64, error) {
	var stat unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &stat); err != nil {
		return 0, fmt.Errorf("fstat: %w", err)
	}
	return maphash.Comparable(seed, [...]int64{
		int64(stat.Dev), int64(stat.Ino), stat.Size, stat.Mtim.Sec, stat.Mtim.Nsec, stat.Ctim.Sec, stat.Ctim.Nsec,
	}), nil
}

// addIdentity adds an identity to the sum of those before.
func addIdentity(sum, identity uint64) uint64 { return sum*0x9e3779b97f4a7c15 + identity }

// checks are the checks of all layers.
type checks struct {
	repository *repository
	count      func()             // is told of each check
	failed     func(layer, error) // is told of each layer that came out wrong
	slots      chan struct{}      // taken by those under way

	mu   sync.Mutex
	all  map[layerKey]*check
	held int64 // bytes in all indexes
}

func newChecks(r *repository, count func(), failed func(layer, error)) *checks {
	return &checks{
		repository: r, count: count, failed: failed,
		slots: make(chan struct{}, runtime.GOMAXPROCS(0)),
		all:   map[layerKey]*check{},
	}
}

// begin returns the check of a layer, which it starts if need be. The caller ends
// its interest with leave.
func (c *checks) begin(l layer) *check {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := layerKey{l.verity, l.digest}
	if k := c.all[key]; k != nil && !k.outdated() {
		k.users++
		k.used = time.Now()
		return k
	}
	ctx, cancel := context.WithCancel(c.repository.ctx)
	k := &check{done: make(chan struct{}), users: 1, used: time.Now(), cancel: cancel}
	c.all[key] = k
	go c.run(ctx, key, k, l)
	return k
}

// leave ends the interest in a check. One that nobody is interested in any more is
// given up.
func (c *checks) leave(k *check) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k.users--; k.users == 0 {
		k.cancel()
	}
}

// outdated tells whether the check is to be done anew. checks.mu is held.
func (k *check) outdated() bool {
	select {
	case <-k.done:
		return k.err != nil && time.Since(k.ended) > failureAge
	default:
		return k.users == 0 // it is being given up
	}
}

// wait returns the index of a layer that came out right, or the error.
func (k *check) wait(ctx context.Context) (*index, error) {
	select {
	case <-k.done:
		return k.index, k.err
	default:
	}
	select {
	case <-k.done:
		return k.index, k.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// result returns what wait would, without waiting: nothing as long as the check is
// under way.
func (k *check) result() (*index, error) {
	select {
	case <-k.done:
		return k.index, k.err
	default:
		return nil, nil
	}
}

// run does a check.
func (c *checks) run(ctx context.Context, key layerKey, k *check, l layer) {
	defer k.cancel()
	ix, err := c.read(ctx, l)
	c.count()
	if err != nil && ctx.Err() == nil {
		err = c.explain(ctx, l, err)
		c.failed(l, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	k.index, k.err, k.ended = ix, err, time.Now()
	close(k.done)
	switch {
	case err != nil && ctx.Err() != nil:
		if c.all[key] == k {
			delete(c.all, key)
		}
	case ix != nil:
		c.hold(key, ix)
	}
}

// hold makes room for an index. c.mu is held.
func (c *checks) hold(key layerKey, ix *index) {
	c.held += ix.size()
	for c.held > allLayouts || len(c.all) > maxChecks {
		var oldest layerKey
		var used time.Time
		for other, k := range c.all {
			if other != key && !k.ended.IsZero() && (used.IsZero() || k.used.Before(used)) {
				oldest, used = other, k.used
			}
		}
		if used.IsZero() {
			return
		}
		c.held -= c.all[oldest].index.size()
		delete(c.all, oldest)
	}
}

// read reads a layer and compares its digest.
func (c *checks) read(ctx context.Context, l layer) (*index, error) {
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	s, err := openStream(ctx, c.repository, l)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	r := &checkReader{checks: c, ctx: ctx, layer: l, index: &index{}, buffer: make([]byte, bufferSize)}
	id, err := identity(s.file)
	if err != nil {
		return nil, err
	}
	r.index.sum = id
	verifier := l.digest.Verifier()
	if err := r.readAll(s.Chunks(), verifier); err != nil {
		return nil, err
	}
	if r.read != l.size {
		return nil, fmt.Errorf("%w: %d bytes instead of %d", splitstream.ErrSize, r.read, l.size)
	}
	if !verifier.Verified() {
		return nil, composefsrepo.ErrDigestMismatch
	}
	return r.index, unchanged(s.file, id)
}

// checkReader reads a layer for a check.
type checkReader struct {
	checks *checks
	ctx    context.Context
	layer  layer
	index  *index
	read   int64
	buffer []byte
}

func (r *checkReader) readAll(chunks *splitstream.Chunks, to io.Writer) error {
	var w layoutWriter
	for {
		if err := r.ctx.Err(); err != nil {
			return err
		}
		chunk, err := chunks.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if chunk.Inline != nil {
			r.read += int64(len(chunk.Inline))
			to.Write(chunk.Inline) // a hash takes everything
			w.inline(chunk.Inline)
			continue
		}
		size, id, err := r.object(chunk.Object, to)
		if err != nil {
			return fmt.Errorf("object %s: %w", chunk.Object, err)
		}
		r.index.sum = addIdentity(r.index.sum, id)
		w.object(chunk.Object, size, id)
	}
	r.index.layout = w.finish()
	return nil
}

// object reads an object.
func (r *checkReader) object(d fsverity.Digest, to io.Writer) (size int64, id uint64, err error) {
	f, size, err := openObject(r.ctx, r.checks.repository, d)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	if size > r.layer.size-r.read {
		return 0, 0, fmt.Errorf("%w: %d bytes where %d are left", splitstream.ErrSize, size, r.layer.size-r.read)
	}
	if id, err = identity(f); err != nil {
		return 0, 0, err
	}
	for left := size; left > 0; {
		if err := r.ctx.Err(); err != nil {
			return 0, 0, err
		}
		n, err := f.Read(r.buffer[:min(left, int64(len(r.buffer)))])
		to.Write(r.buffer[:n])
		if left -= int64(n); err != nil && left > 0 {
			return 0, 0, err
		}
	}
	r.read += size
	return size, id, unchanged(f, id)
}

// unchanged returns errChanged unless the file still has an identity.
func unchanged(f *os.File, id uint64) error {
	now, err := identity(f)
	if err == nil && now != id {
		err = errChanged
	}
	return err
}

// explain returns the error of a layer that came out wrong with the object that is
// at fault, if one is.
func (c *checks) explain(ctx context.Context, l layer, err error) error {
	repo, openErr := composefsrepo.Open(ctx, c.repository.path, nil)
	if openErr != nil {
		return err
	}
	defer repo.Close()
	opened, openErr := readImage(ctx, repo, l.image)
	if openErr != nil || l.index >= len(opened.Layers) || opened.Layers[l.index].Digest() != l.digest {
		return fmt.Errorf("layer %s: %w", l.digest, err)
	}
	content, openErr := opened.OpenLayer(ctx, l.index)
	if openErr != nil {
		return openErr
	}
	defer content.Close()
	if _, readErr := io.Copy(io.Discard, content); readErr != nil {
		return readErr
	}
	return fmt.Errorf("layer %s: %w", l.digest, err)
}

// recheck hashes an object whose file is not the one that was hashed before, unless
// the kernel answers for it.
func recheck(ctx context.Context, f *os.File, d fsverity.Digest, algorithm fsverity.Algorithm) error {
	measured, err := fsverity.Measure(f)
	switch {
	case errors.Is(err, fsverity.ErrNotEnabled):
		size, err := f.Seek(0, io.SeekEnd)
		if err != nil {
			return err
		}
		if measured, err = fsverity.Compute(algorithm, contextReader{ctx, io.NewSectionReader(f, 0, size)}); err != nil {
			return err
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return err
		}
	case err != nil:
		return err
	}
	if measured != d {
		return fmt.Errorf("object %s was altered: %w", d, composefsrepo.ErrVerity)
	}
	return nil
}

// contextReader ends with its context.
type contextReader struct {
	ctx context.Context
	io.Reader
}

func (r contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}
