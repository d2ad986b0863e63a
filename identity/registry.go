package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/containers/image/v5/docker"
	"github.com/containers/image/v5/docker/reference"
	"github.com/containers/image/v5/types"
	"github.com/opencontainers/go-digest"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
)

// maxInstances is how many manifests of an index are asked for.
const maxInstances = 16

// platformOf returns a context that asks for the image's platform.
func platformOf(image *composefsrepo.Image, system *types.SystemContext) *types.SystemContext {
	sys := types.SystemContext{}
	if system != nil {
		sys = *system
	}
	var p imgspecv1.Platform
	if err := json.Unmarshal(image.Config, &p); err == nil {
		sys.OSChoice, sys.ArchitectureChoice, sys.VariantChoice = p.OS, p.Architecture, p.Variant
	}
	return &sys
}

// registry asks a registry for the manifest: by its digest if that is known, then
// by the name. It returns what it was given, or why that will not do.
func (s *search) registry(ctx context.Context, named reference.Named) (*Found, error) {
	var names []reference.Named
	for _, d := range s.options.Digests {
		if digested, err := reference.WithDigest(reference.TrimNamed(named), d); err == nil {
			names = append(names, digested)
		}
	}
	if name := reference.TagNameOnly(named); !slices.ContainsFunc(names, func(n reference.Named) bool { return n.String() == name.String() }) {
		names = append(names, name)
	}
	var reasons []error
	for _, name := range names {
		found, err := s.named(ctx, name)
		if found != nil {
			found.Reference = name
			return found, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		reasons = append(reasons, err)
	}
	return nil, reasons[len(reasons)-1]
}

// named asks a registry for the image of a name.
func (s *search) named(ctx context.Context, name reference.Named) (*Found, error) {
	ref, err := docker.NewReference(name)
	if err != nil {
		return nil, err
	}
	src, err := ref.NewImageSource(ctx, s.system)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	at := Source{Kind: Registry, Where: name.String()}
	raw, _, err := src.GetManifest(ctx, nil)
	if err != nil {
		return nil, err
	}
	i, err := parseIndex(raw)
	if errors.Is(err, errNoIndex) {
		return s.accept(at, raw, digestOf(name))
	}
	if err == nil {
		err = checkDigest(raw, digestOf(name))
	}
	if err != nil {
		return nil, err
	}
	found, err := s.instance(ctx, src, i, at)
	if found != nil {
		found.Index = raw
	}
	return found, err
}

// digestOf returns the digest in a name, "" where there is none.
func digestOf(name reference.Named) digest.Digest {
	if digested, ok := name.(reference.Digested); ok {
		return digested.Digest()
	}
	return ""
}

// instance asks for the manifests of an index that are of the image's platform.
func (s *search) instance(ctx context.Context, src types.ImageSource, i *index, at Source) (*Found, error) {
	err := fmt.Errorf("%w, %s/%s", ErrPlatform, s.system.OSChoice, s.system.ArchitectureChoice)
	asked := 0
	for _, d := range i.Manifests {
		if !s.isOurs(d) {
			continue
		}
		if asked++; asked > maxInstances {
			break
		}
		var raw []byte
		if raw, _, err = src.GetManifest(ctx, &d.Digest); err != nil {
			return nil, err
		}
		var found *Found
		if found, err = s.accept(at, raw, d.Digest); found != nil {
			return found, nil
		}
	}
	return nil, err
}

// isOurs tells whether a manifest of an index may be the image's: it says that it
// is of the platform, or does not say of which it is.
func (s *search) isOurs(d imgspecv1.Descriptor) bool {
	if d.Digest.Validate() != nil {
		return false
	}
	return d.Platform == nil || d.Platform.OS == s.system.OSChoice && d.Platform.Architecture == s.system.ArchitectureChoice
}
