package zerocopy

import (
	"context"

	"github.com/containers/image/v5/manifest"
	"github.com/containers/image/v5/pkg/blobinfocache/memory"
	"github.com/containers/image/v5/types"
	"github.com/opencontainers/go-digest"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/source"
)

// openReference is a reference whose image source is open already, and is closed
// by whoever has opened it.
type openReference struct {
	types.ImageReference
	source types.ImageSource
}

// NewImageSource returns the source, which stays open when it is closed.
func (r openReference) NewImageSource(context.Context, *types.SystemContext) (types.ImageSource, error) {
	return unclosable{r.source}, nil
}

type unclosable struct{ types.ImageSource }

// Close does nothing.
func (unclosable) Close() error { return nil }

// sourceOf returns a reference to the image that src serves, as its manifest has
// it: with compressed layers, which can't be read.
func sourceOf(src *source.Source) types.ImageReference {
	return openReference{src.Reference(), original{src}}
}

type original struct{ *source.Source }

// LayerInfosForCopy returns nil: the layers are the manifest's.
func (original) LayerInfosForCopy(context.Context, *digest.Digest) ([]types.BlobInfo, error) {
	return nil, nil
}

// destinationOf returns a reference to what dest refers to in a store: one that
// knows that the compressed layers that the manifest names are those that are in
// the store.
func destinationOf(dest types.ImageReference, image *composefsrepo.Image, index []byte) types.ImageReference {
	// The pairs are what this manifest and this config say, which is right for
	// this image and a mere claim about any other. So they are in a cache that
	// nothing else sees.
	cache := memory.New()
	for _, l := range image.Layers {
		cache.RecordDigestUncompressedPair(l.Descriptor.Digest, l.DiffID)
	}
	return destinationReference{dest, cache, index}
}

type destinationReference struct {
	types.ImageReference
	cache types.BlobInfoCache
	index []byte // which lists the image, or nil
}

// NewImageDestination returns the reference's destination, with the cache.
func (r destinationReference) NewImageDestination(ctx context.Context, sys *types.SystemContext) (types.ImageDestination, error) {
	dest, err := r.ImageReference.NewImageDestination(ctx, sys)
	if err != nil {
		return nil, err
	}
	return destination{dest, r.cache, r.index}, nil
}

// destination has a cache of its own. It has no more methods than its interface,
// by which copy.Image would get around it.
type destination struct {
	types.ImageDestination
	cache types.BlobInfoCache
	index []byte
}

// TryReusingBlob looks for a blob in the store, with the cache of this copy.
func (d destination) TryReusingBlob(ctx context.Context, info types.BlobInfo, _ types.BlobInfoCache, canSubstitute bool) (bool, types.BlobInfo, error) {
	return d.ImageDestination.TryReusingBlob(ctx, info, d.cache, canSubstitute)
}

// Commit makes the image, unless ctx is done: the store's own destination does not
// look.
func (d destination) Commit(ctx context.Context, toplevel types.UnparsedImage) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if d.index != nil {
		toplevel = indexed{toplevel, d.index}
	}
	return d.ImageDestination.Commit(ctx, toplevel)
}

// indexed is an image that is named by an index.
type indexed struct {
	types.UnparsedImage
	index []byte
}

// Manifest returns the index.
func (i indexed) Manifest(context.Context) ([]byte, string, error) {
	return i.index, manifest.GuessMIMEType(i.index), nil
}
