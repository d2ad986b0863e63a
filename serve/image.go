package serve

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/singleflight"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
)

const (
	// imageAge is how long what was read of an image is used.
	imageAge = 30 * time.Second
	// imageMemory bounds the manifests and configs that are held, in bytes.
	imageMemory = 64 << 20
	// loadTimeout bounds the reading of an image, the waiting for the repository's
	// lock included.
	loadTimeout = 30 * time.Second
)

// image is what was read of an image: all but the contents of layers. It is not
// changed.
type image struct {
	key    digest.Digest // what it is found by
	loaded time.Time

	manifests    []manifest // that list what the repository has, the best first
	config       []byte
	configDigest digest.Digest
	layers       map[digest.Digest]layer
	// stored is the digest of the manifest as it is stored: mostly that of the
	// registry, which names compressed layers.
	stored       digest.Digest
	subject      digest.Digest // "" where the manifest refers to none
	artifactType string
	annotations  map[string]string
}

// layer is a layer of an image.
type layer struct {
	digest digest.Digest
	verity fsverity.Digest // names the object with its stream
	size   int64           // bytes
	index  int             // in the image's manifest
	image  digest.Digest   // what the image is found by
	isTar  bool
}

// size returns about how many bytes the image occupies.
func (i *image) size() int64 {
	n := int64(len(i.config)) + int64(len(i.layers))*256
	for _, m := range i.manifests {
		n += int64(len(m.raw))
	}
	return n
}

// manifest returns the manifest with a digest.
func (i *image) manifest(d digest.Digest) (manifest, bool) {
	for _, m := range i.manifests {
		if m.digest == d {
			return m, true
		}
	}
	return manifest{}, false
}

// readImage reads the image that a key stands for. One whose manifest was converted
// on its way into the repository, and has another digest than it is stored under, is
// found by its config: whoever asks for a tag asks for no digest.
func readImage(ctx context.Context, repo *composefsrepo.Repo, key digest.Digest) (*composefsrepo.Image, error) {
	opened, err := repo.ImageByDigest(ctx, key)
	if !errors.Is(err, composefsrepo.ErrDigestMismatch) {
		return opened, err
	}
	config, configErr := repo.ConfigOf(ctx, key)
	if configErr != nil {
		return nil, err
	}
	if opened, configErr = repo.ImageByDigest(ctx, config); configErr != nil {
		return nil, err
	}
	return opened, nil
}

func newImage(key digest.Digest, opened *composefsrepo.Image) (*image, error) {
	manifests, err := manifestsOf(opened)
	if err != nil {
		return nil, err
	}
	i := &image{
		key: key, loaded: time.Now(), manifests: manifests, stored: opened.ManifestDigest,
		config: opened.Config, configDigest: opened.ConfigDescriptor.Digest,
		layers: map[digest.Digest]layer{},
	}
	for n, l := range opened.Layers {
		i.layers[l.Digest()] = layer{l.Digest(), l.Verity, l.Size, n, key, l.DiffID != "" && !strings.Contains(l.Descriptor.MediaType, "encrypted")}
	}
	var m imgspecv1.Manifest
	if err := json.Unmarshal(opened.Manifest, &m); err != nil {
		return nil, err
	}
	if m.Subject != nil {
		i.subject = m.Subject.Digest
	}
	if i.artifactType, i.annotations = m.ArtifactType, m.Annotations; i.artifactType == "" {
		i.artifactType = m.Config.MediaType
	}
	return i, nil
}

// images reads images, and remembers some for a while.
type images struct {
	repository *repository
	flight     singleflight.Group

	mu   sync.Mutex
	held map[digest.Digest]*image
	size int64
}

func newImages(r *repository) *images {
	return &images{repository: r, held: map[digest.Digest]*image{}}
}

// get returns the image that a key stands for. The error is composefsrepo's.
func (s *images) get(ctx context.Context, key digest.Digest) (*image, error) {
	s.mu.Lock()
	held := s.held[key]
	s.mu.Unlock()
	if held != nil && time.Since(held.loaded) < imageAge {
		return held, nil
	}
	result := s.flight.DoChan(key.String(), func() (any, error) { return s.load(key) })
	select {
	case r := <-result:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.(*image), nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// load reads an image, for all who wait for it.
func (s *images) load(key digest.Digest) (*image, error) {
	ctx, cancel := context.WithTimeout(s.repository.ctx, loadTimeout)
	defer cancel()
	repo, err := s.repository.take(ctx)
	if err != nil {
		return nil, err
	}
	defer s.repository.giveBack()
	opened, err := readImage(ctx, repo, key)
	if err != nil {
		s.forget(key)
		return nil, err
	}
	i, err := newImage(key, opened)
	if err == nil {
		s.hold(i)
	}
	return i, err
}

// hold remembers an image, and forgets others where there are too many.
func (s *images) hold(i *image) {
	s.forget(i.key)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.size += i.size()
	for key, other := range s.held {
		if s.size <= imageMemory {
			break
		}
		s.size -= other.size()
		delete(s.held, key)
	}
	s.held[i.key] = i
}

// forget has an image read anew.
func (s *images) forget(key digest.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.held[key]; old != nil {
		s.size -= old.size()
		delete(s.held, key)
	}
}
