package unpack

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/internal/cloner"
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
	if err := w.complete(fd, job); err != nil {
		unix.Close(fd)
		return err
	}
	w.files++
	return closed(fd)
}

// complete gives the new file its content and metadata.
func (w *worker) complete(fd int, job *fileJob) error {
	if err := w.fill(fd, job); err != nil {
		return err
	}
	if job.item.buffers != nil {
		job.item.crc = binary.BigEndian.AppendUint64(nil, w.crc)
		close(job.item.buffers)
	}
	return job.metadata.applyTo(fd, w.tree.options)
}

// closed closes a file that was written to. Some filesystems tell only then that
// they could not write it.
func closed(fd int) error {
	if err := unix.Close(fd); err != nil {
		return fmt.Errorf("closing the file: %w", err)
	}
	return nil
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
	before, err := look(c.file)
	if err != nil {
		return err
	}
	how, err := w.cloner.cloner.Clone(fd, c.file, c.size)
	if err != nil {
		return err
	}
	switch {
	case how == cloner.Refused:
		err = w.read(c.file, c, i, func(data []byte) error { return writeAll(fd, data) })
	case how == cloner.Shared && w.shows(c.file, &before):
		if err = w.read(c.file, c, i, nil); err == nil {
			err = unchanged(c, &before)
		}
	default:
		if err = w.read(descriptor(fd), c, i, nil); err == nil {
			err = sizeIs(fd, c)
		}
	}
	if err != nil {
		return err
	}
	if how == cloner.Shared {
		w.shared += c.size
	} else {
		w.written += c.size
	}
	return nil
}

// shows tells whether a file can be read for its clone: it can't change, or it
// shows afterwards whether it did.
func (w *worker) shows(f *os.File, before *version) bool {
	return before.immutable() || before.settled() && before.trusted() && w.cloner.tellsChanges(f, before.device())
}

// unchanged returns an error if a file is not what it was before it was cloned.
func unchanged(c content, before *version) error {
	after, err := look(c.file)
	if err != nil {
		return err
	}
	if before.stat.Size != uint64(c.size) || !before.same(after) {
		return changed(c)
	}
	return nil
}

// sizeIs returns an error if the file fd has not just the content.
func sizeIs(fd int, c content) error {
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return fmt.Errorf("fstat: %w", err)
	}
	if stat.Size != c.size {
		return changed(c)
	}
	return nil
}

func changed(c content) error {
	return fmt.Errorf("reading %s: %w: the file was changed meanwhile", c.file.Name(), ErrTar)
}

// read reads a content and passes it on, first to write, if that is not nil.
func (w *worker) read(from io.ReaderAt, c content, i *item, write func([]byte) error) error {
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
		err := readFull(from, b.data, at, c.file)
		if err == nil && write != nil {
			err = write(b.data)
		}
		if err != nil {
			w.free <- b
			return err
		}
		at += int64(len(b.data))
		w.crc = crc64iso.Update(w.crc, b.data)
		if err := w.pass(i, b); err != nil {
			return err
		}
	}
	return nil
}

// descriptor is an open file's.
type descriptor int

// ReadAt implements io.ReaderAt.
func (d descriptor) ReadAt(p []byte, at int64) (done int, err error) {
	for done < len(p) {
		n, err := unix.Pread(int(d), p[done:], at+int64(done))
		switch {
		case err == unix.EINTR:
		case err != nil:
			return done, fmt.Errorf("reading back what was copied: %w", err)
		case n == 0:
			return done, io.EOF
		default:
			done += n
		}
	}
	return done, nil
}

// readFull reads a piece of the content of file, there or where it was cloned to.
func readFull(from io.ReaderAt, p []byte, at int64, file *os.File) error {
	if n, err := from.ReadAt(p, at); n < len(p) {
		if err == nil {
			err = io.ErrUnexpectedEOF
		}
		return shrunk(file, err)
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
