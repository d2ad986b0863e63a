package identity

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/opencontainers/go-digest"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/internal/beneath"
)

// Accept returns the image with raw as its manifest, if that is a manifest of the
// image: its config is the image's, it has as many layers, they are of types that a
// registry has, and what it says of their content is so. Where want is not "", raw
// must have that digest. The error wraps one of ErrDigest, ErrInvalid,
// ErrOtherConfig, ErrLayers, ErrDiffID and ErrTooLarge.
func Accept(image *composefsrepo.Image, raw []byte, want digest.Digest) (*composefsrepo.Image, error) {
	if len(raw) > MaxManifest {
		return nil, ErrTooLarge
	}
	if err := checkDigest(raw, want); err != nil {
		return nil, err
	}
	var m struct {
		Config imgspecv1.Descriptor   `json:"config"`
		Layers []imgspecv1.Descriptor `json:"layers"`
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, fmt.Errorf("%w: %.200q", ErrInvalid, err.Error())
	}
	switch {
	case m.Config.Digest == "":
		return nil, fmt.Errorf("%w: it names no config", ErrInvalid)
	case m.Config.Digest != image.ConfigDescriptor.Digest:
		return nil, fmt.Errorf("%w: %.100q", ErrOtherConfig, m.Config.Digest)
	case len(m.Layers) != len(image.Layers):
		return nil, fmt.Errorf("%w: %d instead of %d", ErrLayers, len(m.Layers), len(image.Layers))
	}
	if !configTypes[m.Config.MediaType] {
		return nil, fmt.Errorf("%w: config of type %.100q", ErrInvalid, m.Config.MediaType)
	}
	accepted, err := image.WithManifest(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	for i, l := range accepted.Layers {
		if err := checkLayer(l); err != nil {
			return nil, fmt.Errorf("layer %d of %d: %w", i+1, len(accepted.Layers), err)
		}
	}
	return accepted, nil
}

// checkDigest returns ErrDigest if raw does not have the digest, which may be "".
func checkDigest(raw []byte, want digest.Digest) error {
	if want == "" {
		return nil
	}
	if err := want.Validate(); err != nil {
		return fmt.Errorf("%w: %.100q: %w", ErrDigest, want, err)
	}
	if got := want.Algorithm().FromBytes(raw); got != want {
		return fmt.Errorf("%w: it hashes to %s instead of %s", ErrDigest, got, want)
	}
	return nil
}

const (
	dockerConfig   = "application/vnd.docker.container.image.v1+json"
	dockerLayer    = "application/vnd.docker.image.rootfs.diff.tar"
	dockerForeign  = "application/vnd.docker.image.rootfs.foreign.diff.tar"
	ociLayer       = imgspecv1.MediaTypeImageLayer
	ociNonportable = "application/vnd.oci.image.layer.nondistributable.v1.tar"
)

// configTypes are the types of images' configs.
var configTypes = map[string]bool{imgspecv1.MediaTypeImageConfig: true, dockerConfig: true}

// layerTypes are the types of layers, with whether they are compressed.
var layerTypes = map[string]bool{
	ociLayer: false, ociLayer + "+gzip": true, ociLayer + "+zstd": true,
	ociNonportable: false, ociNonportable + "+gzip": true, ociNonportable + "+zstd": true,
	dockerLayer: false, dockerLayer + ".gzip": true, dockerLayer + ".zstd": true,
	dockerForeign: false, dockerForeign + ".gzip": true,
}

// diffIDAnnotations are those by which tools say what a layer decompresses to.
var diffIDAnnotations = []string{"containerd.io/uncompressed", "io.containers.image.uncompressed-digest"}

// checkLayer returns an error if what a manifest says of a layer is not so.
func checkLayer(l composefsrepo.Layer) error {
	compressed, ok := layerTypes[l.Descriptor.MediaType]
	if !ok {
		return fmt.Errorf("%w: type %.100q", ErrInvalid, l.Descriptor.MediaType)
	}
	if !compressed && l.Descriptor.Digest != l.Digest() {
		return fmt.Errorf("%w: the uncompressed layer is %s instead of %s", ErrDiffID, l.Descriptor.Digest, l.Digest())
	}
	for _, key := range diffIDAnnotations {
		if claim, ok := l.Descriptor.Annotations[key]; ok && claim != l.Digest().String() {
			return fmt.Errorf("%w: annotation %s says %.100q instead of %s", ErrDiffID, key, claim, l.Digest())
		}
	}
	return nil
}

// compresses tells whether the image's manifest lists a layer compressed, as
// registries have them.
func compresses(image *composefsrepo.Image) bool {
	for _, l := range image.Layers {
		if l.Digest() != l.Descriptor.Digest {
			return true
		}
	}
	return false
}

// index is what is read of an index.
type index struct {
	Manifests []imgspecv1.Descriptor `json:"manifests"`
}

// errNoIndex: it is no index.
var errNoIndex = errors.New("not an index")

// parseIndex decodes an index, of OCI or Docker.
func parseIndex(raw []byte) (*index, error) {
	var i struct {
		index
		Config json.RawMessage `json:"config"`
		Layers json.RawMessage `json:"layers"`
	}
	if err := json.Unmarshal(raw, &i); err != nil {
		return nil, fmt.Errorf("%w: %.200q", ErrInvalid, err.Error())
	}
	if i.Manifests == nil {
		return nil, errNoIndex
	}
	if i.Config != nil || i.Layers != nil { // it can be read as either
		return nil, fmt.Errorf("%w: it is both an index and a manifest", ErrInvalid)
	}
	return &i.index, nil
}

// lists tells whether an index lists the manifest with a digest.
func lists(raw []byte, d digest.Digest) bool {
	i, err := parseIndex(raw)
	if err != nil {
		return false
	}
	for _, m := range i.Manifests {
		if m.Digest == d {
			return true
		}
	}
	return false
}

// readBounded returns the content of a regular file below dir, ErrTooLarge if there
// is more of it than limit bytes.
func readBounded(dir *os.File, path string, limit int64) ([]byte, error) {
	f, info, err := beneath.OpenRegular(dir, path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info.Size() > limit {
		return nil, fmt.Errorf("%w: %d bytes", ErrTooLarge, info.Size())
	}
	return beneath.ReadAll(f, limit)
}
