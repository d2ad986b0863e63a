package composefsrepo

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/splitstream"
)

// erofsRef begins the names of a config's references to the EROFS images that
// were made of its image.
const erofsRef = "composefs.image"

// NamedImage is an image by its config, and by a manifest of that config and a
// tag which stands for that, where there are such.
type NamedImage struct {
	Tag              string
	Manifest, Config digest.Digest // Manifest as it is stored, see ConfigOf
}

// ImagesOfEROFS returns the images that the EROFS image d was made of, as their
// configs refer to it: by every tag, sorted, then by the manifests that no tag
// leads to, then by the configs that no manifest leads to. Images that differ in
// nothing but their configs may have it in common. What is wrong with other
// images is of no interest here.
func (r *Repo) ImagesOfEROFS(ctx context.Context, d fsverity.Digest) ([]NamedImage, error) {
	configs, err := r.configsOfEROFS(ctx, d)
	if err != nil {
		return nil, err
	}
	manifests, err := r.digestsOf(manifestPrefix)
	if err != nil {
		return nil, err
	}
	slices.Sort(manifests)
	byManifest := map[digest.Digest]digest.Digest{}
	for _, m := range manifests {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		stored, config, err := r.storedManifest(ctx, m)
		if err != nil {
			continue
		}
		// The reference is the trusted way to the config, its name another.
		read, err := r.readConfig(ctx, config, stored.refs[configRef(config)])
		if slices.Contains(configs, config) || err == nil && refersToEROFS(read.refs, d) {
			byManifest[m] = config
		}
	}
	tags, err := r.Tags()
	if err != nil {
		return nil, err
	}
	var images []NamedImage
	tagged := map[digest.Digest]bool{}
	for _, tag := range tags {
		m, err := r.Resolve(tag)
		if config, ok := byManifest[m]; ok && err == nil {
			images = append(images, NamedImage{tag, m, config})
			tagged[m] = true
		}
	}
	for _, m := range manifests {
		if config, ok := byManifest[m]; ok && !tagged[m] {
			images = append(images, NamedImage{"", m, config})
		}
	}
	for _, config := range configs {
		if !slices.ContainsFunc(images, func(n NamedImage) bool { return n.Config == config }) {
			images = append(images, NamedImage{Config: config})
		}
	}
	return images, nil
}

// EROFS returns the EROFS images that were made of the image, as its config's stream
// refers to them: by the names of the references ("composefs.image" and others that
// begin so), the fs-verity digests. A deployment has such a digest as its ID.
// Configs that older importers have stored lack them.
func (i *Image) EROFS() map[string]fsverity.Digest {
	images := map[string]fsverity.Digest{}
	for name, ref := range i.configRefs {
		if strings.HasPrefix(name, erofsRef) {
			images[name] = ref
		}
	}
	return images
}

// configsOfEROFS returns the configs that refer to the EROFS image d, sorted.
func (r *Repo) configsOfEROFS(ctx context.Context, d fsverity.Digest) ([]digest.Digest, error) {
	all, err := r.digestsOf(configPrefix)
	if err != nil {
		return nil, err
	}
	var configs []digest.Digest
	for _, config := range all {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		stored, err := r.readConfig(ctx, config, fsverity.Digest{})
		if err == nil && refersToEROFS(stored.refs, d) {
			configs = append(configs, config)
		}
	}
	slices.Sort(configs)
	return configs, nil
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
