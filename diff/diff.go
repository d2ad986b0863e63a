// Package diff compares two images of composefs repositories: their configs, the
// packages that are installed in them, and their files as they are when the layers are
// mounted. Files are compared by what the layers' headers say of them and by the names
// of the objects that have their contents. Contents are read only where these names
// can't tell: where the two repositories name objects by different algorithms, or a
// content is in several pieces.
package diff

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/packages"
	"github.com/skopeo-cfs/skopeo-cfs/tree"
)

// ErrTooLarge: what differs is more than this package holds.
var ErrTooLarge = errors.New("too many differences")

// Sections are what is compared.
type Sections struct{ Config, Packages, Files bool }

// All has everything compared.
var All = Sections{Config: true, Packages: true, Files: true}

// Image is one side of a comparison.
type Image struct {
	// Name is what the user calls it. Images leaves it empty.
	Name string `json:"name,omitempty"`
	// Digest is that of the manifest, "" where the repository has none.
	Digest digest.Digest `json:"digest,omitempty"`
	// ID is the digest of the config.
	ID digest.Digest `json:"id"`
}

// Result is what a comparison found. Of a section that was not asked for it has nil.
type Result struct {
	Old Image `json:"old"`
	New Image `json:"new"`
	// Config has what differs between the configs, by field and key.
	Config   []ConfigChange `json:"config,omitzero"`
	Packages *Packages      `json:"packages,omitempty"`
	Files    *Files         `json:"files,omitempty"`
}

// Equal tells whether nothing that was compared differs.
func (r *Result) Equal() bool {
	return len(r.Config) == 0 && (r.Packages == nil || r.Packages.Equal()) && (r.Files == nil || r.Files.Equal())
}

// Images compares two images. It ends soon after ctx does.
//
// The error wraps ErrTooLarge, or is one of package tree. Where it is one of package
// packages, a package database can't be read: then the result is there, too, with nil
// for its packages.
func Images(ctx context.Context, old, new *composefsrepo.Image, sections Sections) (*Result, error) {
	result := &Result{Old: describe(old), New: describe(new)}
	if sections.Config {
		changes, err := compareConfigs(old.Config, new.Config)
		if err != nil {
			return nil, err
		}
		result.Config = changes
	}
	if !sections.Packages && !sections.Files {
		return result, nil
	}
	if sameLayers(old, new) {
		if sections.Packages {
			result.Packages = comparePackages(nil, nil)
		}
		if sections.Files {
			result.Files = &Files{Changes: []FileChange{}}
		}
		return result, nil
	}
	return result, result.compareTrees(ctx, old, new, sections)
}

// describe returns what names an image.
func describe(image *composefsrepo.Image) Image {
	described := Image{ID: image.ConfigDescriptor.Digest}
	if !image.Synthesised {
		described.Digest = image.ManifestDigest
	}
	return described
}

// sameLayers tells whether two images have the same layers, of the same streams.
func sameLayers(old, new *composefsrepo.Image) bool {
	return slices.EqualFunc(old.Layers, new.Layers, func(a, b composefsrepo.Layer) bool {
		return a.Digest() == b.Digest() && a.Verity == b.Verity
	})
}

// compareTrees compares what is in the images' layers.
func (r *Result) compareTrees(ctx context.Context, oldImage, newImage *composefsrepo.Image, sections Sections) error {
	trees, err := tree.ReadAll(ctx, oldImage, newImage)
	if err != nil {
		return fmt.Errorf("reading what the images have for files: %w", err)
	}
	old, new := trees[0], trees[1]
	var unreadable error
	if sections.Packages {
		if r.Packages, unreadable = readPackages(ctx, old, new); ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if sections.Files {
		if r.Files, err = compareFiles(ctx, old, new); err != nil {
			return err
		}
	}
	return unreadable
}

// readPackages reads and compares the packages that are installed in two trees.
func readPackages(ctx context.Context, old, new *tree.Tree) (*Packages, error) {
	var before, after []packages.Package
	var oldErr, newErr error
	var group sync.WaitGroup
	group.Go(func() { before, oldErr = packages.Read(ctx, old.FS(ctx)) })
	group.Go(func() { after, newErr = packages.Read(ctx, new.FS(ctx)) })
	group.Wait()
	if oldErr != nil {
		oldErr = fmt.Errorf("reading the packages of the old image: %w", oldErr)
	}
	if newErr != nil {
		newErr = fmt.Errorf("reading the packages of the new image: %w", newErr)
	}
	if err := errors.Join(oldErr, newErr); err != nil {
		return nil, err
	}
	return comparePackages(before, after), nil
}
