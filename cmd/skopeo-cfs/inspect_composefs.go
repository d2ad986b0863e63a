package main

import (
	"context"
	"path/filepath"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/skopeo-cfs/skopeo-cfs/bootc"
	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/internal/usage"
	"github.com/skopeo-cfs/skopeo-cfs/source"
)

// composefsInspection is what a composefs repository knows of an image.
type composefsInspection struct {
	Repository string
	Algorithm  string        // by which objects are named
	ImageID    digest.Digest // of the config
	// Synthesised: the repository has no manifest; this one was made from the config.
	Synthesised bool              `json:",omitempty"`
	Layers      []composefsLayer  // in the order of the manifest
	Objects     int               // in all layers, each once
	Size        int64             // of these objects
	Shared      int64             // of these, in objects that other tagged images have too
	Unique      int64             // in objects that no other tagged image has
	Missing     int               `json:",omitempty"` // objects that are not there
	SharedWith  []sharedImage     // what shares the most first
	EROFS       []string          // the IDs of deployments that may boot from it
	Deployments []inspectedOnHost `json:",omitempty"`
}

// composefsLayer is a layer as the repository has it.
type composefsLayer struct {
	DiffID  digest.Digest `json:",omitempty"` // none for a blob that is no tar
	Digest  digest.Digest // in the manifest
	Verity  string        // names the object with the layer's stream
	Size    int64         // of the uncompressed layer
	Objects int
	// InObjects and Inline are where the contents are. An object that occurs several
	// times is counted once.
	InObjects int64
	Inline    int64
	Stream    int64 // the size of the stream's file
}

// sharedImage is another image of the repository.
type sharedImage struct {
	Tag     string
	Layers  int
	Objects int
	Size    int64
}

// inspectedOnHost is a deployment of the image.
type inspectedOnHost struct {
	ID    string
	State bootc.State
}

// inspectComposefs returns what a repository knows of an image.
func inspectComposefs(ctx context.Context, src *source.Source) (*composefsInspection, error) {
	repo, err := openRepositoryOf(ctx, src.Reference())
	if err != nil {
		return nil, err
	}
	defer repo.Close()
	image := src.Image()
	images, tags, err := othersOf(ctx, repo, image)
	if err != nil {
		return nil, err
	}
	all, err := usage.Of(ctx, images)
	if err != nil && ctx.Err() == nil { // perhaps one of the others
		images = images[:1]
		all, err = usage.Of(ctx, images)
	}
	if err != nil {
		return nil, err
	}
	used := all[0]
	out := &composefsInspection{
		Repository: repo.Path(), Algorithm: repo.Algorithm().String(), ImageID: image.ConfigDescriptor.Digest, Synthesised: image.Synthesised,
		Layers: composefsLayers(image, used), Objects: used.Objects, Size: used.Size, Shared: used.Shared, Unique: used.Unique, Missing: used.Missing,
		SharedWith: []sharedImage{}, EROFS: []string{},
	}
	for _, c := range used.Common {
		out.SharedWith = append(out.SharedWith, sharedImage{tags[c.Image], c.Layers, c.Objects, c.Bytes})
	}
	for _, d := range image.EROFS() {
		out.EROFS = append(out.EROFS, d.String())
	}
	slices.Sort(out.EROFS)
	out.EROFS = slices.Compact(out.EROFS)
	out.Deployments = deploymentsFrom(repo, image, out.EROFS)
	return out, nil
}

// othersOf returns an image and, behind it, the other tagged images of its
// repository, with their tags. Of an image with several tags that is the first.
func othersOf(ctx context.Context, repo *composefsrepo.Repo, image *composefsrepo.Image) ([]*composefsrepo.Image, []string, error) {
	all, err := repo.Tags()
	if err != nil {
		return nil, nil, err
	}
	images, tags := []*composefsrepo.Image{image}, []string{""}
	seen := map[digest.Digest]bool{image.ConfigDescriptor.Digest: true}
	for _, tag := range all {
		other, err := repo.ImageByTag(ctx, tag)
		if ctx.Err() != nil {
			return nil, nil, context.Cause(ctx)
		}
		if err != nil || seen[other.ConfigDescriptor.Digest] { // what is wrong with another is of no interest here
			continue
		}
		seen[other.ConfigDescriptor.Digest] = true
		images, tags = append(images, other), append(tags, tag)
	}
	return images, tags, nil
}

func composefsLayers(image *composefsrepo.Image, used usage.Image) []composefsLayer {
	layers := []composefsLayer{}
	for n, l := range image.Layers {
		u := used.Layers[n]
		layers = append(layers, composefsLayer{
			DiffID: l.DiffID, Digest: l.Descriptor.Digest, Verity: l.Verity.String(), Size: l.Size,
			Objects: u.Objects, InObjects: u.ObjectBytes, Inline: u.InlineBytes, Stream: u.StreamBytes,
		})
	}
	return layers
}

// deploymentsFrom returns the deployments that were made of an image, if its
// repository is a bootc host's. What can't be read of the host is of no interest here.
func deploymentsFrom(repo *composefsrepo.Repo, image *composefsrepo.Image, erofs []string) []inspectedOnHost {
	if filepath.Base(repo.Path()) != "composefs" {
		return nil
	}
	host, err := bootc.Open(filepath.Dir(repo.Path()), nil)
	if err != nil {
		return nil
	}
	var found []inspectedOnHost
	for _, d := range host.Deployments {
		if slices.Contains(erofs, d.ID) || len(erofs) == 0 && d.ManifestDigest == image.ManifestDigest {
			found = append(found, inspectedOnHost{d.ID, d.State})
		}
	}
	return found
}
