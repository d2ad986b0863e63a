//go:build !remote

package libimage

import (
	"context"

	imageCopy "github.com/containers/image/v5/copy"
	"github.com/containers/image/v5/signature"
	"github.com/containers/image/v5/types"
)

// CopyBundle copies something else than images that are pulled.
func CopyBundle(ctx context.Context, policyContext *signature.PolicyContext, bundle, to types.ImageReference) error {
	_, err := imageCopy.Image(ctx, policyContext, to, bundle, &imageCopy.Options{})
	return err
}
