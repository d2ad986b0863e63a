package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"sync"
	"time"

	"github.com/containers/image/v5/docker/reference"
	"github.com/containers/image/v5/pkg/compression"
	"github.com/containers/image/v5/pkg/sysregistriesv2"
	"github.com/containers/image/v5/types"
	"github.com/opencontainers/go-digest"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/internal/beneath"
	"github.com/skopeo-cfs/skopeo-cfs/internal/registries"
)

// originalBlobID is a compressed layer, and the layer that it shall decompress to.
type originalBlobID struct {
	digest, diffID digest.Digest
}

// originalBlob is a compressed layer.
type originalBlob struct {
	originalBlobID
	size, layerSize int64     // bytes
	place           blobPlace // that has it, nil where it is not known
}

// blobPlace is where compressed layers can be had.
type blobPlace interface {
	fmt.Stringer
	// has returns an error where the place has not got the blob; one that wraps
	// errdef.ErrNotFound or fs.ErrNotExist says nothing of others.
	has(context.Context, originalBlob) error
	// open opens a blob. What it yields is not checked.
	open(context.Context, originalBlob) (io.ReadCloser, error)
}

// askedAtOnce is how many blobs are asked for at once.
const askedAtOnce = 6

// ask returns those blobs that a place has, and why it has not got the others.
func ask(ctx context.Context, p blobPlace, blobs []originalBlob) (there []originalBlob, err error) {
	ctx, cancel := context.WithTimeout(ctx, originTimeout)
	defer cancel()
	var mu sync.Mutex
	var missing error
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(askedAtOnce)
	for _, b := range blobs {
		group.Go(func() error {
			err := p.has(ctx, b)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				b.place = p
				there = append(there, b)
			case errors.Is(err, errdef.ErrNotFound) || errors.Is(err, fs.ErrNotExist):
				missing = err
			default:
				return err
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return there, err
	}
	return there, missing
}

// layoutPlace is the path of an OCI layout.
type layoutPlace string

func (p layoutPlace) String() string { return "the layout " + printable(string(p)) }

func (p layoutPlace) has(ctx context.Context, b originalBlob) error {
	f, err := p.open(ctx, b)
	if err != nil {
		return err
	}
	return f.Close()
}

func (p layoutPlace) open(_ context.Context, b originalBlob) (io.ReadCloser, error) {
	dir, err := os.Open(string(p))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	f, info, err := beneath.OpenRegular(dir, path.Join("blobs", b.digest.Algorithm().String(), b.digest.Encoded()))
	if err != nil {
		return nil, err
	}
	if info.Size() != b.size {
		return nil, errors.Join(fmt.Errorf("it has %d bytes instead of %d", info.Size(), b.size), f.Close())
	}
	return f, nil
}

// registryPlace is a repository of a registry.
type registryPlace struct{ repository *remote.Repository }

// registryPlaces returns where registries.conf has an image pulled from: mirrors, and
// the registry itself. The error is why there is none, or not one of them.
func registryPlaces(ctx context.Context, sys *types.SystemContext, name reference.Named, manifest digest.Digest) ([]blobPlace, error) {
	name = reference.TrimNamed(name)
	digested, err := reference.WithDigest(name, manifest)
	if err != nil {
		return nil, err
	}
	registry, err := sysregistriesv2.FindRegistry(sys, name.Name())
	if err != nil {
		return nil, fmt.Errorf("reading the configuration of registries: %w", err)
	}
	sources := []sysregistriesv2.PullSource{{Reference: digested}}
	if registry != nil {
		if registry.Blocked {
			return nil, fmt.Errorf("registry %s is blocked", registry.Prefix)
		}
		if sources, err = registry.PullSourcesFromReference(digested); err != nil {
			return nil, err
		}
	}
	var places []blobPlace
	var reasons []error
	for _, s := range sources {
		repository, err := openSource(ctx, sys, s)
		if err != nil {
			reasons = append(reasons, fmt.Errorf("%s: %w", s.Reference.Name(), err))
			continue
		}
		places = append(places, registryPlace{repository})
	}
	return places, errors.Join(reasons...)
}

// openSource opens a place of those in registries.conf.
func openSource(ctx context.Context, sys *types.SystemContext, s sysregistriesv2.PullSource) (*remote.Repository, error) {
	if s.Endpoint.Insecure && sys.DockerInsecureSkipTLSVerify == types.OptionalBoolUndefined {
		insecure := *sys
		insecure.DockerInsecureSkipTLSVerify = types.OptionalBoolTrue
		sys = &insecure
	}
	ctx, cancel := context.WithTimeout(ctx, originTimeout)
	defer cancel()
	return registries.Open(ctx, sys, reference.TrimNamed(s.Reference))
}

func (p registryPlace) String() string {
	return "the registry, " + p.repository.Reference.Registry + "/" + p.repository.Reference.Repository
}

func (p registryPlace) has(ctx context.Context, b originalBlob) error {
	there, err := p.repository.Blobs().Resolve(ctx, b.digest.String())
	if err == nil && there.Size != b.size {
		err = fmt.Errorf("blob %s has %d bytes instead of %d", b.digest, there.Size, b.size)
	}
	return err
}

func (p registryPlace) open(ctx context.Context, b originalBlob) (io.ReadCloser, error) {
	return p.repository.Blobs().Fetch(ctx, imgspecv1.Descriptor{Digest: b.digest, Size: b.size})
}

// stallTimeout is how long the next bytes of a blob may take to come.
const stallTimeout = time.Minute

// errStalled: a registry has stopped sending a blob.
var errStalled = fmt.Errorf("no data has come for %s", stallTimeout)

// patient is a blob whose reading ends when nothing comes any more.
type patient struct {
	content io.ReadCloser
	timer   *time.Timer
	ctx     context.Context
	cancel  context.CancelCauseFunc
}

// openPatiently opens a blob. How long its reader takes does not matter.
func openPatiently(ctx context.Context, b originalBlob) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	p := &patient{ctx: ctx, cancel: cancel, timer: time.AfterFunc(stallTimeout, func() { cancel(errStalled) })}
	content, err := b.place.open(ctx, b)
	p.timer.Stop()
	if err != nil {
		err = p.reason(err)
		cancel(nil)
		return nil, err
	}
	p.content = content
	return p, nil
}

// reason returns errStalled where that is why reading ended.
func (p *patient) reason(err error) error {
	if errors.Is(context.Cause(p.ctx), errStalled) {
		return errStalled
	}
	return err
}

// Read implements io.Reader.
func (p *patient) Read(b []byte) (int, error) {
	p.timer.Reset(stallTimeout)
	n, err := p.content.Read(b)
	p.timer.Stop()
	if err != nil && !errors.Is(err, io.EOF) {
		err = p.reason(err)
	}
	return n, err
}

// Close implements io.Closer.
func (p *patient) Close() error {
	p.timer.Stop()
	defer p.cancel(nil)
	return p.content.Close()
}

// checkedBlob is a compressed layer that is decompressed beside, as it is read.
type checkedBlob struct {
	io.ReadCloser
	left   int64 // bytes
	pipe   *io.PipeWriter
	result chan error
	judge  func(error)
}

// checkBlob returns what has a blob's content. The last of it is read when it has been
// found to be the blob, and to decompress to the layer, which judge is told; otherwise
// reading ends with an error.
func checkBlob(content io.ReadCloser, b originalBlob, judge func(error)) io.ReadCloser {
	r, w := io.Pipe()
	c := &checkedBlob{ReadCloser: content, left: b.size, pipe: w, result: make(chan error, 1), judge: judge}
	go func() {
		verifier := b.digest.Verifier()
		whole := io.TeeReader(r, verifier)
		err := decompressesTo(whole, b)
		_, _ = io.Copy(io.Discard, whole) // the reader goes on to the end
		if !verifier.Verified() {
			err = fmt.Errorf("%w: it is not %s", composefsrepo.ErrDigestMismatch, b.digest)
		}
		c.result <- err
	}()
	return c
}

// decompressesTo returns an error that wraps composefsrepo.ErrDigestMismatch if a blob
// does not decompress to its layer.
func decompressesTo(blob io.Reader, b originalBlob) error {
	content, _, err := compression.AutoDecompress(blob)
	if err != nil {
		return fmt.Errorf("%w: decompressing it: %w", composefsrepo.ErrDigestMismatch, err)
	}
	defer content.Close()
	verifier := b.diffID.Verifier()
	if _, err := io.Copy(verifier, io.LimitReader(content, b.layerSize+1)); err != nil {
		return fmt.Errorf("%w: decompressing it: %w", composefsrepo.ErrDigestMismatch, err)
	}
	if !verifier.Verified() {
		return fmt.Errorf("%w: it does not decompress to the layer %s", composefsrepo.ErrDigestMismatch, b.diffID)
	}
	return nil
}

// Read implements io.Reader.
func (c *checkedBlob) Read(p []byte) (int, error) {
	if c.left == 0 {
		return c.ReadCloser.Read(p)
	}
	n, err := c.ReadCloser.Read(p[:min(int64(len(p)), c.left)])
	_, _ = c.pipe.Write(p[:n]) // it is read to the end
	if c.left -= int64(n); c.left > 0 {
		return n, err
	}
	c.pipe.Close()
	verdict := <-c.result
	c.judge(verdict)
	if verdict != nil {
		return 0, verdict
	}
	return n, err
}

// Close implements io.Closer.
func (c *checkedBlob) Close() error {
	c.pipe.CloseWithError(io.ErrClosedPipe)
	return c.ReadCloser.Close()
}
