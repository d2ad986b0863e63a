package push

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"time"

	"github.com/containers/image/v5/copy"
	"github.com/containers/image/v5/docker"
	"github.com/containers/image/v5/docker/reference"
	"github.com/containers/image/v5/pkg/blobinfocache"
	"github.com/containers/image/v5/pkg/blobinfocache/none"
	"github.com/containers/image/v5/types"
	"github.com/docker/go-units"
	"github.com/opencontainers/go-digest"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/internal/beneath"
)

// openBlob opens a compressed layer and tells its size in bytes.
type openBlob func(ctx context.Context) (io.ReadCloser, int64, error)

// planner finds out where the layers of an image come from.
type planner struct {
	image       *composefsrepo.Image
	options     Options
	copyOptions *copy.Options
	blobs       map[digest.Digest]openBlob // where to get what the destination lacks
	closers     []io.Closer
}

func (p *planner) close() {
	for _, c := range p.closers {
		_ = c.Close() // they were only read
	}
}

// plan asks the destination for the layers, and looks for those that it lacks.
func (p *planner) plan(ctx context.Context, dest types.ImageReference) (Plan, error) {
	p.blobs = map[digest.Digest]openBlob{}
	for _, l := range p.image.Layers {
		if l.Digest() == l.Descriptor.Digest { // the repository has it
			p.blobs[l.Descriptor.Digest] = nil
		}
	}
	var plan Plan
	layers, err := p.atDestination(ctx, dest, &plan)
	if err != nil {
		return Plan{}, err
	}
	layers = p.inLayouts(layers, &plan)
	if len(layers) == 0 {
		return plan, nil
	}
	missing := fmt.Errorf("%w: %d of %d, %s", ErrMissing, len(layers), len(distinct(p.image.Layers)), units.HumanSize(float64(Bytes(layers))))
	switch {
	case !p.options.FetchMissing:
		return Plan{}, missing
	case len(p.options.Origins) == 0:
		return Plan{}, fmt.Errorf("%w, and no registry is known to have them", missing)
	}
	if err := p.inRegistry(ctx, layers, &plan); err != nil {
		return Plan{}, fmt.Errorf("%w, and they can't be fetched: %w", missing, err)
	}
	return plan, ctx.Err()
}

// atDestination returns the layers that the destination lacks. Those that another
// repository of a registry has are there afterwards.
func (p *planner) atDestination(ctx context.Context, ref types.ImageReference, plan *Plan) (missing []composefsrepo.Layer, err error) {
	var candidates []composefsrepo.Layer
	for _, l := range distinct(p.image.Layers) {
		if _, ok := p.blobs[l.Descriptor.Digest]; !ok {
			candidates = append(candidates, l)
		}
	}
	if ref.Transport().Name() != docker.Transport.Name() || len(candidates) == 0 {
		return candidates, nil // to open others would make or empty them
	}
	dest, err := ref.NewImageDestination(ctx, p.copyOptions.DestinationCtx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, dest.Close()) }()
	cache := blobinfocache.DefaultCache(p.copyOptions.DestinationCtx)
	mounter := newMounter(ctx, p.copyOptions.DestinationCtx, ref.DockerReference(), p.options.Origins)
	for _, l := range candidates {
		info := types.BlobInfo{Digest: l.Descriptor.Digest, Size: l.Descriptor.Size, MediaType: l.Descriptor.MediaType}
		there, _, err := dest.TryReusingBlob(ctx, info, cache, false)
		if err != nil {
			return nil, fmt.Errorf("asking for blob %s at the destination: %w", l.Descriptor.Digest, err)
		}
		if there || mounter.mount(ctx, l) {
			plan.Reused = append(plan.Reused, l)
		} else {
			missing = append(missing, l)
		}
	}
	return missing, nil
}

// inLayouts returns the layers that no layout has.
func (p *planner) inLayouts(layers []composefsrepo.Layer, plan *Plan) (missing []composefsrepo.Layer) {
	for _, l := range layers {
		open := p.layoutWith(l)
		if open == nil {
			missing = append(missing, l)
			continue
		}
		p.blobs[l.Descriptor.Digest] = open
		plan.Local = append(plan.Local, l)
	}
	return missing
}

// layoutWith returns what opens a layer in the first layout that has it, nil where
// none has.
func (p *planner) layoutWith(l composefsrepo.Layer) openBlob {
	d := l.Descriptor.Digest
	for _, layout := range p.options.Layouts {
		open := func(context.Context) (io.ReadCloser, int64, error) {
			dir, err := os.Open(layout)
			if err != nil {
				return nil, 0, err
			}
			defer dir.Close()
			f, info, err := beneath.OpenRegular(dir, path.Join("blobs", d.Algorithm().String(), d.Encoded()))
			if err != nil {
				return nil, 0, err
			}
			if info.Size() != l.Descriptor.Size {
				return nil, 0, errors.Join(fmt.Errorf("blob %s: it has %d bytes instead of %d: %w", d, info.Size(), l.Descriptor.Size, fs.ErrInvalid), f.Close())
			}
			return f, info.Size(), nil
		}
		if f, _, err := open(context.Background()); err == nil {
			_ = f.Close() // it was not read
			return open
		}
	}
	return nil
}

// inRegistry finds the registry that has the image, and so its layers.
func (p *planner) inRegistry(ctx context.Context, layers []composefsrepo.Layer, plan *Plan) error {
	var reasons []error
	for _, origin := range p.options.Origins {
		src, name, err := p.openOrigin(ctx, origin)
		if err != nil {
			reasons = append(reasons, fmt.Errorf("%s: %w", origin, err))
			continue
		}
		p.closers = append(p.closers, src)
		plan.Fetched, plan.From = layers, name
		for _, l := range layers {
			info := types.BlobInfo{Digest: l.Descriptor.Digest, Size: l.Descriptor.Size, MediaType: l.Descriptor.MediaType}
			p.blobs[l.Descriptor.Digest] = func(ctx context.Context) (io.ReadCloser, int64, error) {
				return src.GetBlob(ctx, info, none.NoCache)
			}
		}
		return nil
	}
	return errors.Join(reasons...)
}

// originTimeout is how long a registry has to answer whether it has the image.
const originTimeout = 10 * time.Second

// openOrigin opens the image in a registry, by the digest of the manifest.
func (p *planner) openOrigin(ctx context.Context, origin reference.Named) (types.ImageSource, reference.Named, error) {
	name, err := reference.WithDigest(reference.TrimNamed(origin), p.image.ManifestDigest)
	if err != nil {
		return nil, nil, err
	}
	ref, err := docker.NewReference(name)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, originTimeout)
	defer cancel()
	src, err := ref.NewImageSource(ctx, p.copyOptions.SourceCtx)
	if err != nil {
		return nil, nil, err
	}
	raw, _, err := src.GetManifest(ctx, nil)
	if err == nil && digest.FromBytes(raw) != p.image.ManifestDigest {
		err = fmt.Errorf("it has another manifest, %s", digest.FromBytes(raw))
	}
	if err != nil {
		return nil, nil, errors.Join(err, src.Close())
	}
	return src, name, nil
}
