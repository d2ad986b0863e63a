package extract

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/beneath"
	"github.com/skopeo-cfs/skopeo-cfs/internal/cloner"
	"github.com/skopeo-cfs/skopeo-cfs/splitstream"
	"github.com/skopeo-cfs/skopeo-cfs/tree"
)

// regular extracts a regular file.
func (e *extractor) regular(path string, n *tree.Node) error {
	if err := e.working.Err(); err != nil {
		return err
	}
	var file *os.File
	err := e.make(path, func(dir int, base string) error {
		fd, err := beneath.OpenFD(dir, base, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW, 0o600)
		if err == nil {
			file = os.NewFile(uintptr(fd), path)
		}
		return err
	})
	if err != nil {
		return err
	}
	defer file.Close()
	if err := e.fill(file, n); err != nil {
		return withPath(path, err)
	}
	if err := e.setMetadata(int(file.Fd()), n); err != nil {
		return withPath(path, err)
	}
	atomic.AddInt64(&e.result.Files, 1)
	return file.Close()
}

// fill writes a file's content.
func (e *extractor) fill(file *os.File, n *tree.Node) error {
	d := n.Object()
	if d.IsZero() {
		return e.fillFromTree(file, n)
	}
	object, size, err := e.tree.Image().OpenObject(d)
	if err != nil {
		return err
	}
	defer object.Close()
	if size != n.Size {
		return fmt.Errorf("object %s: it has %d bytes, where the tar has %d: %w", d, size, n.Size, splitstream.ErrSize)
	}
	how, err := e.cloner.Clone(int(file.Fd()), object, size)
	if err != nil {
		return err
	}
	// What is in the file is what is checked, wherever that has come from.
	hasher := fsverity.NewHasher(e.tree.Image().Algorithm())
	counter := &e.result.Written
	if how == cloner.Refused {
		_, err = copyContent(e.working, io.MultiWriter(file, hasher), object)
	} else {
		_, err = copyContent(e.working, hasher, io.NewSectionReader(file, 0, size))
	}
	if err != nil {
		return err
	}
	if hasher.Sum() != d {
		return fmt.Errorf("object %s was altered: %w", d, composefsrepo.ErrVerity)
	}
	if how == cloner.Shared {
		counter = &e.result.Shared
	}
	atomic.AddInt64(counter, size)
	return nil
}

// fillFromTree writes a content that is in no object, and leaves out long runs of
// zeros, which sparse files may have without end.
func (e *extractor) fillFromTree(file *os.File, n *tree.Node) error {
	content, err := e.tree.Open(e.working, n, file.Name())
	if err != nil {
		return err
	}
	defer content.Close()
	if err := file.Truncate(n.Size); err != nil {
		return err
	}
	written, err := copyContent(e.working, &holes{file: file}, content)
	if err == nil && written != n.Size {
		err = fmt.Errorf("it has %d bytes, not %d", written, n.Size)
	}
	return err
}

const bufferSize = 128 << 10 // bytes

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// copyContent copies until the context is done.
func copyContent(ctx context.Context, to io.Writer, from io.Reader) (int64, error) {
	var written int64
	pooled := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(pooled)
	for buffer := pooled[:]; ; {
		if err := ctx.Err(); err != nil {
			return written, err
		}
		n, err := io.ReadFull(from, buffer)
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				return written, err
			}
			written += int64(n)
		}
		if errors.Is(err, io.EOF) || err == io.ErrUnexpectedEOF {
			return written, nil
		}
		if err != nil {
			return written, err
		}
	}
}

// holes writes a file of zeros, but for the zeros.
type holes struct {
	file *os.File
	at   int64
}

var zeros [bufferSize]byte

func (h *holes) Write(p []byte) (int, error) {
	at := h.at
	h.at += int64(len(p))
	if bytes.Equal(p, zeros[:len(p)]) {
		return len(p), nil
	}
	return h.file.WriteAt(p, at)
}
