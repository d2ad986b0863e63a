package keepannotations

import (
	"bytes"
	"context"
	"errors"

	"github.com/containers/image/v5/manifest"
	compression "github.com/containers/image/v5/pkg/compression/types"
	"github.com/containers/image/v5/types"
	"github.com/opencontainers/go-digest"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// destinationReference refers to where an image with annotations is to be.
type destinationReference struct {
	types.ImageReference
	annotations []map[string]string
	stored      []byte // the manifest, nil before one was stored
}

// NewImageDestination returns the reference's destination, which adds the
// annotations.
func (r *destinationReference) NewImageDestination(ctx context.Context, sys *types.SystemContext) (types.ImageDestination, error) {
	dest, err := r.ImageReference.NewImageDestination(ctx, sys)
	if err != nil {
		return nil, err
	}
	return destination{dest, r}, nil
}

// destination adds annotations to the manifest. It has no more methods than its
// interface, by which copy.Image would get around it.
type destination struct {
	types.ImageDestination
	reference *destinationReference
}

// PutManifest stores the manifest with the annotations that it lacks.
func (d destination) PutManifest(ctx context.Context, m []byte, instance *digest.Digest) error {
	m, err := annotate(m, d.reference.annotations)
	if err != nil {
		return err
	}
	if err := d.ImageDestination.PutManifest(ctx, m, instance); err != nil {
		return err
	}
	d.reference.stored = m
	return nil
}

// TryReusingBlob finds what the destination has, but for blobs in the place of
// others that are zstd:chunked: the interface does not tell which annotations make
// them that.
func (d destination) TryReusingBlob(ctx context.Context, info types.BlobInfo, cache types.BlobInfoCache, canSubstitute bool) (bool, types.BlobInfo, error) {
	reused, blob, err := d.ImageDestination.TryReusingBlob(ctx, info, cache, canSubstitute)
	if reused && blob.CompressionAlgorithm != nil && blob.CompressionAlgorithm.Name() == compression.ZstdChunkedAlgorithmName {
		return false, types.BlobInfo{}, err
	}
	return reused, blob, err
}

// annotate returns a manifest with the annotations that its layers lack, in the
// form that containers/image gives to manifests. Others than OCI's, which have no
// annotations, and those of other layers stay as they are.
func annotate(raw []byte, annotations []map[string]string) ([]byte, error) {
	if manifest.GuessMIMEType(raw) != imgspecv1.MediaTypeImageManifest {
		return raw, nil
	}
	m, err := manifest.OCI1FromManifest(raw)
	if err != nil {
		return nil, err
	}
	if len(m.Layers) != len(annotations) {
		return raw, nil
	}
	changed := false
	for i := range m.Layers {
		for key, value := range annotations[i] {
			if _, ok := m.Layers[i].Annotations[key]; ok {
				continue
			}
			if m.Layers[i].Annotations == nil {
				m.Layers[i].Annotations = map[string]string{}
			}
			m.Layers[i].Annotations[key] = value
			changed = true
		}
	}
	if !changed {
		return raw, nil
	}
	return m.Serialize()
}

// errOther: what was copied is not there any more.
var errOther = errors.New("another program has put another image there")

// storedReference refers to an image that was copied.
type storedReference struct {
	types.ImageReference
	manifest []byte
}

// NewImageSource returns the source of the image, if it is that which was copied.
func (r *storedReference) NewImageSource(ctx context.Context, sys *types.SystemContext) (types.ImageSource, error) {
	src, err := r.ImageReference.NewImageSource(ctx, sys)
	if err != nil {
		return nil, err
	}
	raw, _, err := src.GetManifest(ctx, nil)
	if err == nil && !bytes.Equal(raw, r.manifest) {
		err = errOther
	}
	if err != nil {
		return nil, errors.Join(err, src.Close())
	}
	return src, nil
}
