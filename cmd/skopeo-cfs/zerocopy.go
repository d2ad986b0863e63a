package main

import (
	"context"

	"github.com/containers/image/v5/copy"
	"github.com/containers/image/v5/signature"
	"github.com/containers/image/v5/types"

	"github.com/skopeo-cfs/skopeo-cfs/zerocopy"
)

// copyImage copies an image, mended as the flags say.
func (o *copyOptions) copyImage(ctx context.Context, policy *signature.PolicyContext, dest, src types.ImageReference, options *copy.Options) ([]byte, error) {
	keepDigest := o.preserveDigests || isDigested(dest)
	mended := func() types.ImageReference { return o.mend.reference(src, keepDigest, options.ReportWriter) }
	if dest.Transport().Name() != "containers-storage" {
		if keepDigest {
			if err := canKeepDigest(ctx, src, options.SourceCtx); err != nil {
				return nil, err
			}
		}
		return o.copyReference(ctx, policy, dest, mended(), options)
	}
	// There, layers are read once if nothing is wrong with them.
	copied, err := o.copyReference(ctx, policy, dest, src, options)
	if o.mend.canMend(err, keepDigest) {
		return o.copyReference(ctx, policy, dest, mended(), options)
	}
	return copied, err
}

// copyReference copies an image as it is, and shows the progress.
func (o *copyOptions) copyReference(ctx context.Context, policy *signature.PolicyContext, dest, src types.ImageReference, options *copy.Options) ([]byte, error) {
	progress := newProgress(options.ReportWriter)
	copied, stats, err := zerocopy.Image(ctx, policy, dest, src, options, &zerocopy.Options{
		Extract: o.noZeroCopy,
		Report:  progress.note,
	})
	progress.end(stats, err)
	return copied, err
}
