package main

import (
	"context"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/skopeo-cfs/skopeo-cfs/bootc"
	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/internal/defaultrepo"
	"github.com/skopeo-cfs/skopeo-cfs/internal/fullname"
	"github.com/skopeo-cfs/skopeo-cfs/internal/hosts"
	composefs "github.com/skopeo-cfs/skopeo-cfs/reference"
	"github.com/skopeo-cfs/skopeo-cfs/transport"
)

// syncSource is a repository, and which of its tags are meant.
type syncSource struct {
	repository string // its path
	pattern    string // "" for all
}

// parseSyncSource returns what a source with its transport is.
func parseSyncSource(text string) (s syncSource, err error) {
	rest, ok := strings.CutPrefix(text, "composefs:")
	if !ok {
		return s, fmt.Errorf("source %.300q: must be composefs: or composefs:[REPOSITORY], and may have a pattern of tags behind it", text)
	}
	if inner, ok := strings.CutPrefix(rest, "["); ok {
		if s.repository, s.pattern, ok = strings.Cut(inner, "]"); !ok || s.repository == "" {
			return s, fmt.Errorf("source %.300q: the repository's path must be in brackets", text)
		}
	} else {
		s.pattern = rest
		if s.repository, err = defaultrepo.Path(); err != nil {
			return s, err
		}
	}
	if _, err := composefs.WithTag(s.repository, "x"); err != nil {
		return s, err
	}
	if strings.HasPrefix(s.pattern, "@") {
		return s, fmt.Errorf("source %.300q: a pattern is of tags; copy copies the one image of a digest or a deployment", text)
	}
	if _, err := matchTags(s.pattern); err != nil {
		return s, fmt.Errorf("source %.300q: %w", text, err)
	}
	return s, nil
}

// matches returns those of the tags that are meant: which match with or without the
// version or, without a wildcard, the one that copy would take.
func (s syncSource) matches(tags []string) ([]string, error) {
	if s.pattern == "" {
		return tags, nil
	}
	match, err := matchTags(s.pattern)
	if err != nil {
		return nil, err
	}
	matching := slices.DeleteFunc(slices.Clone(tags), func(tag string) bool { return !match(tag) && !match(withoutVersion(tag)) })
	if len(matching) > 0 || strings.ContainsAny(s.pattern, `*?[\`) {
		return matching, nil
	}
	tag, err := composefs.Find(s.pattern, tags)
	if err != nil {
		return nil, err
	}
	return []string{tag}, nil
}

// withoutVersion returns a tag without what stands behind the colon of its last part.
func withoutVersion(tag string) string {
	dir, last := path.Split(tag)
	name, _, _ := strings.Cut(last, ":")
	return dir + name
}

// find returns the images that are to be copied, with their full names.
func (o *syncOptions) find(ctx context.Context, s syncSource) ([]*synced, error) {
	repo, err := composefsrepo.Open(ctx, s.repository, nil)
	if err != nil {
		return nil, err
	}
	defer repo.Close()
	tags, err := repo.Tags()
	if err != nil {
		return nil, err
	}
	matching, err := s.matches(tags)
	if err != nil && !(o.allDeployments && errors.Is(err, composefs.ErrUnknownTag)) {
		return nil, fmt.Errorf("%s: %w", s.repository, err)
	}
	finder := &syncFinder{repo: repo, path: s.repository}
	if o.allDeployments {
		if err := finder.open(ctx, o.root); err != nil {
			return nil, err
		}
	}
	for _, tag := range matching {
		finder.addTag(ctx, tag)
	}
	for _, d := range finder.deployments {
		finder.addDeployment(d)
	}
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case len(finder.images) > 0:
		return finder.images, nil
	case s.pattern == "":
		return nil, fmt.Errorf("%s: the repository has no tags", s.repository)
	}
	return nil, fmt.Errorf("%s: no tag matches %q", s.repository, s.pattern)
}

// syncFinder finds the images to copy.
type syncFinder struct {
	repo        *composefsrepo.Repo
	path        string
	deployments []foundDeployment
	images      []*synced
}

// foundDeployment is a deployment, and the image that it was made of.
type foundDeployment struct {
	*bootc.Deployment
	image *composefsrepo.Image
	err   error // why the image can't be had
}

// open opens the bootc host that has the repository.
func (f *syncFinder) open(ctx context.Context, root string) error {
	host, err := hosts.Open(filepath.Dir(f.repo.Path()), root)
	if err != nil {
		return fmt.Errorf("looking for deployments: %w", err)
	}
	for n := range host.Deployments {
		d := foundDeployment{Deployment: &host.Deployments[n]}
		d.image, d.err = host.OpenImage(ctx, f.repo, d.Deployment)
		f.deployments = append(f.deployments, d)
	}
	return nil
}

// addTag adds an image that has a tag. Those tags by which bootc keeps the images of
// deployments are no names: the deployments have better ones.
func (f *syncFinder) addTag(ctx context.Context, tag string) {
	if slices.ContainsFunc(f.deployments, func(d foundDeployment) bool {
		return d.err == nil && tag == bootc.TagOf(d.image.ManifestDigest)
	}) {
		return
	}
	i := &synced{name: tag}
	f.images = append(f.images, i)
	if i.full, i.err = fullname.Parse(tag); i.err != nil {
		return
	}
	var ref composefs.Reference
	if ref, i.err = composefs.WithTag(f.path, tag); i.err != nil {
		return
	}
	i.ref = transport.NewReference(ref)
	var manifest digest.Digest
	if manifest, i.err = f.repo.Resolve(tag); i.err != nil {
		return
	}
	// What can't be read is the copy's error.
	if config, err := f.repo.ConfigOf(ctx, manifest); err == nil {
		i.config = config
	}
}

// addDeployment adds the image of a deployment, if it is not there by its tag or
// another deployment.
func (f *syncFinder) addDeployment(d foundDeployment) {
	i := &synced{name: fmt.Sprintf("@%.12s", d.ID)}
	if d.err != nil {
		i.err = d.err
		f.images = append(f.images, i)
		return
	}
	i.config = d.image.ConfigDescriptor.Digest
	if slices.ContainsFunc(f.images, func(other *synced) bool { return other.config == i.config }) {
		return
	}
	if i.full, i.err = f.nameOf(d); i.err == nil {
		var ref composefs.Reference
		ref, i.err = composefs.WithDeployment(f.path, d.ID)
		i.ref = transport.NewReference(ref)
	}
	f.images = append(f.images, i)
}

// nameOf returns the name of a deployment: that of its image, with the beginning of
// its ID where another image has that name. An image without a name is
// localhost/bootc, with the ID for a version.
func (f *syncFinder) nameOf(d foundDeployment) (fullname.Name, error) {
	id := d.ID[:min(len(d.ID), 12)]
	if d.Image.Transport == "docker" || d.Image.Transport == "containers-storage" {
		name, err := fullname.Parse(d.Image.Name)
		if err == nil && f.has(name) {
			name, err = name.WithSuffix("-" + id)
		}
		if err == nil {
			return name, nil
		}
	}
	return fullname.Parse("localhost/bootc:" + id)
}

// has tells whether an image has the name already.
func (f *syncFinder) has(name fullname.Name) bool {
	return slices.ContainsFunc(f.images, func(i *synced) bool { return i.err == nil && i.full == name })
}
