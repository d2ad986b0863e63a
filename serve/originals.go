package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
)

// Originals has images as their registries have them, with compressed layers, which
// a composefs repository has not. It is used concurrently.
type Originals interface {
	// Manifest returns the registry's manifest of an image and its media type, if
	// Blob gives each blob that it names and the repository has not. The image is
	// called name, with a tag, and may be used until Manifest returns. Any error
	// means that there is none.
	Manifest(ctx context.Context, name string, image *composefsrepo.Image) (raw []byte, mediaType string, err error)
	// Blob opens a blob of such a manifest. The caller closes it. What it yields is
	// checked against its digest. After a blob that is wrong, or whose reading ends with
	// an error that wraps composefsrepo.ErrDigestMismatch, Manifest is asked again.
	Blob(ctx context.Context, manifest digest.Digest, blob imgspecv1.Descriptor) (io.ReadCloser, error)
}

const (
	// originalAge is how long an original manifest is used, and originalMissing how
	// long it is not looked for again where there was none.
	originalAge     = 10 * time.Minute
	originalMissing = time.Minute
	originalTimeout = 10 * time.Second
	originalsHeld   = 1000
)

// original is an image as its registry has it.
type original struct {
	manifest manifest // none where its digest is ""
	blobs    map[digest.Digest]imgspecv1.Descriptor
	until    time.Time // changed under originals.mu
}

// originals remembers what Originals has said.
type originals struct {
	Originals  // may be nil
	repository *repository

	mu   sync.Mutex
	held map[digest.Digest]*original
	turn map[digest.Digest]chan struct{}
}

func newOriginals(o Originals, r *repository) *originals {
	return &originals{Originals: o, repository: r, held: map[digest.Digest]*original{}, turn: map[digest.Digest]chan struct{}{}}
}

// of returns the original of an image that is called name, nil where there is none.
func (o *originals) of(ctx context.Context, name string, i *image) *original {
	if o.Originals == nil {
		return nil
	}
	for {
		o.mu.Lock()
		held, turn := o.held[i.key], o.turn[i.key]
		if held != nil && time.Now().Before(held.until) {
			o.mu.Unlock()
			return held.orNil()
		}
		if turn == nil {
			turn = make(chan struct{})
			o.turn[i.key] = turn
			o.mu.Unlock()
			held = o.ask(name, i)
			o.mu.Lock()
			if len(o.held) >= originalsHeld {
				clear(o.held)
			}
			o.held[i.key] = held
			delete(o.turn, i.key)
			close(turn)
			o.mu.Unlock()
			return held.orNil()
		}
		o.mu.Unlock()
		select {
		case <-turn:
		case <-ctx.Done():
			return nil
		}
	}
}

// doubt has an original asked for again when it is next wanted.
func (o *originals) doubt(wrong *original) {
	o.mu.Lock()
	defer o.mu.Unlock()
	wrong.until = time.Time{}
}

func (o *original) orNil() *original {
	if o.manifest.digest == "" {
		return nil
	}
	return o
}

// ask asks for the original, for all who wait for it.
func (o *originals) ask(name string, i *image) *original {
	ctx, cancel := context.WithTimeout(o.repository.ctx, originalTimeout)
	defer cancel()
	found, err := o.find(ctx, name, i)
	if err != nil {
		return &original{until: time.Now().Add(originalMissing)}
	}
	found.until = time.Now().Add(originalAge)
	return found
}

func (o *originals) find(ctx context.Context, name string, i *image) (*original, error) {
	// It is opened for this, since the registry may let us wait.
	repo, err := composefsrepo.Open(ctx, o.repository.path, nil)
	if err != nil {
		return nil, err
	}
	defer repo.Close()
	opened, err := readImage(ctx, repo, i.key)
	if err != nil {
		return nil, err
	}
	raw, mediaType, err := o.Manifest(ctx, name, opened)
	if err != nil {
		return nil, err
	}
	return newOriginal(raw, mediaType, i)
}

// newOriginal checks that a manifest is one of the image.
func newOriginal(raw []byte, mediaType string, i *image) (*original, error) {
	m, err := parseManifest(raw)
	if err != nil {
		return nil, err
	}
	if m.Config.Digest != i.configDigest {
		return nil, fmt.Errorf("the original manifest is of the image %s, not of %s", m.Config.Digest, i.configDigest)
	}
	found := &original{manifest: newManifest(raw, mediaType), blobs: map[digest.Digest]imgspecv1.Descriptor{}}
	for _, l := range m.Layers {
		if _, ok := i.layers[l.Digest]; !ok {
			found.blobs[l.Digest] = l
		}
	}
	return found, nil
}

// serveOriginal streams a blob through.
func (s *Server) serveOriginal(w http.ResponseWriter, r *http.Request, o *original, blob imgspecv1.Descriptor) error {
	describeBlob(w, blob.Digest)
	if notModified(w, r) {
		return nil
	}
	w.Header().Set("Content-Length", strconv.FormatInt(blob.Size, 10))
	if r.Method == http.MethodHead {
		return nil
	}
	content, err := s.originals.Blob(r.Context(), o.manifest.digest, blob)
	if err != nil {
		s.report(fmt.Errorf("blob %s of the original %s: %w", blob.Digest, o.manifest.digest, err))
		return errBlobUnknown.WithDetail("its registry does not give it")
	}
	defer content.Close()
	if err := sendChecked(w, content, blob); err != nil {
		if errors.Is(err, composefsrepo.ErrDigestMismatch) {
			s.originals.doubt(o)
		}
		if gone := (*clientError)(nil); r.Context().Err() == nil && !errors.As(err, &gone) {
			s.report(fmt.Errorf("blob %s of the original %s: %w", blob.Digest, o.manifest.digest, err))
		}
		panic(http.ErrAbortHandler)
	}
	return nil
}

// sendChecked sends a blob but for its end, which goes out when the digest is found
// to be right.
func sendChecked(to io.Writer, content io.Reader, blob imgspecv1.Descriptor) error {
	verifier := blob.Digest.Verifier()
	pooled := buffers.Get().(*[]byte)
	defer buffers.Put(pooled)
	buffer := (*pooled)[:bufferSize]
	for left := blob.Size; left > 0; {
		n, err := io.ReadFull(content, buffer[:min(left, bufferSize)])
		if err != nil {
			return err
		}
		verifier.Write(buffer[:n])
		if left -= int64(n); left == 0 && !verifier.Verified() {
			return fmt.Errorf("%w: it has %d bytes of another", composefsrepo.ErrDigestMismatch, blob.Size)
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return err
		}
	}
	if n, err := content.Read(buffer[:1]); n > 0 || err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: it has more than %d bytes", composefsrepo.ErrDigestMismatch, blob.Size)
	}
	return nil
}
