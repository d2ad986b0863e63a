package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"

	"github.com/containers/image/v5/copy"
	"github.com/containers/image/v5/signature"
	"github.com/containers/image/v5/types"
	"github.com/sirupsen/logrus"

	"github.com/skopeo-cfs/skopeo-cfs/internal/keepannotations"
	"github.com/skopeo-cfs/skopeo-cfs/zerocopy"
)

// copyImage copies an image: without copying its contents where that can be
// done, else as copy.Image does it by itself, mended as the flags say.
func (o *copyOptions) copyImage(ctx context.Context, policy *signature.PolicyContext, dest, src types.ImageReference, options *copy.Options) ([]byte, error) {
	keepDigest := o.preserveDigests || isDigested(dest)
	copied, err := o.copyShared(ctx, policy, dest, src, options)
	if !errors.Is(err, zerocopy.ErrUnsupported) && (keepDigest || !o.mend.canMend(err)) {
		return copied, err
	}
	logrus.Debugf("Copying contents, since the image %v", err)
	if keepDigest {
		if err := canKeepDigest(ctx, src, options.SourceCtx); err != nil {
			return nil, err
		}
	}
	mended := o.mend.reference(src, keepDigest, options.ReportWriter)
	return keepannotations.Image(ctx, policy, dest, mended, options, annotationsOf(ctx, src, options.SourceCtx))
}

// annotationsOf returns the annotations that a copy of a composefs image has to
// keep. Where the image can't be opened, the copy says why.
func annotationsOf(ctx context.Context, src types.ImageReference, sys *types.SystemContext) []map[string]string {
	if src.Transport().Name() != "composefs" {
		return nil
	}
	opened, err := src.NewImageSource(ctx, sys)
	if err != nil {
		return nil
	}
	defer opened.Close()
	annotations, err := keepannotations.Of(ctx, opened)
	if err != nil {
		return nil
	}
	return annotations
}

// errNotAsked is why contents are copied if they need not be.
var errNotAsked = fmt.Errorf("%w: --no-zero-copy was given", zerocopy.ErrUnsupported)

// memoryLimit is how much memory, in bytes, a copy that shares contents takes
// before garbage is collected with more effort. What is in use at once is half of
// that for an image of 60,000 files; what is not would pile up with their number.
const memoryLimit = 80 << 20

// limitMemory sets the limit, unless the user has set one, and returns what puts
// back the one that there was.
func limitMemory() (restore func()) {
	if os.Getenv("GOMEMLIMIT") != "" {
		return func() {}
	}
	before := debug.SetMemoryLimit(memoryLimit)
	return func() { debug.SetMemoryLimit(before) }
}

// copyShared copies an image into containers-storage without copying its
// contents. The error wraps zerocopy.ErrUnsupported where that can't be done.
func (o *copyOptions) copyShared(ctx context.Context, policy *signature.PolicyContext, dest, src types.ImageReference, options *copy.Options) ([]byte, error) {
	if o.noZeroCopy {
		return nil, errNotAsked
	}
	defer limitMemory()()
	quiet := *options
	quiet.ReportWriter = io.Discard // the layers are this function's to report
	progress := newProgress(options.ReportWriter)
	copied, stats, err := zerocopy.Image(ctx, policy, dest, src, &quiet, &zerocopy.Options{Progress: progress.note})
	progress.end(stats, err)
	return copied, err
}
