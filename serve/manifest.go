package serve

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/internal/blobannotations"
)

// Docker's media types of manifests of version 2, schema 2.
const (
	dockerManifest     = "application/vnd.docker.distribution.manifest.v2+json"
	dockerConfig       = "application/vnd.docker.container.image.v1+json"
	dockerLayer        = "application/vnd.docker.image.rootfs.diff.tar"
	dockerForeignLayer = "application/vnd.docker.image.rootfs.foreign.diff.tar"
)

// manifest is a manifest that is served.
type manifest struct {
	raw       []byte
	mediaType string
	digest    digest.Digest
}

func newManifest(raw []byte, mediaType string) manifest {
	return manifest{raw, mediaType, digest.FromBytes(raw)}
}

// manifestsOf returns the manifests of an image that name only blobs which the
// repository has: the stored one where it is such, else one like it that lists the
// tars; and for images of Docker's schema 2 one of OCI's, too. The same image gives
// the same bytes everywhere.
func manifestsOf(image *composefsrepo.Image) ([]manifest, error) {
	stored := manifest{image.Manifest, image.ManifestType, digest.FromBytes(image.Manifest)}
	isDocker := image.ManifestType == dockerManifest
	if !changes(image) && !isDocker {
		return []manifest{stored}, nil
	}
	oci, err := ociOf(image)
	if err != nil || !isDocker {
		return []manifest{oci}, err
	}
	docker := stored
	if changes(image) {
		docker, err = dockerOf(image)
	}
	return []manifest{docker, oci}, err
}

// changes tells whether the stored manifest names blobs that the repository has not.
func changes(image *composefsrepo.Image) bool {
	for _, l := range image.Layers {
		if l.Digest() != l.Descriptor.Digest {
			return true
		}
	}
	return false
}

// ociOf returns the OCI manifest that lists the image's layers as the repository has
// them. It is what a copy of the image to a place of OCI's has.
func ociOf(image *composefsrepo.Image) (manifest, error) {
	var m imgspecv1.Manifest
	if err := json.Unmarshal(image.Manifest, &m); err != nil {
		return manifest{}, fmt.Errorf("manifest %s: %w", image.ManifestDigest, err)
	}
	m.MediaType = imgspecv1.MediaTypeImageManifest
	if m.Config.MediaType == dockerConfig {
		m.Config.MediaType = imgspecv1.MediaTypeImageConfig
	}
	for i, l := range image.Layers {
		m.Layers[i] = ociLayer(l)
	}
	raw, err := json.Marshal(m)
	return newManifest(raw, m.MediaType), err
}

func ociLayer(l composefsrepo.Layer) imgspecv1.Descriptor {
	d := imgspecv1.Descriptor{
		MediaType: l.Descriptor.MediaType, Digest: l.Digest(), Size: l.Size,
		URLs: l.Descriptor.URLs, Annotations: l.Descriptor.Annotations,
	}
	if l.Digest() != l.Descriptor.Digest {
		d.URLs, d.Annotations = nil, blobannotations.Without(d.Annotations)
		d.MediaType = imgspecv1.MediaTypeImageLayer
		if base, _, ok := strings.Cut(l.Descriptor.MediaType, "+"); ok {
			d.MediaType = base // as in …tar+gzip
		}
	}
	if strings.HasPrefix(d.MediaType, "application/vnd.docker.") {
		d.MediaType = imgspecv1.MediaTypeImageLayer
	}
	return d
}

// dockerDescriptor and dockerImage have the fields in the order in which Docker
// writes them.
type dockerDescriptor struct {
	MediaType string        `json:"mediaType"`
	Size      int64         `json:"size"`
	Digest    digest.Digest `json:"digest"`
	URLs      []string      `json:"urls,omitempty"`
}

type dockerImage struct {
	SchemaVersion int                `json:"schemaVersion"`
	MediaType     string             `json:"mediaType"`
	Config        dockerDescriptor   `json:"config"`
	Layers        []dockerDescriptor `json:"layers"`
}

// dockerOf is ociOf for Docker's schema 2.
func dockerOf(image *composefsrepo.Image) (manifest, error) {
	var m dockerImage
	if err := json.Unmarshal(image.Manifest, &m); err != nil {
		return manifest{}, fmt.Errorf("manifest %s: %w", image.ManifestDigest, err)
	}
	for i, l := range image.Layers {
		d := dockerDescriptor{MediaType: l.Descriptor.MediaType, Size: l.Size, Digest: l.Digest(), URLs: l.Descriptor.URLs}
		if l.Digest() != l.Descriptor.Digest {
			d.URLs = nil
			if d.MediaType = dockerLayer; strings.Contains(l.Descriptor.MediaType, ".foreign.") {
				d.MediaType = dockerForeignLayer
			}
		}
		m.Layers[i] = d
	}
	raw, err := json.Marshal(m)
	return newManifest(raw, dockerManifest), err
}

// maxManifest bounds the manifests that are taken from elsewhere, in bytes.
const maxManifest = 4 << 20

// parseManifest parses a manifest from elsewhere.
func parseManifest(raw []byte) (*imgspecv1.Manifest, error) {
	if len(raw) > maxManifest {
		return nil, fmt.Errorf("the manifest has %d bytes, more than %d", len(raw), maxManifest)
	}
	var m imgspecv1.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, fmt.Errorf("parsing a manifest: %w", err)
	}
	for _, d := range append([]imgspecv1.Descriptor{m.Config}, m.Layers...) {
		if err := d.Digest.Validate(); err != nil {
			return nil, fmt.Errorf("digest %.200q in a manifest: %w", d.Digest, err)
		}
		if d.Size < 0 {
			return nil, fmt.Errorf("blob %s of size %d in a manifest", d.Digest, d.Size)
		}
	}
	return &m, nil
}
