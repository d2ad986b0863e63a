package rearchive

import (
	"bufio"
	"context"
	"fmt"
	"hash"
	"io"

	"github.com/containers/image/v5/types"
	"github.com/opencontainers/go-digest"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
)

// rearchive writes a layer's new tar to w and describes it.
func (s *Source) rearchive(ctx context.Context, l layer, w io.Writer) (types.BlobInfo, error) {
	image := s.src.Image()
	fail := func(err error) (types.BlobInfo, error) {
		return types.BlobInfo{}, fmt.Errorf("re-archiving layer %s: %w", image.Layers[l.index].DiffID, err)
	}
	content, err := l.open(ctx)
	if err != nil {
		return fail(err)
	}
	defer content.Close()
	out := &measured{ctx: ctx, Writer: w, hash: digest.Canonical.Hash()}
	buffered := bufio.NewWriterSize(out, bufferSize)
	if err := rewrite(buffered, content); err != nil {
		return fail(err)
	}
	if err := buffered.Flush(); err != nil {
		return fail(err)
	}
	// Nobody needs what follows the archive; but its end tells that all was right.
	if _, err := io.Copy(io.Discard, content); err != nil {
		return fail(err)
	}
	return s.changedInfo(l, digest.NewDigest(digest.Canonical, out.hash), out.size), nil
}

// measured passes on what is written, and measures it. It ends with its context,
// which reading does not while a hole is written out.
type measured struct {
	ctx context.Context
	io.Writer
	hash hash.Hash
	size int64
}

func (m *measured) Write(p []byte) (int, error) {
	if err := m.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := m.Writer.Write(p)
	m.hash.Write(p[:n])
	m.size += int64(n)
	return n, err
}

// opened is a layer's new tar, written as it is read.
type opened struct {
	*io.PipeReader
	cancel context.CancelFunc
	done   chan struct{}
}

// open begins to re-archive a layer that has been described.
func (s *Source) open(ctx context.Context, l layer) *opened {
	ctx, cancel := context.WithCancel(ctx)
	r, w := io.Pipe()
	o := &opened{r, cancel, make(chan struct{})}
	stop := context.AfterFunc(ctx, func() { w.CloseWithError(context.Cause(ctx)) })
	go func() {
		defer close(o.done)
		defer stop()
		got, err := s.rearchive(ctx, l, w)
		if err == nil && got.Digest != l.info.Digest {
			err = fmt.Errorf("re-archived layer %s: %w: it hashes to %s", l.info.Digest, composefsrepo.ErrDigestMismatch, got.Digest)
		}
		w.CloseWithError(err) // io.EOF if it is nil
	}()
	return o
}

// Close ends the work. It may be called while another goroutine is in Read, and
// again.
func (o *opened) Close() error {
	o.cancel()
	err := o.PipeReader.Close()
	<-o.done
	return err
}
