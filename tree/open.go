package tree

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"

	"golang.org/x/sys/unix"
)

// Open opens a node, which it calls name. What is read of a regular file's content is
// what the image has, or an error: where an object has fs-verity the kernel sees to
// that, else its digest is computed before the first byte is returned, and each block
// that is read is compared with what was read then. Of contents that are inline, see
// ReadLayer.
//
// The file is an fs.ReadDirFile where the node is a directory. Where the content is
// inline, or one object has it, the file is an io.ReaderAt and an io.Seeker too; else
// the layer's stream is read up to it. Devices and fifos are empty files. Once ctx is
// done, Read returns its error. The caller closes the file, before the repository.
func (t *Tree) Open(ctx context.Context, n *Node, name string) (fs.File, error) {
	f, err := t.open(ctx, n, name)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return f, nil
}

func (t *Tree) open(ctx context.Context, n *Node, name string) (fs.File, error) {
	info := newInfo(name, n)
	switch c := &n.content; {
	case n.IsDir():
		return &openDir{info: info, left: n.Children()}, nil
	case c.place == inObject:
		object, err := openObject(ctx, t.image, c.digest, n.Size)
		if err != nil {
			return nil, err
		}
		return newOpenFile(info, object, object), nil
	case c.place == inTar, c.place == inPieces:
		return openInTar(ctx, t, info)
	default:
		return newOpenFile(info, bytes.NewReader(c.inline), io.NopCloser(nil)), nil
	}
}

// openFile is an open file whose content can be read from any place.
type openFile struct {
	info info
	*io.SectionReader
	content io.Closer
	closed  bool
}

func newOpenFile(i info, content io.ReaderAt, closer io.Closer) *openFile {
	size := i.node.Size
	if !i.node.IsRegular() {
		size = 0
	}
	return &openFile{info: i, SectionReader: io.NewSectionReader(content, 0, size), content: closer}
}

// Close implements fs.File.
func (f *openFile) Close() error {
	if f.closed {
		return f.info.closedError("close")
	}
	f.closed = true
	return f.content.Close()
}

// Stat implements fs.File.
func (f *openFile) Stat() (fs.FileInfo, error) { return f.info, nil }

// inTarFile is an open file whose content is read from its layer's tar.
type inTarFile struct {
	info    info
	content *io.PipeReader
	cancel  context.CancelFunc
	done    chan struct{}
	closed  bool
}

// errDone ends reading a layer.
var errDone = errors.New("done")

// openInTar opens a file by reading its layer up to it.
func openInTar(ctx context.Context, t *Tree, i info) (fs.File, error) {
	ctx, cancel := context.WithCancel(ctx)
	r, w := io.Pipe()
	f := &inTarFile{info: i, content: r, cancel: cancel, done: make(chan struct{})}
	context.AfterFunc(ctx, func() { w.CloseWithError(ctx.Err()) })
	go func() {
		defer close(f.done)
		err := readLayer(ctx, t.image, i.node.Layer, func(number int, e *Entry) error {
			if number != i.node.content.entry {
				return nil
			}
			if _, err := e.copyTo(w); err != nil {
				return err
			}
			return errDone
		})
		if err == errDone {
			err = nil
		} else if err == nil {
			err = inLayer(t.image, i.node.Layer, errors.New("it has changed since its headers were read"))
		}
		w.CloseWithError(err)
	}()
	return f, nil
}

// copyTo writes the entry's content, which nobody has begun to read.
func (e *Entry) copyTo(w io.Writer) (int64, error) {
	var content io.Reader = e.tar
	if !e.Sparse {
		content = io.LimitReader(contentOf{e.stream}, e.left)
	}
	written, err := io.Copy(w, struct{ io.Reader }{content})
	if e.left -= written; err == nil && !e.Sparse && e.left > 0 {
		err = errTooShort
	}
	if err != nil && !errors.Is(err, io.ErrClosedPipe) {
		err = e.stream.unreadable(err)
	}
	return written, err
}

// Read implements fs.File.
func (f *inTarFile) Read(p []byte) (int, error) { return f.content.Read(p) }

// Close implements fs.File.
func (f *inTarFile) Close() error {
	if f.closed {
		return f.info.closedError("close")
	}
	f.closed = true
	f.content.Close()
	f.cancel()
	<-f.done
	return nil
}

// Stat implements fs.File.
func (f *inTarFile) Stat() (fs.FileInfo, error) { return f.info, nil }

// openDir is an open directory.
type openDir struct {
	info   info
	left   []Child
	closed bool
}

// Read implements fs.File.
func (d *openDir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.info.name, Err: unix.EISDIR}
}

// Close implements fs.File.
func (d *openDir) Close() error {
	if d.closed {
		return d.info.closedError("close")
	}
	d.closed = true
	return nil
}

// Stat implements fs.File.
func (d *openDir) Stat() (fs.FileInfo, error) { return d.info, nil }

// ReadDir implements fs.ReadDirFile.
func (d *openDir) ReadDir(n int) ([]fs.DirEntry, error) {
	if d.closed {
		return nil, d.info.closedError("readdir")
	}
	count := len(d.left)
	if n > 0 {
		if count == 0 {
			return nil, io.EOF
		}
		count = min(count, n)
	}
	entries := dirEntries(d.left[:count])
	d.left = d.left[count:]
	return entries, nil
}
