package composefsrepo

import (
	"context"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/splitstream"
)

// erofsRef begins the names of a config's references to the EROFS images that
// were made of its image.
const erofsRef = "composefs.image"

// NamedImage is an image by its config, and where there is one by a tag, which
// stands for a manifest of that config.
type NamedImage struct {
	Tag              string // "" for a config that no tag leads to
	Manifest, Config digest.Digest
}

// ImagesOfEROFS returns the images that the EROFS image d was made of, as their
// configs refer to it: by every tag, sorted, then those that no tag leads to.
// Images that differ in nothing but their configs may have it in common. What
// is wrong with other images is of no interest here.
func (r *Repo) ImagesOfEROFS(ctx context.Context, d fsverity.Digest) ([]NamedImage, error) {
	tags, err := r.Tags()
	if err != nil {
		return nil, err
	}
	var images []NamedImage
	tagged := map[digest.Digest]bool{}
	for _, tag := range tags {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		name, err := r.Resolve(tag)
		if err != nil {
			continue
		}
		config, refs, err := r.configOf(ctx, name)
		if err == nil && refersToEROFS(refs, d) {
			images = append(images, NamedImage{tag, name, config})
			tagged[config] = true
		}
	}
	configs, err := r.digestsOf(configPrefix)
	if err != nil {
		return nil, err
	}
	for _, config := range configs {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		stored, err := r.readConfig(ctx, config, fsverity.Digest{})
		if err == nil && !tagged[config] && refersToEROFS(stored.refs, d) {
			images = append(images, NamedImage{Config: config})
		}
	}
	return images, nil
}

// refersToEROFS tells whether one of a config's references is to the EROFS image
// d.
func refersToEROFS(refs map[string]fsverity.Digest, d fsverity.Digest) bool {
	for name, ref := range refs {
		if strings.HasPrefix(name, erofsRef) && ref == d {
			return true
		}
	}
	return false
}

// configOf returns the config of the manifest that is stored under d, and what
// that config refers to.
func (r *Repo) configOf(ctx context.Context, d digest.Digest) (digest.Digest, map[string]fsverity.Digest, error) {
	stored, config, err := r.storedManifest(ctx, d)
	if err != nil {
		return "", nil, err
	}
	read, err := r.readConfig(ctx, config, stored.refs[configRef(config)])
	if err != nil {
		return "", nil, err
	}
	return config, read.refs, nil
}

// storedManifest reads the manifest that is stored under d, whatever its own
// digest, and returns it with that of its config.
func (r *Repo) storedManifest(ctx context.Context, d digest.Digest) (*document, digest.Digest, error) {
	at, err := r.findStream(manifestPrefix + d.String())
	if err != nil {
		return nil, "", err
	}
	stored, err := r.readDocument(ctx, at, splitstream.Manifest)
	if err != nil {
		return nil, "", err
	}
	m, err := parseManifest(stored.raw)
	if err != nil {
		return nil, "", err
	}
	return stored, m.Config.Digest, nil
}

// ConfigOf returns the digest of the config of the manifest that is stored
// under d, which importers have done with manifests that were converted on the
// way and have another digest: an image that ImageByDigest refuses for that
// (ErrDigestMismatch) can be had by its config.
func (r *Repo) ConfigOf(ctx context.Context, d digest.Digest) (digest.Digest, error) {
	_, config, err := r.storedManifest(ctx, d)
	if err != nil {
		return "", fmt.Errorf("manifest %s: %w", d, err)
	}
	return config, nil
}
