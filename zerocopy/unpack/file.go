package unpack

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/internal/crc64iso"
)

const (
	bufferSize    = 128 << 10 // bytes
	workerBuffers = 6
)

// fileJob is a regular file or a hard link that a worker makes.
type fileJob struct {
	name     string
	metadata *metadata

	item    *item         // takes the content; nil for a link
	content content       // all of it, or its size alone where it comes in pieces
	pieces  <-chan []byte // nil where the content is all

	linkTo string          // a path, "" for a regular file
	after  <-chan struct{} // what has to be done before, nil if nothing
	done   chan struct{}   // closed when the job is done
}

func (c content) close() {
	if c.file != nil {
		c.file.Close()
	}
}

// buffer is a piece of content on its way to the record, which sends it back.
type buffer struct {
	data []byte
	all  []byte
	home chan<- *buffer
}

// worker makes files. Its buffers are its own: those that are under way belong
// to earlier entries than the one it works on, so the record, which takes the
// entries in order, always gets to send one back.
type worker struct {
	ctx    context.Context
	tree   *tree
	cloner *Cloner
	free   chan *buffer
	crc    uint64 // of the content so far

	files, shared, written int64
}

func newWorker(ctx context.Context, t *tree, cloner *Cloner) *worker {
	w := &worker{ctx: ctx, tree: t, cloner: cloner, free: make(chan *buffer, workerBuffers)}
	for range workerBuffers {
		w.free <- &buffer{home: w.free}
	}
	return w
}

// run works until there are no more jobs, or the context ends.
func (w *worker) run(jobs <-chan *fileJob) error {
	for job := range jobs {
		if err := w.do(job); err != nil {
			return fmt.Errorf("%q: %w", job.name, err)
		}
		close(job.done)
	}
	return nil
}

func (w *worker) do(job *fileJob) error {
	if err := w.ctx.Err(); err != nil {
		job.content.close()
		return err
	}
	if job.linkTo == "" {
		return w.makeFile(job)
	}
	select {
	case <-job.after:
		return w.tree.link(job.linkTo, job.name, job.metadata, false)
	case <-w.ctx.Done():
		return w.ctx.Err()
	}
}

// makeFile makes a regular file and passes its content on.
func (w *worker) makeFile(job *fileJob) error {
	defer job.content.close()
	w.crc = 0
	fd, err := w.tree.create(job.name, job.metadata.mode)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := w.fill(fd, job); err != nil {
		return err
	}
	if job.item.buffers != nil {
		job.item.crc = binary.BigEndian.AppendUint64(nil, w.crc)
		close(job.item.buffers)
	}
	w.files++
	return job.metadata.applyTo(fd, w.tree.options)
}

// fill gives the new file its content.
func (w *worker) fill(fd int, job *fileJob) error {
	switch c := job.content; {
	case c.size == 0:
		return nil
	case job.pieces != nil:
		return w.fillFromPieces(fd, job)
	case c.file == nil:
		return w.put(fd, job.item, c.inline)
	default:
		return w.fillFromFile(fd, job.item, c)
	}
}

// put writes bytes of the content and passes them on.
func (w *worker) put(fd int, i *item, data []byte) error {
	if err := writeAll(fd, data); err != nil {
		return err
	}
	w.written += int64(len(data))
	w.crc = crc64iso.Update(w.crc, data)
	return w.pass(i, &buffer{data: data})
}

func (w *worker) pass(i *item, b *buffer) error {
	select {
	case i.buffers <- b:
		return nil
	case <-w.ctx.Done():
		return w.ctx.Err()
	}
}

func (w *worker) fillFromPieces(fd int, job *fileJob) error {
	left := job.content.size
	for piece := range job.pieces {
		if err := w.put(fd, job.item, piece); err != nil {
			return err
		}
		left -= int64(len(piece))
	}
	if left > 0 { // the scanner has failed, and says why
		return fmt.Errorf("%w: %d bytes are missing", ErrTar, left)
	}
	return nil
}

// fillFromFile clones the content, or writes what is read of it where it can't
// be cloned. Either way it is read once.
func (w *worker) fillFromFile(fd int, i *item, c content) error {
	how, err := w.cloner.clone(fd, c.file, c.size)
	if err != nil {
		return err
	}
	for at := int64(0); at < c.size; {
		var b *buffer
		select {
		case b = <-w.free:
		case <-w.ctx.Done():
			return w.ctx.Err()
		}
		if b.all == nil {
			b.all = make([]byte, bufferSize)
		}
		b.data = b.all[:min(c.size-at, bufferSize)]
		if err := readFull(c.file, b.data, at); err != nil {
			w.free <- b
			return err
		}
		if how == refused {
			if err := writeAll(fd, b.data); err != nil {
				w.free <- b
				return err
			}
		}
		at += int64(len(b.data))
		w.crc = crc64iso.Update(w.crc, b.data)
		if err := w.pass(i, b); err != nil {
			return err
		}
	}
	if how == shared {
		w.shared += c.size
	} else {
		w.written += c.size
	}
	return nil
}

func readFull(f *os.File, p []byte, at int64) error {
	if n, err := f.ReadAt(p, at); n < len(p) {
		if err == nil {
			err = io.ErrUnexpectedEOF
		}
		return shrunk(f, err)
	}
	return nil
}

func writeAll(fd int, data []byte) error {
	for len(data) > 0 {
		n, err := unix.Write(fd, data)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("writing: %w", err)
		}
		data = data[n:]
	}
	return nil
}
