// Package push copies images from composefs repositories and keeps their manifests, and
// so the manifests' digests. That is possible if the compressed layers that a manifest
// lists are at the destination already, or can be fetched from where the image came
// from. A composefs repository has only the uncompressed layers.
//
// Nothing is compressed again, because no compressor makes the same bytes again. Layers
// that are fetched are checked on the way, against the digest of the compressed layer
// and against the diff ID in the config.
package push

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/containers/image/v5/copy"
	"github.com/containers/image/v5/docker/reference"
	"github.com/containers/image/v5/signature"
	"github.com/containers/image/v5/types"
	"github.com/opencontainers/go-digest"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/internal/sources"
	"github.com/skopeo-cfs/skopeo-cfs/source"
)

// Why a manifest can't be kept.
var (
	// ErrMissing: the destination lacks compressed layers, and they are not to be
	// had elsewhere.
	ErrMissing = errors.New("the destination lacks compressed layers")
	// ErrDestination: the destination takes no manifest as it is.
	ErrDestination = errors.New("the destination makes its own manifests")
	// ErrLost: the destination had compressed layers when it was asked, and later
	// had not.
	ErrLost = errors.New("the destination has lost compressed layers")
	// ErrBlob: a compressed layer that was fetched is not what the config says.
	ErrBlob = errors.New("it does not decompress to the layer")
)

// Options say where compressed layers may be fetched.
type Options struct {
	// Layouts are OCI layouts that may have compressed layers.
	Layouts []string
	// Origins are names that the image may have in registries. They are asked only
	// where FetchMissing is set.
	Origins      []reference.Named
	FetchMissing bool
}

// Plan is how the layers of an image get to a destination.
type Plan struct {
	// Reused, Local and Fetched are the compressed layers that the destination has,
	// that a layout has, and that a registry has, each once.
	Reused, Local, Fetched []composefsrepo.Layer
	// From names the registry's image that Fetched comes from.
	From reference.Named
}

// Bytes returns the size in bytes of compressed layers.
func Bytes(layers []composefsrepo.Layer) int64 {
	var n int64
	for _, l := range layers {
		n += l.Descriptor.Size
	}
	return n
}

// attempts is how often a copy starts again because the destination has lost a blob.
const attempts = 2

// Image copies the image that src refers to, a composefs reference, to dest with the
// manifest that src has, byte for byte. Before anything is written it is certain where
// each layer comes from; report is told that, if it is not nil. The error wraps
// ErrMissing or ErrDestination where nothing was written because the manifest can't be
// kept, and ErrLost or ErrBlob where only the copy showed that; in these cases the
// image may be copied with another manifest. Blobs that were written before an error
// stay. Other errors are those of copy.Image. It returns the manifest.
//
// Blobs that are in other repositories of the destination's registry are mounted, not
// sent.
func Image(ctx context.Context, policy *signature.PolicyContext, dest, src types.ImageReference, copyOptions *copy.Options, options Options, report func(Plan)) (_ []byte, err error) {
	opened, err := src.NewImageSource(ctx, copyOptions.SourceCtx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, opened.Close()) }()
	from, ok := opened.(*source.Source)
	if !ok {
		return nil, fmt.Errorf("%w, and %s is not an image of a composefs repository", ErrMissing, src.StringWithinTransport())
	}
	if err := takes(dest, from.Image(), copyOptions); err != nil {
		return nil, err
	}
	for attempt := 1; ; attempt++ {
		manifest, err := once(ctx, policy, dest, from, copyOptions, options, report)
		if !errors.Is(err, ErrLost) || attempt == attempts {
			return manifest, err
		}
	}
}

// once plans and copies.
func once(ctx context.Context, policy *signature.PolicyContext, dest types.ImageReference, from *source.Source, copyOptions *copy.Options, options Options, report func(Plan)) ([]byte, error) {
	p := planner{image: from.Image(), options: options, copyOptions: copyOptions}
	defer p.close()
	plan, err := p.plan(ctx, dest)
	if err != nil {
		return nil, err
	}
	if report != nil {
		report(plan)
	}
	kept := &keptSource{Source: from, blobs: p.blobs}
	exact := *copyOptions
	exact.PreserveDigests = true
	ref := sources.Opened(from.Reference(), kept)
	manifest, err := copy.Image(ctx, policy, dest, ref, &exact)
	switch {
	case err == nil || ctx.Err() != nil:
		return manifest, err
	case kept.failed() != nil:
		return nil, kept.failed()
	case strings.Contains(strings.ToLower(err.Error()), "blob unknown"): // as registries say it of a manifest
		return nil, fmt.Errorf("%w: %w", ErrLost, err)
	}
	return nil, err
}

// takes returns an error where a destination can't have the image's manifest as it is.
func takes(dest types.ImageReference, image *composefsrepo.Image, options *copy.Options) error {
	switch dest.Transport().Name() {
	case "docker", "oci", "oci-archive", "dir":
	default:
		return fmt.Errorf("%w: %s", ErrDestination, dest.Transport().Name())
	}
	if forced := options.ForceManifestMIMEType; forced != "" && forced != image.ManifestType {
		return fmt.Errorf("%w of type %s", ErrDestination, forced)
	}
	if strings.HasPrefix(dest.Transport().Name(), "oci") && image.ManifestType != ociManifest {
		return fmt.Errorf("%w of type %s", ErrDestination, ociManifest)
	}
	if sys := options.DestinationCtx; sys != nil && (sys.DirForceDecompress || sys.CompressionFormat != nil) || options.ForceCompressionFormat {
		return fmt.Errorf("%w: the layers are to be compressed in another way", ErrDestination)
	}
	if options.OciEncryptLayers != nil {
		return fmt.Errorf("%w: layers are to be encrypted", ErrDestination)
	}
	return nil
}

const ociManifest = "application/vnd.oci.image.manifest.v1+json"

// distinct returns the layers of different blobs.
func distinct(layers []composefsrepo.Layer) []composefsrepo.Layer {
	var all []composefsrepo.Layer
	seen := map[digest.Digest]bool{}
	for _, l := range layers {
		if !seen[l.Descriptor.Digest] {
			seen[l.Descriptor.Digest] = true
			all = append(all, l)
		}
	}
	return all
}
