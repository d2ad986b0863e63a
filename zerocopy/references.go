package zerocopy

import (
	"context"

	"github.com/containers/image/v5/pkg/blobinfocache/memory"
	"github.com/containers/image/v5/types"

	"github.com/skopeo-cfs/skopeo-cfs/source"
)

// Source returns a reference, to be given to copy.Image, to the image that src
// serves, as its manifest has it: with compressed layers, which can't be read.
// The caller keeps src open.
func (s *Staged) Source(src *source.Source) types.ImageReference {
	return sourceReference{src.Reference(), src.Original()}
}

type sourceReference struct {
	types.ImageReference
	source types.ImageSource
}

// NewImageSource returns the source, which stays open when it is closed.
func (r sourceReference) NewImageSource(context.Context, *types.SystemContext) (types.ImageSource, error) {
	return r.source, nil
}

// Destination returns a reference, to be given to copy.Image, to what dest
// refers to in the store: one that knows that the compressed layers which the
// manifest names are those that were staged.
func (s *Staged) Destination(dest types.ImageReference) types.ImageReference {
	// The pairs are what this manifest and this config say, which is right for
	// this image and a mere claim about any other. So they are in a cache that
	// nothing else sees.
	cache := memory.New()
	for _, l := range s.image.Layers {
		cache.RecordDigestUncompressedPair(l.Descriptor.Digest, l.DiffID)
	}
	return destinationReference{dest, cache}
}

type destinationReference struct {
	types.ImageReference
	cache types.BlobInfoCache
}

// NewImageDestination returns the reference's destination, with the cache.
func (r destinationReference) NewImageDestination(ctx context.Context, sys *types.SystemContext) (types.ImageDestination, error) {
	dest, err := r.ImageReference.NewImageDestination(ctx, sys)
	if err != nil {
		return nil, err
	}
	return destination{dest, r.cache}, nil
}

// destination has a cache of its own. It has no more methods than its interface,
// by which copy.Image would get around it.
type destination struct {
	types.ImageDestination
	cache types.BlobInfoCache
}

// TryReusingBlob looks for a blob in the store, with the cache of this copy.
func (d destination) TryReusingBlob(ctx context.Context, info types.BlobInfo, _ types.BlobInfoCache, canSubstitute bool) (bool, types.BlobInfo, error) {
	return d.ImageDestination.TryReusingBlob(ctx, info, d.cache, canSubstitute)
}
