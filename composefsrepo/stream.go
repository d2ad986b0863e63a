package composefsrepo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/beneath"
	"github.com/skopeo-cfs/skopeo-cfs/splitstream"
)

// Where the splitstreams are: each a symlink to an object, named for what it
// rebuilds and for its digest.
const (
	streamDir      = "streams"
	manifestPrefix = "oci-manifest-"
	configPrefix   = "oci-config-"
	layerPrefix    = "oci-layer-"
	blobPrefix     = "oci-blob-"  // of artifacts, where it is not layerPrefix
	indexPrefix    = "oci-index-" // a list of manifests
)

// findStream returns the object that streams/NAME points to. The error wraps
// ErrNotFound or ErrBadLink.
func (r *Repo) findStream(name string) (fsverity.Digest, error) {
	target, err := r.readLink(streamDir, name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fsverity.Digest{}, fmt.Errorf("%s: %w", name, ErrNotFound)
	case errors.Is(err, unix.EINVAL):
		return fsverity.Digest{}, fmt.Errorf("%s: %w: it is not a symlink", name, ErrBadLink)
	case err != nil:
		return fsverity.Digest{}, err
	}
	d, err := linkedObject(streamDir, target)
	if err != nil {
		return fsverity.Digest{}, fmt.Errorf("%s: %w", name, err)
	}
	return d, nil
}

// digestsOf returns the digests D for which there is a streams/PREFIX-D.
func (r *Repo) digestsOf(prefix string) ([]digest.Digest, error) {
	names, err := r.names(streamDir)
	if err != nil {
		return nil, fmt.Errorf("listing the streams of %s: %w", r.path, err)
	}
	var digests []digest.Digest
	for _, name := range names {
		if text, ok := strings.CutPrefix(name, prefix); ok {
			if d, err := digest.Parse(text); err == nil {
				digests = append(digests, d)
			}
		}
	}
	return digests, nil
}

// stream is an open splitstream.
type stream struct {
	*splitstream.Reader
	file *os.File
	repo *Repo
}

// openStream opens the splitstream in an object.
func (r *Repo) openStream(ctx context.Context, d fsverity.Digest) (*stream, error) {
	f, size, err := r.OpenObject(d)
	if err != nil {
		return nil, err
	}
	s, err := splitstream.NewReader(f, size, r.algorithm)
	if err != nil {
		f.Close()
		if culprit := r.checkContent(ctx, d); culprit != nil {
			err = culprit
		}
		return nil, fmt.Errorf("stream %s: %w", d, err)
	}
	return &stream{s, f, r}, nil
}

// Close closes the stream's file. It may be called again.
func (s *stream) Close() error { return closeFile(s.file) }

// expect returns an error if the stream is of another type than want.
func (s *stream) expect(want splitstream.Type) error {
	if got := s.ContentType(); got != want {
		return fmt.Errorf("%w: its stream has content type %s instead of %s", ErrInvalidImage, got, want)
	}
	return nil
}

// content returns the rebuilt file. The caller closes it, before the stream.
func (s *stream) content(ctx context.Context) *splitstream.Content {
	return s.Content(ctx, func(d fsverity.Digest) (io.ReadCloser, int64, error) {
		return s.repo.OpenObject(d)
	})
}

// maxDocumentSize bounds manifests and configs, in bytes. It is the limit that
// containers/image has for both.
const maxDocumentSize = 4 << 20

// document is a manifest or a config, and what its stream refers to.
type document struct {
	raw  []byte
	refs map[string]fsverity.Digest
}

// readDocument reads the manifest or config in an object. Its digest is not
// checked yet.
func (r *Repo) readDocument(ctx context.Context, at fsverity.Digest, want splitstream.Type) (*document, error) {
	s, err := r.openStream(ctx, at)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	if err := s.expect(want); err != nil {
		return nil, err
	}
	if s.Size() > maxDocumentSize {
		return nil, fmt.Errorf("%w: %d bytes, %d at most", ErrInvalidImage, s.Size(), maxDocumentSize)
	}
	refs, err := s.NamedRefs()
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", at, err)
	}
	content := s.content(ctx)
	defer content.Close()
	raw, err := beneath.ReadAll(content, maxDocumentSize)
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", at, err)
	}
	return &document{raw, refs}, nil
}
