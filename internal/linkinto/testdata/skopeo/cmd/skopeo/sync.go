package main

import (
	"context"

	"github.com/containers/image/v5/copy"
	"github.com/containers/image/v5/signature"
	"github.com/containers/image/v5/types"
)

// sync copies something else than what skopeo copy does.
func sync(ctx context.Context, policyContext *signature.PolicyContext, from, to types.ImageReference) error {
	_, err := copy.Image(ctx, policyContext, to, from, &copy.Options{})
	return err
}

var _ = sync
