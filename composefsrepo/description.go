package composefsrepo

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/skopeo-cfs/skopeo-cfs/internal/blobannotations"
)

// ImageByDescription opens the image that a manifest describes whose bytes are
// not those that were pulled, so that its own digest says nothing: the image of
// its config. Where the repository has a manifest of that config, that is the
// image's, one with the same layers before others. Where it has none, the image
// gets one from its config, and with it the annotations of the description.
// Errors are as with ImageByTag.
func (r *Repo) ImageByDescription(ctx context.Context, description []byte) (*Image, error) {
	m, err := parseManifest(description)
	if err != nil {
		return nil, fmt.Errorf("description of an image: %w", err)
	}
	_, candidates, err := r.manifestsOfConfig(ctx, m.Config.Digest)
	if err != nil {
		return nil, err
	}
	for _, c := range candidates {
		stored, err := parseManifest(c.raw)
		if err != nil || stored.Config.Digest != m.Config.Digest || !slices.EqualFunc(stored.Layers, m.Layers, sameBlob) {
			continue
		}
		if image, err := r.assemble(ctx, c.digest, c.document); err == nil {
			return image, nil
		}
	}
	image, err := r.ImageByDigest(ctx, m.Config.Digest)
	if err != nil || !image.Synthesised {
		return image, err
	}
	if err := image.annotate(m); err != nil {
		return nil, fmt.Errorf("config %s: %w", m.Config.Digest, err)
	}
	return image, nil
}

func sameBlob(a, b imgspecv1.Descriptor) bool { return a.Digest == b.Digest }

// annotate gives a synthesised manifest the annotations of another manifest of
// the same image.
func (i *Image) annotate(from *imgspecv1.Manifest) error {
	if len(from.Layers) != len(i.Layers) {
		return fmt.Errorf("%w: its description has %d layers, it has %d diff IDs", ErrInvalidImage, len(from.Layers), len(i.Layers))
	}
	m, err := parseManifest(i.Manifest)
	if err != nil {
		return err
	}
	m.Annotations = from.Annotations
	for n := range m.Layers {
		m.Layers[n].Annotations = blobannotations.Without(from.Layers[n].Annotations)
		i.Layers[n].Descriptor = m.Layers[n]
	}
	if i.Manifest, err = json.Marshal(m); err != nil {
		return err
	}
	i.ManifestDigest = digest.FromBytes(i.Manifest)
	return nil
}
