package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/skopeo-cfs/skopeo-cfs/bootc"
	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
)

// image is an image that is checked.
type image struct {
	names            []string
	manifest, config digest.Digest // "" where there is none
	streams          []*stream     // that it is made of
	erofs            []fsverity.Digest
	damaged          bool
	// skipped: why it can't be opened was noted, and is no damage.
	skipped bool
}

// part is what an object is all of, or the stream of.
type part struct {
	kind, name string // as in a Place
	images     []*image
}

// The kinds of parts.
const (
	partManifest = "manifest"
	partConfig   = "config"
	partLayer    = "layer"
	partBlob     = "blob"
	partEROFS    = "EROFS image"
	partStream   = "stream"
	partImage    = "image"
)

// addPart notes what part of an image an object is.
func (c *checker) addPart(object fsverity.Digest, kind, name string, im *image) {
	all := c.parts[object]
	i := slices.IndexFunc(all, func(p part) bool { return p.kind == kind && p.name == name })
	if i < 0 {
		i = len(all)
		all = append(all, part{kind: kind, name: name})
	}
	if !slices.Contains(all[i].images, im) {
		all[i].images = append(all[i].images, im)
	}
	c.parts[object] = all
}

// findImages finds the images that are to be checked.
func (c *checker) findImages(ctx context.Context) error {
	if !c.whole() {
		for _, w := range c.Images {
			if err := c.findWanted(ctx, w); err != nil {
				return err
			}
		}
		return nil
	}
	for name := range c.links.streams {
		if d, ok := parseName(name, manifestPrefix); ok {
			c.images = append(c.images, &image{names: slices.Clone(c.links.tags[name]), manifest: d})
		}
	}
	slices.SortFunc(c.images, func(a, b *image) int { return strings.Compare(a.manifest.String(), b.manifest.String()) })
	return c.findDeployments(ctx)
}

// parseName returns the digest in the name of a stream.
func parseName(name, prefix string) (digest.Digest, bool) {
	text, ok := strings.CutPrefix(name, prefix)
	if !ok {
		return "", false
	}
	d, err := digest.Parse(text)
	return d, err == nil
}

// findWanted finds an image that was asked for.
func (c *checker) findWanted(ctx context.Context, w Wanted) error {
	if err := w.Digest.Validate(); err != nil {
		return fmt.Errorf("image %q: digest %.200q: %w", w.Name, w.Digest, err)
	}
	im := &image{}
	if _, ok := c.links.streams[manifestPrefix+w.Digest.String()]; ok {
		im.manifest = w.Digest
	} else if d, err := c.manifestOf(ctx, w.Digest); err != nil {
		return err
	} else if d != "" {
		im.manifest = d
	} else if _, ok := c.links.streams[configPrefix+w.Digest.String()]; ok {
		im.config = w.Digest
	} else {
		return c.missing(w)
	}
	same := func(other *image) bool { return other.manifest == im.manifest && other.config == im.config }
	if i := slices.IndexFunc(c.images, same); i >= 0 {
		im = c.images[i]
	} else {
		c.images = append(c.images, im)
	}
	im.addName(w.Name)
	return nil
}

func (im *image) addName(name string) {
	if !slices.Contains(im.names, name) {
		im.names = append(im.names, name)
	}
}

// missing notes that tags lead to an image that is not there, and returns an error
// where none do.
func (c *checker) missing(w Wanted) error {
	dangling := false
	for _, r := range c.links.refs {
		if r.tag != "" && r.target == composefsrepo.StreamDir+"/"+manifestPrefix+w.Digest.String() {
			im := &image{names: []string{w.Name}}
			c.images = append(c.images, im)
			c.found(Damage{Kind: Tag, Path: r.path, Detail: fmt.Sprintf("it leads to %q, which is not there", r.target)}, im)
			dangling = true
		}
	}
	if !dangling {
		return fmt.Errorf("image %q: manifest or config %s: %w", w.Name, w.Digest, composefsrepo.ErrNotFound)
	}
	return nil
}

// manifestOf returns the least manifest whose stream refers to a config, "" if there is
// none.
func (c *checker) manifestOf(ctx context.Context, config digest.Digest) (digest.Digest, error) {
	var least digest.Digest
	for name, l := range c.links.streams {
		d, ok := parseName(name, manifestPrefix)
		if !ok || l.err != nil || least != "" && d > least {
			continue
		}
		file, r, err := c.openReader(l.object)
		if err != nil {
			continue // it is some other image's
		}
		refs, err := r.NamedRefs()
		file.Close()
		if _, ok := refs[configRef+config.String()]; ok && err == nil {
			least = d
		}
		if err := ctx.Err(); err != nil {
			return "", err
		}
	}
	return least, nil
}

// configRef begins the name of a manifest's reference to its config, erofsRef those of
// a config's to EROFS images.
const (
	configRef = "config:"
	erofsRef  = "composefs.image"
)

// findDeployments adds the names of the host's deployments, and checks that each has
// its EROFS image.
func (c *checker) findDeployments(ctx context.Context) error {
	if c.Host == nil {
		return nil
	}
	for i := range c.Host.Deployments {
		d := &c.Host.Deployments[i]
		name := fmt.Sprintf("@%.12s (%s)", d.ID, d.State)
		im, err := c.imageOfDeployment(ctx, d)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, bootc.ErrImageGone):
			c.note("The image of deployment %s is no longer in the repository: garbage collection has taken it. The deployment itself needs it not.", name)
		case err != nil:
			c.note("Which image deployment %s was made of can't be told: %v", name, err)
		}
		if im == nil {
			im = &image{}
			c.images = append(c.images, im)
		}
		im.addName(name)
		if _, ok := c.links.images[d.ID]; !ok {
			c.linkDamage(composefsrepo.ImageDir+"/"+d.ID, "it is not there, and the deployment can't boot without", im)
			continue
		}
		e := c.addEROFS(d.Verity())
		e.addImage(im)
	}
	return nil
}

// imageOfDeployment returns the image that a deployment was made of. One whose
// manifest is damaged can be told by the origin alone.
func (c *checker) imageOfDeployment(ctx context.Context, d *bootc.Deployment) (*image, error) {
	if im := c.imageWith(d.ManifestDigest); im != nil {
		return im, nil
	}
	opened, err := c.Host.OpenImage(ctx, c.repo, d)
	if err != nil {
		return nil, err
	}
	if im := c.imageWith(opened.Name()); im != nil {
		return im, nil
	}
	im := &image{config: opened.ConfigDescriptor.Digest}
	c.images = append(c.images, im)
	return im, nil
}

// imageWith returns the image whose manifest or config has a digest, or nil.
func (c *checker) imageWith(d digest.Digest) *image {
	for _, im := range c.images {
		if d != "" && (im.manifest == d || im.manifest == "" && im.config == d) {
			return im
		}
	}
	return nil
}

// imagesNamed returns the images that have a tag; one without anything else where
// none do.
func (c *checker) imagesNamed(tag string) (found []*image) {
	if tag == "" {
		return nil
	}
	for _, im := range c.images {
		if slices.Contains(im.names, tag) {
			found = append(found, im)
		}
	}
	if found == nil {
		found = []*image{{names: []string{tag}}}
		c.images = append(c.images, found...)
	}
	return found
}

// judgeImages looks at images of which nothing was found damaged as those who copy them
// would, and marks those that are made of something damaged.
func (c *checker) judgeImages(ctx context.Context) error {
	for _, im := range c.images {
		for _, s := range im.streams {
			im.damaged = im.damaged || !s.readable || c.touched(s)
		}
		for _, d := range im.erofs {
			im.damaged = im.damaged || c.erofs[d].damaged || c.set.is(d, damaged)
		}
		name := im.manifest
		if name == "" {
			name = im.config
		}
		if im.damaged || im.skipped || name == "" {
			continue
		}
		if _, err := c.repo.ImageByDigest(ctx, name); ctx.Err() != nil {
			return ctx.Err()
		} else if errors.Is(err, composefsrepo.ErrIndex) {
			c.note("%s is an index of images, which is not checked as one: name its manifests by digest.", quote(im.names))
		} else if err != nil {
			prefix := manifestPrefix
			if im.manifest == "" {
				prefix = configPrefix
			}
			c.found(Damage{Kind: ImageInvalid, Path: streamPath(prefix, name), Digest: name, Detail: err.Error()}, im)
		}
	}
	return ctx.Err()
}

// quote lists names for people.
func quote(names []string) string {
	if len(names) == 0 {
		return "An image without a name"
	}
	return fmt.Sprintf("%q", names[0])
}

// streamPath returns the path of the link to an image's stream.
func streamPath(prefix string, d digest.Digest) string {
	return composefsrepo.StreamDir + "/" + prefix + d.String()
}
