package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/splitstream"
)

// reading is a layer being read. Several readers take runs of its pieces, in their
// order, read the objects and compute the digests of those that nobody has checked. One
// goroutine hashes what they have read, in the order of the layer.
type reading struct {
	*checker
	ctx   context.Context
	layer *layer

	mutex  sync.Mutex // protects what follows
	chunks *splitstream.Chunks
	ended  bool
	err    error        // of the stream
	order  chan *reader // those that have taken a run, in the order of these

	// moot: the layer is not to be hashed any more, since an object of it can't be
	// read. What is left are objects to be checked.
	moot atomic.Bool
	// tooLong: there are more bytes than the layer has. Reading ends.
	tooLong atomic.Bool
}

const (
	// maxReaders is how many read a layer. Four of them keep one that hashes busy, also
	// where the digests of objects take longer to compute than that of the layer.
	maxReaders = 4
	bytesOfRun = 64 << 10 // of those that are inline, about as many as a run has at the most
	objectsRun = 32       // how many objects a run has at the most
	// bytesPerReader is how large a layer has to be for another reader.
	bytesPerReader = 1 << 20
	layerBuffer    = 256 << 10 // bytes
	layerBuffers   = 2         // of each reader: one is filled while the other is hashed
)

var layerBufferPool = sync.Pool{New: func() any { return new([layerBuffer]byte) }}

// reader is one that reads runs of a layer.
type reader struct {
	*reading
	run    []piece
	inline []byte // the inline bytes of the run

	filled chan filled
	free   chan *[layerBuffer]byte
	buffer *[layerBuffer]byte // being filled
	length int                // how much of it is
	hasher *fsverity.Hasher
}

// piece is a piece of a run: an object, or so many inline bytes.
type piece struct {
	object fsverity.Digest
	inline int
}

// filled is a buffer to be hashed.
type filled struct {
	buffer *[layerBuffer]byte
	length int
	last   bool // of the run
}

// readLayer reads a layer, checks its objects and hashes it. The error is ctx's.
func (c *checker) readLayer(ctx context.Context, l *layer) error {
	file, stream, err := c.openReader(l.object)
	if err != nil {
		l.err = err
		return ctx.Err()
	}
	defer file.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := &reading{checker: c, ctx: ctx, layer: l, chunks: stream.Chunks(), order: make(chan *reader, maxReaders)}
	readers := make([]*reader, min(maxReaders, 1+l.size/bytesPerReader))
	var group errgroup.Group
	for i := range readers {
		readers[i] = r.newReader()
		group.Go(readers[i].readRuns)
	}
	hashed := make(chan int64, 1)
	go func() { hashed <- r.hash() }()
	err = group.Wait()
	close(r.order)
	c.progress(l.size - <-hashed)
	for _, w := range readers {
		w.release()
	}
	if l.err = r.err; r.tooLong.Load() && l.err == nil {
		l.err = fmt.Errorf("%w: there are more than %d bytes", splitstream.ErrSize, l.size)
	}
	l.broken = r.moot.Load()
	return err
}

func (r *reading) newReader() *reader {
	w := &reader{
		reading: r,
		filled:  make(chan filled, layerBuffers),
		free:    make(chan *[layerBuffer]byte, layerBuffers),
		hasher:  fsverity.NewHasher(r.repo.Algorithm()),
	}
	for range layerBuffers {
		w.free <- nil // to be allocated when it is needed
	}
	return w
}

// release gives the buffers back, when all is over.
func (w *reader) release() {
	for range len(w.free) {
		if buffer := <-w.free; buffer != nil {
			layerBufferPool.Put(buffer)
		}
	}
}

// readRuns reads runs until there are no more.
func (w *reader) readRuns() error {
	for w.takeRun() {
		if err := w.readRun(); err != nil {
			return err
		}
	}
	return w.ctx.Err()
}

// takeRun takes the next run of pieces, if there is one.
func (w *reader) takeRun() bool {
	w.reading.mutex.Lock()
	defer w.reading.mutex.Unlock()
	w.run, w.inline = w.run[:0], w.inline[:0]
	for objects := 0; !w.ended && !w.tooLong.Load() && objects < objectsRun && len(w.inline) < bytesOfRun; {
		chunk, err := w.chunks.Next()
		switch {
		case err != nil:
			w.ended = true
			if !errors.Is(err, io.EOF) {
				w.err = err
			}
		case chunk.Inline != nil:
			w.inline = append(w.inline, chunk.Inline...)
			w.run = append(w.run, piece{inline: len(chunk.Inline)})
		default:
			w.run = append(w.run, piece{object: chunk.Object})
			objects++
		}
	}
	if len(w.run) == 0 {
		return false
	}
	select {
	case w.order <- w:
		return true
	case <-w.ctx.Done():
		return false
	}
}

// readRun reads the run that was taken.
func (w *reader) readRun() error {
	inline := w.inline
	for _, p := range w.run {
		var err error
		if p.object.IsZero() {
			err = w.write(inline[:p.inline])
			inline = inline[p.inline:]
		} else {
			err = w.readObject(p.object)
		}
		if err != nil {
			return err
		}
	}
	return w.pass(true)
}

// space returns what is left of the buffer, some bytes at least.
func (w *reader) space() ([]byte, error) {
	if w.buffer != nil && w.length == layerBuffer {
		if err := w.pass(false); err != nil {
			return nil, err
		}
	}
	if w.buffer == nil {
		select {
		case w.buffer = <-w.free:
		case <-w.ctx.Done():
			return nil, w.ctx.Err()
		}
		if w.buffer == nil {
			w.buffer = layerBufferPool.Get().(*[layerBuffer]byte)
		}
	}
	return w.buffer[w.length:], nil
}

// pass passes the buffer on, to be hashed.
func (w *reader) pass(last bool) error {
	select {
	case w.filled <- filled{w.buffer, w.length, last}:
		w.buffer, w.length = nil, 0
		return nil
	case <-w.ctx.Done():
		return w.ctx.Err()
	}
}

// write adds inline bytes.
func (w *reader) write(p []byte) error {
	for len(p) > 0 && !w.moot.Load() {
		space, err := w.space()
		if err != nil {
			return err
		}
		n := copy(space, p)
		p = p[n:]
		w.length += n
	}
	return nil
}

// readObject reads an object, and checks it if nobody else has.
func (w *reader) readObject(d fsverity.Digest) error {
	if w.moot.Load() {
		return w.checkObject(w.ctx, d)
	}
	o, ok := w.openObject(d)
	if !ok {
		w.moot.Store(true)
		return nil
	}
	defer o.Close()
	for left := o.size; left > 0; {
		space, err := w.space()
		if err != nil {
			w.hasher.Sum() // resets it
			return err
		}
		n, err := o.Read(space[:min(left, int64(len(space)))])
		if o.hashes() {
			w.hasher.Write(space[:n])
		}
		w.length += n
		left -= int64(n)
		if err != nil && !errors.Is(err, io.EOF) {
			w.moot.Store(true)
			w.hasher.Sum()
			w.unreadable(o, err)
			return nil
		}
		if err != nil {
			break // it has become shorter, and its digest another
		}
	}
	if o.first {
		w.judge(o, w.hasher.Sum())
	}
	return nil
}

// hash hashes the layer, and returns how many bytes it has told the progress of.
func (r *reading) hash() (done int64) {
	for w := range r.order {
		for last := false; !last; {
			var f filled
			select {
			case f = <-w.filled:
			case <-r.ctx.Done():
				return done
			}
			last = f.last
			if f.buffer == nil {
				continue
			}
			r.add(f.buffer[:f.length])
			w.free <- f.buffer // has room for it
			n := min(int64(f.length), r.layer.size-done)
			r.progress(n)
			done += n
		}
	}
	return done
}

// add hashes what follows of the layer.
func (r *reading) add(p []byte) {
	l := r.layer
	if r.moot.Load() || r.tooLong.Load() {
		return
	}
	for _, h := range l.sums {
		h.Write(p)
	}
	if l.read += int64(len(p)); l.read > l.size {
		r.tooLong.Store(true)
	}
}
