package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/containers/image/v5/copy"
	"github.com/containers/image/v5/signature"
	"github.com/containers/image/v5/transports"
	"github.com/containers/image/v5/types"
	"github.com/docker/go-units"

	"github.com/skopeo-cfs/skopeo-cfs/push"
	"github.com/skopeo-cfs/skopeo-cfs/source"
)

// pushImage copies an image with the manifest that a registry has, if the
// destination can have that. Where it can't, handled is false, nothing is written
// that a copy with another manifest would not use, and the user has heard why.
func (o *copyOptions) pushImage(ctx context.Context, policy *signature.PolicyContext, dest types.ImageReference, i *identified, options *copy.Options, keepDigest bool) (copied []byte, handled bool, err error) {
	if i.found == nil || !i.found.Original {
		return nil, false, nil
	}
	copied, err = push.Image(ctx, policy, dest, i.ref, options, push.Options{
		Layouts: i.search.Layouts, Origins: i.names(), FetchMissing: o.fetchMissing,
	}, o.tellPlan)
	switch {
	case err == nil || ctx.Err() != nil:
		return copied, true, err
	case !errors.Is(err, push.ErrMissing) && !errors.Is(err, push.ErrDestination) && !errors.Is(err, push.ErrLost) && !errors.Is(err, push.ErrBlob):
		return nil, true, err
	}
	if errors.Is(err, push.ErrMissing) && !o.fetchMissing && len(i.names()) > 0 {
		err = fmt.Errorf("%w; --fetch-missing gets them from %s", err, i.names()[0].Name())
	}
	if keepDigest {
		return nil, true, fmt.Errorf("%s: the manifest's digest can't be kept: %w; %w", transports.ImageName(i.ref), source.ErrNoCompressedLayer, err)
	}
	if !o.quiet && (o.fetchMissing || o.identity.asked() || i.found.Recovered() || errors.Is(err, push.ErrLost) || errors.Is(err, push.ErrBlob)) {
		fmt.Fprintf(os.Stderr, "The image gets a new manifest, with another digest: %s\n", oneLine(err))
	}
	return nil, false, nil
}

// tellPlan says where the compressed layers come from.
func (o *copyOptions) tellPlan(plan push.Plan) {
	if o.quiet {
		return
	}
	if n := len(plan.Reused); n > 0 {
		fmt.Fprintf(os.Stderr, "The manifest is kept: the destination has %s\n", compressedLayers(n, push.Bytes(plan.Reused)))
	}
	if n := len(plan.Local); n > 0 {
		fmt.Fprintf(os.Stderr, "The manifest is kept: a layout has %s\n", compressedLayers(n, push.Bytes(plan.Local)))
	}
	if n := len(plan.Fetched); n > 0 {
		fmt.Fprintf(os.Stderr, "The manifest is kept: fetching %s, from %s\n", compressedLayers(n, push.Bytes(plan.Fetched)), plan.From)
	}
}

// compressedLayers describes compressed layers.
func compressedLayers(n int, bytes int64) string {
	return fmt.Sprintf("%s, %s", count(n, "compressed layer"), units.HumanSize(float64(bytes)))
}

// count returns a number of things.
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
