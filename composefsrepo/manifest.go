package composefsrepo

import (
	"encoding/json"
	"fmt"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// The media types of Docker's image manifest version 2, schema 2, and of its
// config.
const (
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerConfig   = "application/vnd.docker.container.image.v1+json"
)

// parseManifest decodes a manifest, of OCI or Docker schema 2, and returns it
// with its media type filled in.
func parseManifest(raw []byte) (*imgspecv1.Manifest, error) {
	var m struct {
		imgspecv1.Manifest
		Manifests json.RawMessage `json:"manifests"`
		FSLayers  json.RawMessage `json:"fsLayers"`
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidImage, err)
	}
	switch {
	// A document that can be read as either is refused, whatever it says that
	// it is (see CVE-2021-41190).
	case m.Manifests != nil, m.MediaType == imgspecv1.MediaTypeImageIndex:
		return nil, fmt.Errorf("%w: %w", ErrInvalidImage, ErrIndex)
	case m.FSLayers != nil, m.SchemaVersion != 2:
		return nil, fmt.Errorf("%w: schema version %d, only 2 is supported", ErrInvalidImage, m.SchemaVersion)
	case m.MediaType == "" && m.Config.MediaType == dockerConfig:
		m.MediaType = dockerManifest
	case m.MediaType == "":
		m.MediaType = imgspecv1.MediaTypeImageManifest
	case m.MediaType != imgspecv1.MediaTypeImageManifest && m.MediaType != dockerManifest:
		return nil, fmt.Errorf("%w: media type %.100q", ErrInvalidImage, m.MediaType)
	}
	for _, d := range append([]imgspecv1.Descriptor{m.Config}, m.Layers...) {
		if err := d.Digest.Validate(); err != nil {
			return nil, fmt.Errorf("%w: digest %.200q: %w", ErrInvalidImage, d.Digest, err)
		}
		if d.Size < 0 {
			return nil, fmt.Errorf("%w: blob %s of size %d", ErrInvalidImage, d.Digest, d.Size)
		}
	}
	return &m.Manifest, nil
}

// parseDiffIDs returns the diff IDs of an image's config.
func parseDiffIDs(raw []byte) ([]digest.Digest, error) {
	var config struct {
		RootFS imgspecv1.RootFS `json:"rootfs"`
	}
	if err := json.Unmarshal(raw, &config); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidImage, err)
	}
	for _, d := range config.RootFS.DiffIDs {
		if err := d.Validate(); err != nil {
			return nil, fmt.Errorf("%w: diff ID %.200q: %w", ErrInvalidImage, d, err)
		}
	}
	return config.RootFS.DiffIDs, nil
}

// IsImageConfig tells whether a config of this media type is that of an image, whose
// layers are tars; any other is an artifact's.
func IsImageConfig(configType string) bool {
	return configType == imgspecv1.MediaTypeImageConfig || configType == dockerConfig
}

// synthesiseManifest returns a manifest for a config: the tars themselves are
// its layers. The same config always gives the same bytes.
func synthesiseManifest(config imgspecv1.Descriptor, layers []Layer) ([]byte, *imgspecv1.Manifest, error) {
	m := &imgspecv1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: imgspecv1.MediaTypeImageManifest,
		Config:    config,
		Layers:    []imgspecv1.Descriptor{},
	}
	for _, l := range layers {
		m.Layers = append(m.Layers, l.Descriptor)
	}
	raw, err := json.Marshal(m)
	return raw, m, err
}
