package main

import (
	"context"
	"errors"

	imagestorage "github.com/containers/image/v5/storage"
	"github.com/containers/image/v5/types"
	"github.com/containers/storage"

	"github.com/skopeo-cfs/skopeo-cfs/source"
)

// errNotComposefs: an image is in no composefs repository.
var errNotComposefs = errors.New("not an image of a composefs repository")

// openComposefs opens an image of a composefs repository. The caller closes the source.
func openComposefs(ctx context.Context, ref types.ImageReference, sys *types.SystemContext) (*source.Source, error) {
	opened, err := ref.NewImageSource(ctx, sys)
	if err != nil {
		return nil, err
	}
	src, ok := opened.(*source.Source)
	if !ok {
		return nil, errors.Join(errNotComposefs, opened.Close())
	}
	return src, nil
}

// errNoStore: a reference does not say which store it is in.
var errNoStore = errors.New("the store is not known")

// storeOf returns the store of a reference in containers-storage.
func storeOf(ref types.ImageReference) (storage.Store, error) {
	if t, ok := ref.Transport().(imagestorage.StoreTransport); ok {
		if store := t.GetStoreIfSet(); store != nil {
			return store, nil
		}
	}
	return nil, errNoStore
}
