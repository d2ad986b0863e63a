package bootc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
)

// TagOf returns the tag that bootc gives in the host's repository to the image
// with a manifest of digest d.
func TagOf(d digest.Digest) string { return tagPrefix + d.String() }

const tagPrefix = "localhost/bootc-"

// OpenImage opens the image that a deployment was made of, in the host's
// repository. It is found by the manifest's digest in the origin; else by the
// configs that refer to the deployment's EROFS image, of those with a manifest
// only where the origin names none; else by the description in an .imginfo file,
// which makes up for a manifest that is gone. The error wraps ErrImageGone where all of that leads to nothing,
// ErrAmbiguous where it leads to several images, or is one of ImageByDigest's.
func (h *Host) OpenImage(ctx context.Context, repo *composefsrepo.Repo, d *Deployment) (*composefsrepo.Image, error) {
	image, err := h.openImage(ctx, repo, d)
	if err != nil {
		return nil, fmt.Errorf("image of deployment %.*s: %w", shortID, d.ID, err)
	}
	return image, nil
}

func (h *Host) openImage(ctx context.Context, repo *composefsrepo.Repo, d *Deployment) (*composefsrepo.Image, error) {
	image, missing := openByManifest(ctx, repo, d.ManifestDigest)
	if missing == nil || !errors.Is(missing, composefsrepo.ErrNotFound) && !errors.Is(missing, composefsrepo.ErrIndex) {
		return image, missing
	}
	description, err := h.ImageInfo(d)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		missing = err // it may be all that there was
	}
	named, err := repo.ImagesOfEROFS(ctx, d.Verity())
	if err != nil {
		return nil, err
	}
	if d.ManifestDigest != "" {
		// An image with another manifest is another image.
		named = keep(named, func(n composefsrepo.NamedImage) bool { return n.Manifest == "" })
	}
	config := configOf(description)
	if same := keep(named, func(n composefsrepo.NamedImage) bool { return n.Config == config }); len(same) > 0 {
		named = same
	}
	tagged := keep(named, func(n composefsrepo.NamedImage) bool { return n.Tag != "" })
	// Where the description has the same config, it also tells which of the
	// manifests is meant.
	if len(tagged) > 0 && tagged[0].Config != config {
		return openTagged(ctx, repo, tagged)
	}
	if description != nil {
		image, err := repo.ImageByDescription(ctx, description)
		if err == nil || !errors.Is(err, composefsrepo.ErrNotFound) {
			return image, err
		}
		missing = err
	}
	switch {
	case len(named) == 0:
		return nil, fmt.Errorf("%w: %w", ErrImageGone, errors.Join(missing, d.Err))
	case slices.ContainsFunc(named, func(n composefsrepo.NamedImage) bool { return n.Config != named[0].Config }):
		return nil, ambiguous(named)
	default:
		return repo.ImageByDigest(ctx, named[0].Config)
	}
}

// openByManifest opens the image with a manifest of digest d, also where the
// importer has stored the manifest converted.
func openByManifest(ctx context.Context, repo *composefsrepo.Repo, d digest.Digest) (*composefsrepo.Image, error) {
	if d == "" {
		return nil, fmt.Errorf("the origin names no manifest: %w", composefsrepo.ErrNotFound)
	}
	image, err := repo.ImageByDigest(ctx, d)
	if !errors.Is(err, composefsrepo.ErrDigestMismatch) {
		return image, err
	}
	config, configErr := repo.ConfigOf(ctx, d)
	if configErr != nil {
		return nil, err
	}
	if image, configErr = repo.ImageByDigest(ctx, config); configErr != nil {
		return nil, err
	}
	return image, nil
}

// configOf returns the digest of the config in a description, "" where it has
// none.
func configOf(description []byte) digest.Digest {
	var m struct {
		Config struct {
			Digest digest.Digest `json:"digest"`
		} `json:"config"`
	}
	if err := json.Unmarshal(description, &m); err != nil {
		return ""
	}
	return m.Config.Digest
}

// keep returns those of the images that f is true of.
func keep(images []composefsrepo.NamedImage, f func(composefsrepo.NamedImage) bool) []composefsrepo.NamedImage {
	return slices.DeleteFunc(slices.Clone(images), func(n composefsrepo.NamedImage) bool { return !f(n) })
}

// openTagged opens the one image that all the tags stand for, or else all those
// of bootc's.
func openTagged(ctx context.Context, repo *composefsrepo.Repo, images []composefsrepo.NamedImage) (*composefsrepo.Image, error) {
	if bootcs := keep(images, func(n composefsrepo.NamedImage) bool { return strings.HasPrefix(n.Tag, tagPrefix) }); len(bootcs) > 0 {
		images = bootcs
	}
	if slices.ContainsFunc(images, func(n composefsrepo.NamedImage) bool { return n.Manifest != images[0].Manifest }) {
		return nil, ambiguous(images)
	}
	return openByManifest(ctx, repo, images[0].Manifest)
}

// ambiguous returns the error of several images.
func ambiguous(images []composefsrepo.NamedImage) error {
	var names []string
	for _, n := range images {
		name := "@" + n.Config.String()
		if n.Tag != "" {
			name = fmt.Sprintf("%q", n.Tag)
		}
		names = append(names, name)
	}
	return fmt.Errorf("%w: its image may be any of %s", ErrAmbiguous, strings.Join(names, ", "))
}
