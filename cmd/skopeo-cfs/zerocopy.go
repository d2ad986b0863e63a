package main

import (
	"context"

	"github.com/containers/image/v5/copy"
	"github.com/containers/image/v5/signature"
	"github.com/containers/image/v5/types"
	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"

	"github.com/skopeo-cfs/skopeo-cfs/identity"
	"github.com/skopeo-cfs/skopeo-cfs/zerocopy"
)

// copyImage copies an image, with the manifest that a registry has where that is
// known, and mended as the flags say.
func (o *copyOptions) copyImage(ctx context.Context, policy *signature.PolicyContext, dest, src types.ImageReference, options *copy.Options) ([]byte, error) {
	where := o.identity
	if o.fetchMissing && where.level == "" {
		where.level = string(identity.LevelOrigin)
	}
	i, err := where.identify(ctx, src, dest, options.SourceCtx)
	if err != nil {
		return nil, err
	}
	if !o.quiet {
		i.tell(where.asked())
	}
	attachments, err := o.gather(ctx, i, dest, options.SourceCtx)
	if err != nil {
		return nil, err
	}
	judged, err := o.judge(ctx, policy, i, attachments)
	if err != nil {
		return nil, err
	}
	if judged != policy {
		defer judged.Destroy()
	}
	defer o.batch.flush()
	copied, err := o.batch.skip(ctx, dest, i.ref)
	if err == nil && copied == nil {
		copied, err = o.copyIdentified(ctx, judged, dest, i, options)
	}
	if err != nil {
		return nil, err
	}
	o.batch.learn(copied, dest)
	kept := i.found != nil && digest.FromBytes(copied) == i.found.Digest()
	err = o.send(ctx, i, attachments, dest, kept, options.SourceCtx, options.DestinationCtx)
	if err != nil && ctx.Err() == nil && !o.source.flags.Changed("signatures") {
		logrus.Warnf("The image was copied, but not everything attached to it: %s", oneLine(err))
		err = nil
	}
	return copied, err
}

// copyIdentified copies an image whose manifest was looked for.
func (o *copyOptions) copyIdentified(ctx context.Context, policy *signature.PolicyContext, dest types.ImageReference, i *identified, options *copy.Options) ([]byte, error) {
	keepDigest := o.preserveDigests || isDigested(dest)
	mended := func() types.ImageReference { return o.mend.reference(i.ref, keepDigest, options.ReportWriter) }
	if dest.Transport().Name() != "containers-storage" {
		copied, handled, err := o.pushImage(ctx, policy, dest, i, options, keepDigest)
		if handled {
			return copied, err
		}
		if keepDigest {
			if err := canKeepDigest(ctx, i.ref, options.SourceCtx); err != nil {
				return nil, err
			}
		}
		return o.copyReference(ctx, policy, dest, mended(), i, options)
	}
	// There, layers are read once if nothing is wrong with them.
	copied, err := o.copyReference(ctx, policy, dest, i.ref, i, options)
	if o.mend.canMend(err, keepDigest) {
		return o.copyReference(ctx, policy, dest, mended(), i, options)
	}
	return copied, err
}

// copyReference copies an image as it is, and shows the progress.
func (o *copyOptions) copyReference(ctx context.Context, policy *signature.PolicyContext, dest, src types.ImageReference, i *identified, options *copy.Options) ([]byte, error) {
	progress := newProgress(options.ReportWriter)
	copyOptions := &zerocopy.Options{Extract: o.noZeroCopy, Report: progress.note}
	if i.found != nil {
		copyOptions.Index = i.found.Index
	}
	copied, stats, err := zerocopy.Image(ctx, policy, dest, o.batch.source(src, dest), options, copyOptions)
	progress.end(stats, err)
	o.batch.note(stats)
	return copied, err
}
