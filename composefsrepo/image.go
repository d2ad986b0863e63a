package composefsrepo

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/splitstream"
)

// Image is an image, or an artifact, of a repository. When it was opened, its
// manifest and config were read and checked, and every layer's stream was
// found; the layers' contents are checked as they are read. It is not to be
// changed, may be used concurrently, and ends with its Repo.
type Image struct {
	repo *Repo

	// Manifest is the manifest as the importer was given it, ManifestType its
	// media type (application/vnd.oci.image.manifest.v1+json, or Docker's of
	// schema 2), ManifestDigest the SHA-256 of its bytes or whatever other
	// digest it was asked for by.
	Manifest       []byte
	ManifestType   string
	ManifestDigest digest.Digest
	// Synthesised: the repository has no manifest; this one was made from the
	// config, with the uncompressed layers.
	Synthesised bool

	// Config is the config, as it was pulled. For an image, the digest in its
	// descriptor is the image ID.
	Config           []byte
	ConfigDescriptor imgspecv1.Descriptor

	// Layers are as many, and in the same order, as the manifest's.
	Layers []Layer

	configRefs map[string]fsverity.Digest
}

// ImageByTag opens the image that a tag, as Tags lists it, stands for. The
// error wraps ErrNotFound where there is no such tag or what it stands for is
// gone; ErrIndex where it stands for a list of manifests; ErrBadLink, ErrDigestMismatch, ErrInvalidImage or ErrMissingObject
// where it can't be what was imported; or one of splitstream's.
func (r *Repo) ImageByTag(ctx context.Context, tag string) (*Image, error) {
	d, err := r.Resolve(tag)
	if err != nil {
		return nil, err
	}
	image, err := r.imageByManifest(ctx, d)
	if err != nil {
		return nil, fmt.Errorf("tag %q: %w", tag, err)
	}
	return image, nil
}

// ImageByDigest opens the image whose manifest, or else whose config, has the
// digest d. Of several manifests with one config, that with the least digest is
// taken, one stored under a digest that is not its own only where there is no
// other. Where there is none, the image gets one from its config. Errors are as
// with ImageByTag.
func (r *Repo) ImageByDigest(ctx context.Context, d digest.Digest) (*Image, error) {
	if err := d.Validate(); err != nil {
		return nil, fmt.Errorf("digest %.200q: %w", d, err)
	}
	image, err := r.imageByManifest(ctx, d)
	if errors.Is(err, errNoManifest) {
		image, err = r.imageByConfig(ctx, d)
	}
	return image, err
}

// errNoManifest is the ErrNotFound of a manifest, as opposed to those of what
// it refers to.
var errNoManifest = fmt.Errorf("%w", ErrNotFound)

// imageByManifest opens the image of the manifest that is stored under d and
// has that digest.
func (r *Repo) imageByManifest(ctx context.Context, d digest.Digest) (*Image, error) {
	fail := func(err error) (*Image, error) { return nil, fmt.Errorf("manifest %s: %w", d, err) }
	at, err := r.findStream(manifestPrefix + d.String())
	if errors.Is(err, ErrNotFound) {
		if _, err := r.findStream(indexPrefix + d.String()); err == nil {
			return fail(ErrIndex)
		}
		return fail(errNoManifest)
	}
	if err != nil {
		return fail(err)
	}
	stored, err := r.readDocument(ctx, at, splitstream.Manifest)
	if err != nil {
		return fail(err)
	}
	if err := checkDigest(d, stored.raw); err != nil {
		return fail(explainConverted(r.blame(ctx, at, err), stored.raw))
	}
	image, err := r.assemble(ctx, d, stored)
	if err != nil {
		return fail(err)
	}
	return image, nil
}

// checkDigest returns ErrDigestMismatch if raw does not have the digest d.
func checkDigest(d digest.Digest, raw []byte) error {
	if got := d.Algorithm().FromBytes(raw); got != d {
		return fmt.Errorf("%w: it hashes to %s", ErrDigestMismatch, got)
	}
	return nil
}

// explainConverted adds to the error of a manifest that does not have the
// digest under which it is stored how to get at its image all the same:
// importers have stored manifests that were converted on the way.
func explainConverted(err error, raw []byte) error {
	m, parseErr := parseManifest(raw)
	if parseErr != nil || !errors.Is(err, ErrDigestMismatch) {
		return err
	}
	return fmt.Errorf("%w; if an importer converted it, name the image as @%s", err, m.Config.Digest)
}

// imageByConfig opens the image whose config has the digest d, through a
// manifest of the repository if there is one.
func (r *Repo) imageByConfig(ctx context.Context, d digest.Digest) (*Image, error) {
	at, candidates, err := r.manifestsOfConfig(ctx, d)
	if err != nil {
		return nil, err
	}
	var firstErr error
	for _, c := range candidates {
		image, err := r.assemble(ctx, c.digest, c.document)
		if err == nil && image.ConfigDescriptor.Digest == d {
			return image, nil
		}
		if err != nil && firstErr == nil {
			firstErr = fmt.Errorf("manifest %s of config %s: %w", c.digest, d, err)
		}
	}
	if firstErr != nil {
		return nil, firstErr
	}
	if at.IsZero() {
		if at, err = r.findStream(configPrefix + d.String()); err != nil {
			if errors.Is(err, ErrNotFound) {
				err = ErrNotFound
			}
			return nil, fmt.Errorf("manifest or config %s: %w", d, err)
		}
	}
	image, err := r.assembleFromConfig(ctx, d, at)
	if err != nil {
		return nil, fmt.Errorf("config %s: %w", d, err)
	}
	return image, nil
}

// candidate is a manifest that may be an image's.
type candidate struct {
	digest digest.Digest // of its bytes
	*document
}

// manifestsOfConfig returns the manifests whose streams refer to the config d,
// those stored under their own digests first, and where the config is. What is
// wrong with a manifest of some other image is of no interest here.
func (r *Repo) manifestsOfConfig(ctx context.Context, d digest.Digest) (config fsverity.Digest, _ []candidate, _ error) {
	stored, err := r.digestsOf(manifestPrefix)
	if err != nil {
		return fsverity.Digest{}, nil, err
	}
	slices.Sort(stored)
	var proper, converted []candidate
	for _, name := range stored {
		if err := ctx.Err(); err != nil {
			return fsverity.Digest{}, nil, err
		}
		at, err := r.findStream(manifestPrefix + name.String())
		if err != nil {
			continue
		}
		m, err := r.readDocument(ctx, at, splitstream.Manifest)
		if err != nil {
			continue
		}
		ref, ok := m.refs[configRef(d)]
		if !ok {
			continue
		}
		config = ref
		if checkDigest(name, m.raw) == nil {
			proper = append(proper, candidate{name, m})
		} else {
			converted = append(converted, candidate{digest.FromBytes(m.raw), m})
		}
	}
	return config, append(proper, converted...), nil
}

// configRef is the name of a manifest's reference to its config.
func configRef(d digest.Digest) string { return "config:" + d.String() }

// assemble makes an image of a manifest.
func (r *Repo) assemble(ctx context.Context, d digest.Digest, stored *document) (*Image, error) {
	m, err := parseManifest(stored.raw)
	if err != nil {
		return nil, err
	}
	config, err := r.readConfig(ctx, m.Config.Digest, stored.refs[configRef(m.Config.Digest)])
	if err != nil {
		return nil, fmt.Errorf("config %s: %w", m.Config.Digest, err)
	}
	if int64(len(config.raw)) != m.Config.Size {
		return nil, fmt.Errorf("config %s: %w: %d bytes, the manifest has %d", m.Config.Digest, ErrInvalidImage, len(config.raw), m.Config.Size)
	}
	layers, err := r.layers(ctx, m, config, stored.refs)
	if err != nil {
		return nil, err
	}
	return &Image{
		repo:     r,
		Manifest: stored.raw, ManifestType: m.MediaType, ManifestDigest: d,
		Config: config.raw, ConfigDescriptor: m.Config, configRefs: config.refs,
		Layers: layers,
	}, nil
}

// assembleFromConfig makes an image of the config in the object at.
func (r *Repo) assembleFromConfig(ctx context.Context, d digest.Digest, at fsverity.Digest) (*Image, error) {
	config, err := r.readConfig(ctx, d, at)
	if err != nil {
		return nil, err
	}
	diffIDs, err := parseDiffIDs(config.raw)
	if err != nil {
		return nil, err
	}
	if len(diffIDs) == 0 {
		return nil, fmt.Errorf("%w: it names no layers, and the repository has no manifest for it", ErrInvalidImage)
	}
	var layers []Layer
	for _, diffID := range diffIDs {
		l, err := r.tarLayer(ctx, diffID, config.refs)
		if err != nil {
			return nil, fmt.Errorf("layer %s: %w", diffID, err)
		}
		layers = append(layers, l)
	}
	descriptor := imgspecv1.Descriptor{MediaType: imgspecv1.MediaTypeImageConfig, Digest: d, Size: int64(len(config.raw))}
	image := &Image{
		repo:   r,
		Config: config.raw, ConfigDescriptor: descriptor, configRefs: config.refs,
		Layers: layers,
	}
	return image, image.synthesise()
}

// synthesise gives the image a manifest made from its config. In it the tars
// themselves are the layers.
func (i *Image) synthesise() error {
	for n, l := range i.Layers {
		i.Layers[n].Descriptor = imgspecv1.Descriptor{MediaType: imgspecv1.MediaTypeImageLayer, Digest: l.DiffID, Size: l.Size}
	}
	raw, m, err := synthesiseManifest(i.ConfigDescriptor, i.Layers)
	if err != nil {
		return err
	}
	i.Manifest, i.ManifestType, i.ManifestDigest, i.Synthesised = raw, m.MediaType, digest.FromBytes(raw), true
	return nil
}

// readConfig reads a config and checks its digest. Where at is zero, no
// reference leads to it and its stream is looked up by name.
func (r *Repo) readConfig(ctx context.Context, d digest.Digest, at fsverity.Digest) (*document, error) {
	if at.IsZero() {
		var err error
		if at, err = r.findStream(configPrefix + d.String()); err != nil {
			return nil, err
		}
	}
	config, err := r.readDocument(ctx, at, splitstream.Config)
	if err != nil {
		return nil, err
	}
	if err := checkDigest(d, config.raw); err != nil {
		return nil, r.blame(ctx, at, err)
	}
	return config, nil
}

// Name returns the digest by which ImageByDigest finds the image: the
// manifest's, or the config's where the repository has no manifest under its own
// digest.
func (i *Image) Name() digest.Digest {
	if _, err := i.repo.findStream(manifestPrefix + i.ManifestDigest.String()); i.Synthesised || err != nil {
		return i.ConfigDescriptor.Digest
	}
	return i.ManifestDigest
}
