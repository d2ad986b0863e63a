package push

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/containers/image/v5/pkg/compression"
	"github.com/containers/image/v5/types"
	"github.com/opencontainers/go-digest"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/source"
)

// keptSource serves an image as its manifest has it, with compressed layers that come
// from elsewhere. It may be used concurrently.
type keptSource struct {
	*source.Source
	blobs map[digest.Digest]openBlob

	mutex sync.Mutex
	err   error // the first of a layer that could not be had
}

// LayerInfosForCopy returns nil: the layers are the manifest's.
func (*keptSource) LayerInfosForCopy(context.Context, *digest.Digest) ([]types.BlobInfo, error) {
	return nil, nil
}

// Close does nothing: the source stays open.
func (*keptSource) Close() error { return nil }

// GetBlob returns a compressed layer, which is checked to be the image's as it is
// read, or what source.Source has.
func (s *keptSource) GetBlob(ctx context.Context, info types.BlobInfo, cache types.BlobInfoCache) (io.ReadCloser, int64, error) {
	for _, l := range s.Image().Layers {
		if l.Descriptor.Digest != info.Digest || l.Digest() == info.Digest {
			continue
		}
		open := s.blobs[info.Digest]
		if open == nil { // the destination had it
			return nil, 0, s.fail(fmt.Errorf("blob %s: %w", info.Digest, ErrLost))
		}
		blob, size, err := open(ctx)
		if err != nil {
			return nil, 0, s.fail(fmt.Errorf("fetching blob %s: %w: %w", info.Digest, ErrBlob, err))
		}
		return s.check(blob, l), size, nil
	}
	return s.Source.GetBlob(ctx, info, cache)
}

func (s *keptSource) fail(err error) error {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.err == nil {
		s.err = err
	}
	return err
}

func (s *keptSource) failed() error {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.err
}

// checked is a compressed layer that is decompressed beside, as it is read.
type checked struct {
	blob   io.ReadCloser
	tee    io.Reader
	pipe   *io.PipeWriter
	result chan error
	ended  error // what Read returned at the end
	source *keptSource
}

// check returns the blob, whose reading ends with ErrBlob where it does not
// decompress to the layer.
func (s *keptSource) check(blob io.ReadCloser, l composefsrepo.Layer) io.ReadCloser {
	r, w := io.Pipe()
	c := &checked{blob: blob, tee: io.TeeReader(blob, w), pipe: w, result: make(chan error, 1), source: s}
	go func() {
		err := decompressesTo(r, l.DiffID)
		if err != nil {
			err = fmt.Errorf("blob %s: %w %s: %w", l.Descriptor.Digest, ErrBlob, l.DiffID, err)
		}
		_, _ = io.Copy(io.Discard, r) // the reader goes on to the end
		c.result <- err
	}()
	return c
}

// errOther: it decompresses to something else.
var errOther = errors.New("its digest differs")

// decompressesTo reads a blob and returns an error if it does not decompress to what
// has the digest.
func decompressesTo(r io.Reader, want digest.Digest) error {
	content, _, err := compression.AutoDecompress(r)
	if err != nil {
		return err
	}
	defer content.Close()
	verifier := want.Verifier()
	if _, err := io.Copy(verifier, content); err != nil {
		return err
	}
	if !verifier.Verified() {
		return errOther
	}
	return nil
}

// Read implements io.Reader.
func (c *checked) Read(p []byte) (int, error) {
	if c.ended != nil {
		return 0, c.ended
	}
	n, err := c.tee.Read(p)
	if err == nil {
		return n, nil
	}
	if !errors.Is(err, io.EOF) {
		c.pipe.CloseWithError(err)
		c.ended = c.source.fail(fmt.Errorf("%w: %w", ErrBlob, err))
		return n, c.ended
	}
	c.ended = io.EOF
	c.pipe.Close()
	if err := <-c.result; err != nil {
		c.ended = c.source.fail(err)
	}
	return n, c.ended
}

// Close ends reading.
func (c *checked) Close() error {
	c.pipe.CloseWithError(io.ErrClosedPipe)
	return c.blob.Close()
}
