package attached

import (
	"context"
	"errors"
	"fmt"

	"github.com/containers/image/v5/docker/reference"
	"github.com/containers/image/v5/types"
	"github.com/opencontainers/go-digest"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/skopeo-cfs/skopeo-cfs/internal/registries"
)

// referrersDepth is how many steps what refers to the image may be away from it: a
// signature of an SBOM is two.
const referrersDepth = 2

// CopyReferrers copies what refers to the manifest with a digest from the repository of
// one name to that of another, which has the manifest: OCI's referrers, and what
// cosign attaches by tags, but for signatures. It returns how many it has copied; what
// is there already is not counted. All content is checked against its digest.
func CopyReferrers(ctx context.Context, fromSys *types.SystemContext, from reference.Named, toSys *types.SystemContext, to reference.Named, d digest.Digest) (copied int, err error) {
	src, err := registries.Open(ctx, fromSys, from)
	if err != nil {
		return 0, err
	}
	dest, err := registries.Open(ctx, toSys, to)
	if err != nil {
		return 0, err
	}
	c := &referrersCopy{src: src, dest: dest, seen: map[digest.Digest]bool{}}
	subject, err := src.Resolve(ctx, d.String())
	if errors.Is(err, errdef.ErrNotFound) {
		return 0, nil
	}
	if err == nil {
		err = c.copyReferrersOf(ctx, subject, referrersDepth)
	}
	for _, kind := range []string{"att", "sbom"} {
		if err == nil {
			err = c.copyTag(ctx, tagOf(d, kind))
		}
	}
	if err != nil {
		return c.copied, fmt.Errorf("copying what refers to %s from %s to %s: %w", d, from.Name(), to.Name(), err)
	}
	return c.copied, nil
}

type referrersCopy struct {
	src, dest *remote.Repository
	seen      map[digest.Digest]bool
	copied    int
}

// errEnough ends a list of referrers that has no end.
var errEnough = errors.New("there are too many")

// copyReferrersOf copies what refers to a manifest, and what refers to that.
func (c *referrersCopy) copyReferrersOf(ctx context.Context, subject imgspecv1.Descriptor, depth int) error {
	var referrers []imgspecv1.Descriptor
	err := c.src.Referrers(ctx, subject, "", func(page []imgspecv1.Descriptor) error {
		if referrers = append(referrers, page...); len(referrers)+len(c.seen) > maxReferrers {
			return errEnough
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, r := range referrers {
		if c.seen[r.Digest] {
			continue
		}
		c.seen[r.Digest] = true
		if err := c.copyManifest(ctx, r); err != nil {
			return err
		}
		if depth > 1 {
			if err := c.copyReferrersOf(ctx, r, depth-1); err != nil {
				return err
			}
		}
	}
	return nil
}

// copyManifest copies a manifest and what it consists of. Its subject is there.
func (c *referrersCopy) copyManifest(ctx context.Context, r imgspecv1.Descriptor) error {
	there, err := c.dest.Manifests().Exists(ctx, r)
	if err != nil || there {
		return err
	}
	options := oras.CopyGraphOptions{MaxMetadataBytes: maxManifest}
	if err := oras.CopyGraph(ctx, c.src, c.dest, r, options); err != nil {
		return err
	}
	c.copied++
	return nil
}

// copyTag copies what has a tag, if anything has, and nothing has it at the
// destination.
func (c *referrersCopy) copyTag(ctx context.Context, tag string) error {
	_, err := c.src.Resolve(ctx, tag)
	if errors.Is(err, errdef.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := c.dest.Resolve(ctx, tag); err == nil || !errors.Is(err, errdef.ErrNotFound) {
		return err
	}
	options := oras.CopyOptions{CopyGraphOptions: oras.CopyGraphOptions{MaxMetadataBytes: maxManifest}}
	if _, err := oras.Copy(ctx, c.src, tag, c.dest, tag, options); err != nil {
		return err
	}
	c.copied++
	return nil
}
