// Package source serves an image of a composefs repository to copy.Image and other
// functions of containers/image: the manifest and the config as they were pulled, and
// the layers uncompressed. Layers are rebuilt while they are read.
package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/containers/image/v5/types"
	"github.com/opencontainers/go-digest"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
)

// ErrNoCompressedLayer is returned for a blob that the manifest names and the
// repository has only uncompressed, and for what could only be had with it: the
// manifest's digest.
var ErrNoCompressedLayer = errors.New("a composefs repository has only the uncompressed layers")

// Source is a types.ImageSource. It may be used concurrently.
type Source struct {
	reference  types.ImageReference
	repo       io.Closer
	image      *composefsrepo.Image
	signatures *signatures // nil where nobody said how to find any
	close      sync.Once
}

var _ types.ImageSource = (*Source)(nil)

// New returns the source of an image. The source's Reference is reference,
// which policies are applied to: it should say what the image is in the one way
// that all of its names resolve to. Close closes repo, which may be nil.
func New(reference types.ImageReference, repo io.Closer, image *composefsrepo.Image) *Source {
	return &Source{reference: reference, repo: repo, image: image}
}

// Reference returns the reference that New was given.
func (s *Source) Reference() types.ImageReference { return s.reference }

// Image returns the image that the source serves.
func (s *Source) Image() *composefsrepo.Image { return s.image }

// Close ends the source and what New was given to close. It may be called again,
// which does nothing.
func (s *Source) Close() (err error) {
	s.close.Do(func() {
		if s.repo != nil {
			err = s.repo.Close()
		}
	})
	return err
}

// GetManifest returns the manifest, byte for byte as the importer was given it,
// and its media type. There are no instances: the repository keeps no indexes.
func (s *Source) GetManifest(_ context.Context, instance *digest.Digest) ([]byte, string, error) {
	if err := noInstance(instance); err != nil {
		return nil, "", err
	}
	return s.image.Manifest, s.image.ManifestType, nil
}

func noInstance(instance *digest.Digest) error {
	if instance != nil {
		return fmt.Errorf("manifest %s: a composefs repository has no manifest lists", *instance)
	}
	return nil
}

// HasThreadSafeGetBlob tells that layers may be read side by side.
func (s *Source) HasThreadSafeGetBlob() bool { return true }

// GetBlob returns the config, a layer as LayerInfosForCopy lists it, or a blob
// that the repository has as it was pulled; and its size in bytes, always
// known. The caller closes it. Reading it ends with an error where the content
// does not have the digest. For a layer that the repository has only
// uncompressed the error is ErrNoCompressedLayer.
func (s *Source) GetBlob(ctx context.Context, info types.BlobInfo, _ types.BlobInfoCache) (io.ReadCloser, int64, error) {
	if info.Digest == s.image.ConfigDescriptor.Digest {
		return io.NopCloser(bytes.NewReader(s.image.Config)), int64(len(s.image.Config)), nil
	}
	var err error = fmt.Errorf("not a blob of this image: %w", composefsrepo.ErrNotFound)
	for i, l := range s.image.Layers {
		if l.Digest() == info.Digest {
			blob, err := s.image.OpenLayer(ctx, i)
			return blob, l.Size, err
		}
		if l.Descriptor.Digest == info.Digest {
			err = ErrNoCompressedLayer
		}
	}
	return nil, 0, fmt.Errorf("blob %s: %w", info.Digest, err)
}
