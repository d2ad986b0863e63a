package zerocopy

import (
	"context"
	"errors"
	"fmt"

	"github.com/containers/image/v5/copy"
	"github.com/containers/image/v5/image"
	"github.com/containers/image/v5/signature"
	imagestorage "github.com/containers/image/v5/storage"
	"github.com/containers/image/v5/types"
	"github.com/containers/storage"

	"github.com/skopeo-cfs/skopeo-cfs/source"
)

// Image copies the image that src, a composefs reference, refers to into the
// store that dest, a containers-storage reference, is in; otherwise it is like
// copy.Image, whose options it takes. The manifest that it returns is the
// image's own. The error wraps ErrUnsupported where the plain way is to be
// taken; nothing is left in the store then, nor after any other error.
func Image(ctx context.Context, policy *signature.PolicyContext, dest, src types.ImageReference, copyOptions *copy.Options, options *Options) (copied []byte, stats Stats, err error) {
	if copyOptions == nil {
		copyOptions = &copy.Options{}
	}
	store, err := storeOf(dest)
	if err != nil {
		return nil, Stats{}, err
	}
	if err := checkOptions(copyOptions); err != nil {
		return nil, Stats{}, err
	}
	opened, err := src.NewImageSource(ctx, copyOptions.SourceCtx)
	if err != nil {
		return nil, Stats{}, err
	}
	defer func() { err = errors.Join(err, opened.Close()) }()
	composefs, ok := opened.(*source.Source)
	if !ok {
		return nil, Stats{}, fmt.Errorf("%w: it is in no composefs repository", ErrUnsupported)
	}
	if allowed, err := policy.IsRunningImageAllowed(ctx, image.UnparsedInstance(opened, nil)); !allowed || err != nil {
		return nil, Stats{}, fmt.Errorf("source image rejected: %w", err)
	}
	staged, err := Stage(ctx, store, composefs.Image(), options)
	if err != nil {
		return nil, Stats{}, err
	}
	copied, err = copy.Image(ctx, policy, staged.Destination(dest), staged.Source(composefs), copyOptions)
	if errors.Is(err, source.ErrNoCompressedLayer) {
		err = fmt.Errorf("%w: a layer has disappeared from the store: %w", ErrUnsupported, err)
	}
	return copied, staged.Stats(), errors.Join(err, staged.Close())
}

// storeOf returns the store that a reference is in.
func storeOf(dest types.ImageReference) (storage.Store, error) {
	if transport, ok := dest.Transport().(imagestorage.StoreTransport); ok {
		if store := transport.GetStoreIfSet(); store != nil {
			return store, nil
		}
	}
	return nil, fmt.Errorf("%w: the destination is no containers-storage", ErrUnsupported)
}

// checkOptions refuses what would change the manifest, or would get lost.
func checkOptions(o *copy.Options) error {
	switch {
	case o.ForceManifestMIMEType != "":
		return fmt.Errorf("%w: the manifest is to be converted", ErrUnsupported)
	case len(o.Signers) > 0, o.SignBy != "", o.SignBySigstorePrivateKeyFile != "":
		return fmt.Errorf("%w: the image is to be signed", ErrUnsupported)
	case o.ReportResolvedReference != nil:
		return fmt.Errorf("%w: the resolved reference is asked for", ErrUnsupported)
	case o.OciEncryptLayers != nil, o.OciEncryptConfig != nil, o.OciDecryptConfig != nil:
		return fmt.Errorf("%w: layers are to be encrypted or decrypted", ErrUnsupported)
	}
	return nil
}
