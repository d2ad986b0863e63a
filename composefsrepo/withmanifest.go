package composefsrepo

import (
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
)

// ErrOtherImage: a manifest is not one of the image.
var ErrOtherImage = errors.New("it belongs to another image")

// WithManifest returns the image with another manifest of it: one with the same
// config, and as many layers. What the layers' blobs are is taken from that
// manifest. It is not looked for in the repository, and keeps raw. The error wraps
// ErrOtherImage, ErrInvalidImage or ErrIndex.
func (i *Image) WithManifest(raw []byte) (*Image, error) {
	m, err := parseManifest(raw)
	if err != nil {
		return nil, err
	}
	if m.Config.Digest != i.ConfigDescriptor.Digest {
		return nil, fmt.Errorf("%w: its config is %s, not %s", ErrOtherImage, m.Config.Digest, i.ConfigDescriptor.Digest)
	}
	if m.Config.Size != int64(len(i.Config)) {
		return nil, fmt.Errorf("%w: its config has %d bytes, the manifest says %d", ErrInvalidImage, len(i.Config), m.Config.Size)
	}
	if len(m.Layers) != len(i.Layers) {
		return nil, fmt.Errorf("%w: it has %d layers, not %d", ErrOtherImage, len(m.Layers), len(i.Layers))
	}
	other := *i
	other.Manifest, other.ManifestType, other.ManifestDigest, other.Synthesised = raw, m.MediaType, digest.FromBytes(raw), false
	other.ConfigDescriptor = m.Config
	other.Layers = make([]Layer, len(i.Layers))
	diffIDs := make([]digest.Digest, len(i.Layers))
	for n, l := range i.Layers {
		if l.DiffID == "" && l.Descriptor.Digest != m.Layers[n].Digest {
			return nil, fmt.Errorf("%w: blob %d is %s, not %s", ErrOtherImage, n+1, m.Layers[n].Digest, l.Descriptor.Digest)
		}
		l.Descriptor = m.Layers[n]
		other.Layers[n], diffIDs[n] = l, l.DiffID
	}
	if err := checkBlobs(m.Layers, diffIDs); err != nil {
		return nil, err
	}
	return &other, nil
}
