//go:build !remote

// Package libimage copies images as the one that podman and buildah are built
// with does it.
package libimage

import (
	"context"
	"fmt"

	"github.com/containers/image/v5/copy"
	"github.com/containers/image/v5/signature"
	storageTransport "github.com/containers/image/v5/storage"
	"github.com/containers/image/v5/transports"
	"github.com/containers/image/v5/types"
	encconfig "github.com/containers/ocicrypt/config"
	"github.com/containers/storage"
)

// copier has options for copy.Image().
type copier struct {
	imageCopyOptions copy.Options
	policyContext    *signature.PolicyContext
}

func (c *copier) copyInternal(ctx context.Context, source, destination types.ImageReference, reportResolvedReference *types.ImageReference) ([]byte, error) {
	var returnManifest []byte
	f := func() error {
		opts := c.imageCopyOptions
		opts.ReportResolvedReference = reportResolvedReference
		opts.OciDecryptConfig = &encconfig.DecryptConfig{}
		copiedManifest, err := copy.Image(ctx, c.policyContext, destination, source, &opts)
		if err == nil {
			returnManifest = copiedManifest
		}
		return err
	}
	return returnManifest, f()
}

func (c *copier) copyToStorage(ctx context.Context, source, destination types.ImageReference) (*storage.Image, error) {
	var resolvedReference types.ImageReference
	if _, err := c.copyInternal(ctx, source, destination, &resolvedReference); err != nil {
		return nil, fmt.Errorf("unable to copy from source %s: %w", transports.ImageName(source), err)
	}
	if resolvedReference == nil {
		return nil, fmt.Errorf("internal error: After attempting to copy %s, resolvedReference is nil", source)
	}
	_, image, err := storageTransport.ResolveReference(resolvedReference)
	if err != nil {
		return nil, fmt.Errorf("resolving an already-resolved reference %q to the pulled image: %w", transports.ImageName(resolvedReference), err)
	}
	return image, nil
}
