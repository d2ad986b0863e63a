package composefsrepo

import (
	"context"
	"encoding/hex"
	"hash"
	"io"
	"sync/atomic"

	"github.com/opencontainers/go-digest"

	"github.com/skopeo-cfs/skopeo-cfs/internal/lostzeros"
)

// verified is a stream's content, hashed beside the reader: one goroutine reads
// blocks ahead, another hashes them while the caller has them, and the end of
// the file is reported when the digest has been found right.
type verified struct {
	stream *stream
	layer  Layer
	want   digest.Digest // mostly the layer's

	ctx    context.Context
	cancel context.CancelFunc
	blocks chan *block // read, in order
	free   chan *block
	ended  chan struct{} // closed when the reading goroutine is through
	result chan error    // what reading and hashing came to

	current *block
	left    []byte // of the current block
	err     error
}

// block is a piece of the content, in use by the caller and by the hash.
type block struct {
	buffer []byte
	data   []byte
	users  atomic.Int32
}

const (
	blockSize = 256 << 10 // bytes
	allBlocks = 6
)

func newVerified(ctx context.Context, s *stream, l Layer, want digest.Digest) *verified {
	ctx, cancel := context.WithCancel(ctx)
	v := &verified{
		stream: s, layer: l, want: want, ctx: ctx, cancel: cancel,
		blocks: make(chan *block, allBlocks),
		free:   make(chan *block, allBlocks),
		ended:  make(chan struct{}),
		result: make(chan error, 1),
	}
	for range allBlocks {
		v.free <- &block{}
	}
	go v.readAhead()
	return v
}

// readAhead reads the content and passes its blocks on, to be hashed and to be
// returned.
func (v *verified) readAhead() {
	defer close(v.ended)
	defer close(v.blocks)
	content := v.stream.content(v.ctx)
	defer content.Close()

	toHash := make(chan *block, allBlocks)
	sum := make(chan hash.Hash, 1)
	go func() {
		h := v.want.Algorithm().Hash()
		for b := range toHash {
			h.Write(b.data)
			v.release(b)
		}
		sum <- h
	}()
	err := v.pass(io.MultiReader(content, io.LimitReader(zeros{}, v.layer.zeros)), toHash)
	close(toHash)
	if h := <-sum; err == nil {
		err = v.check(h)
	}
	v.result <- err
}

// check compares the digest of all of the content to what it should be.
func (v *verified) check(h hash.Hash) error {
	got := digest.NewDigest(v.want.Algorithm(), h)
	if got == v.want {
		return nil
	}
	sum, err := hex.DecodeString(v.want.Encoded())
	if err != nil {
		return err
	}
	if v.layer.DiffID != "" && v.layer.zeros == 0 {
		if lost, found := lostzeros.Find(h, v.layer.Size, sum); found {
			return lostZerosError(lost)
		}
	}
	return v.stream.repo.mismatch(v.layer, got)
}

// zeros is without end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// pass reads blocks until the content ends.
func (v *verified) pass(content io.Reader, toHash chan<- *block) error {
	for {
		var b *block
		select {
		case b = <-v.free:
		case <-v.ctx.Done():
			return v.ctx.Err()
		}
		if b.buffer == nil {
			b.buffer = make([]byte, blockSize)
		}
		n, err := io.ReadFull(content, b.buffer)
		if n > 0 {
			b.data = b.buffer[:n]
			b.users.Store(2)
			toHash <- b // both channels have room for every block
			v.blocks <- b
		}
		switch err {
		case nil:
		case io.EOF, io.ErrUnexpectedEOF:
			return nil
		default:
			return err
		}
	}
}

func (v *verified) release(b *block) {
	if b.users.Add(-1) == 0 {
		v.free <- b
	}
}

// Read implements io.Reader.
func (v *verified) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if len(v.left) == 0 {
		if err := v.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, v.left)
	v.left = v.left[n:]
	return n, nil
}

// WriteTo implements io.WriterTo.
func (v *verified) WriteTo(w io.Writer) (int64, error) {
	var written int64
	for {
		if len(v.left) == 0 {
			if err := v.next(); err == io.EOF {
				return written, nil
			} else if err != nil {
				return written, err
			}
		}
		n, err := w.Write(v.left)
		written += int64(n)
		v.left = v.left[n:]
		if err != nil {
			return written, err
		}
	}
}

// next makes the next block the current one.
func (v *verified) next() error {
	if v.err != nil {
		return v.err
	}
	if v.current != nil {
		v.release(v.current)
		v.current = nil
	}
	if v.err = v.ctx.Err(); v.err != nil {
		return v.err
	}
	select {
	case b, ok := <-v.blocks:
		if ok {
			v.current, v.left = b, b.data
			return nil
		}
		v.err = v.verdict(<-v.result)
	case <-v.ctx.Done():
		v.err = v.ctx.Err()
	}
	return v.err
}

// verdict is what the reader gets at the end.
func (v *verified) verdict(err error) error {
	switch {
	case err == nil:
		return io.EOF
	case v.ctx.Err() != nil:
		return v.ctx.Err()
	}
	err = v.stream.repo.blame(v.ctx, v.layer.Verity, err)
	v.stream.repo.lookForEnd(v.ctx, v.layer, err)
	return inLayer(v.layer, err)
}

// Close ends reading and releases what was open. It may be called while another
// goroutine is in Read, as copy pipelines do when they give up, and again.
func (v *verified) Close() error {
	v.cancel()
	<-v.ended
	return v.stream.Close()
}
