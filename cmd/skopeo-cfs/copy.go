package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/containers/image/v5/copy"
	"github.com/containers/image/v5/docker/reference"
	"github.com/containers/image/v5/manifest"
	"github.com/containers/image/v5/signature"
	"github.com/containers/image/v5/transports"
	"github.com/containers/image/v5/types"
	"github.com/opencontainers/go-digest"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/skopeo-cfs/skopeo-cfs/source"
)

type copyOptions struct {
	global          *globalOptions
	source, dest    endpoint
	quiet           bool
	format          string
	digestFile      string
	preserveDigests bool
	noZeroCopy      bool
	parallelCopies  uint
	mend            mendOptions
	destination     destinationOptions
	instances       instanceOptions
	signing         signingOptions
	retry           retryOptions
	identity        identityOptions
	fetchMissing    bool
	signatures      bool
	progressFD      progressFD
	recipient       recipientOptions
	batch           *batch // nil but in a sync
}

func newCopyCommand(global *globalOptions) *cobra.Command {
	options := copyOptions{global: global}
	cmd := &cobra.Command{
		Use:   "copy SOURCE DESTINATION",
		Short: "Copy an image from one place to another",
		Long: `Copy an image from one place to another.

An image from a composefs repository keeps its config, its layers and its image ID.

In containers-storage the image also keeps its manifest. With the overlay driver, its
files share their blocks with the repository if the filesystem can do that. In a
registry the image keeps its manifest if the registry has the compressed layers, or if
--fetch-missing gets them. In other destinations the manifest's digest changes, unless
the manifest already lists the uncompressed layers.

If the repository does not have the manifest that the image has in its registry, copy
looks for that manifest (--identity) and checks it.`,
		Example: `  skopeo-cfs copy composefs:quay.io/org/os:42 containers-storage:quay.io/org/os:42
  skopeo-cfs copy 'composefs:[/srv/repo]os' docker://registry.example.com/org/os:42`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: completeImages(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return options.run(cmd.Context(), args[0], args[1], cmd.OutOrStdout())
		},
	}
	options.addFlags(cmd.Flags())
	return cmd
}

// addFlags adds the flags of what copies one image.
func (o *copyOptions) addFlags(flags *pflag.FlagSet) {
	o.addFlagsOfMany(flags)
	o.destination.addTagFlag(flags)
	o.instances.addFlags(flags)
	o.signing.addIdentityFlag(flags)
	o.recipient.addFlags(flags)
	flags.StringVar(&o.digestFile, "digestfile", "", "write the digest of the copied manifest to the file at `path`")
}

// addFlagsOfMany adds the flags that are of use for any number of images.
func (o *copyOptions) addFlagsOfMany(flags *pflag.FlagSet) {
	o.source.addFlags(flags, "src-", "the source registry")
	o.dest.addFlags(flags, "dest-", "the destination registry")
	o.destination.addFlags(flags)
	o.signing.addFlags(flags)
	o.retry.addFlags(flags)
	flags.UintVar(&o.parallelCopies, "image-parallel-copies", 0, "copy at most this `number` of layers at once (default: chosen automatically)")
	flags.BoolVarP(&o.quiet, "quiet", "q", false, "print nothing but errors")
	o.progressFD.addFlags(flags)
	flags.StringVarP(&o.format, "format", "f", "", "`type` of the manifest at the destination: oci, v2s1 or v2s2 (default: that of the source, if the destination accepts it)")
	flags.BoolVar(&o.preserveDigests, "preserve-digests", false, "fail if the manifest's digest can't be kept")
	o.mend.addFlags(flags)
	o.identity.addFlags(flags)
	flags.BoolVar(&o.fetchMissing, "fetch-missing", false, "fetch the compressed layers that the destination lacks from the registry that the image came from, to keep the manifest's digest; implies --identity origin")
	flags.BoolVar(&o.signatures, "signatures", true, "copy signatures and attached artifacts if the manifest is kept")
	flags.BoolVar(&o.noZeroCopy, "no-zero-copy", false, "copy the contents of files into containers-storage instead of sharing blocks with the repository")
}

// manifestTypes are the values of --format.
var manifestTypes = map[string]string{
	"":     "",
	"oci":  imgspecv1.MediaTypeImageManifest,
	"v2s1": manifest.DockerV2Schema1SignedMediaType,
	"v2s2": manifest.DockerV2Schema2MediaType,
}

func (o *copyOptions) run(ctx context.Context, from, to string, stdout io.Writer) error {
	if o.recipient.name != "" {
		return o.runToUser(ctx, from, to, stdout)
	}
	if err := o.enterUserNamespace(from, to); err != nil {
		return err
	}
	src, err := parseImageName(ctx, from)
	if err != nil {
		return err
	}
	dest, err := parseImageName(ctx, to)
	if err != nil {
		return err
	}
	p, err := o.prepare(ctx, dest.Transport().Name(), stdout)
	if err != nil {
		return err
	}
	defer p.close()
	copied, err := p.copy(ctx, dest, src)
	if err != nil {
		return err
	}
	return o.writeDigest(copied)
}

// enterUserNamespace is the function of that name, for a copy.
func (o *copyOptions) enterUserNamespace(names ...string) error {
	return enterUserNamespace(o.progressFD.keep, names...)
}

// prepared is what the flags come to, for any number of copies.
type prepared struct {
	*copyOptions
	policy  *signature.PolicyContext
	options *copy.Options
	lines   *progressLines
}

// prepare checks the flags and reads what they name, for copies to destinations of
// a transport. The caller calls close.
func (o *copyOptions) prepare(ctx context.Context, transport string, stdout io.Writer) (*prepared, error) {
	manifestType, ok := manifestTypes[o.format]
	if !ok {
		return nil, fmt.Errorf("--format %q: must be oci, v2s1 or v2s2", o.format)
	}
	sourceContext, destContext := o.global.systemContext(), o.global.systemContext()
	if err := errors.Join(o.source.apply(sourceContext), o.dest.apply(destContext)); err != nil {
		return nil, err
	}
	policy, err := o.global.policyContext()
	if err != nil {
		return nil, err
	}
	p := &prepared{copyOptions: o, policy: policy, options: &copy.Options{
		SourceCtx:             sourceContext,
		DestinationCtx:        destContext,
		ForceManifestMIMEType: manifestType,
		PreserveDigests:       o.preserveDigests,
		MaxParallelDownloads:  o.parallelCopies,
	}}
	if err := errors.Join(o.destination.apply(transport, p.options), o.instances.apply(p.options), o.signing.apply(ctx, p.options, stdout)); err != nil {
		p.close()
		return nil, err
	}
	if !o.quiet {
		p.options.ReportWriter = linesUnlessTerminal(stdout)
	}
	if p.lines, err = o.progressFD.open(); err != nil {
		p.close()
		return nil, err
	}
	if p.lines != nil {
		p.options.Progress, p.options.ProgressInterval = p.lines.events, progressInterval
	}
	return p, nil
}

func (p *prepared) close() {
	p.lines.close()
	p.signing.close()
	_ = p.policy.Destroy() // of a context that is not in use, never fails
}

// copy copies an image and returns the manifest that is at the destination.
func (p *prepared) copy(ctx context.Context, dest, src types.ImageReference) (copied []byte, err error) {
	arrival, err := startArrival(dest)
	if err != nil {
		return nil, err
	}
	p.lines.begin(ctx, dest, src, p.options.SourceCtx)
	err = p.retry.do(ctx, func() (err error) {
		copied, err = p.copyImage(ctx, p.policy, arrival.to, src, p.options)
		return err
	})
	p.lines.end(err)
	if err := arrival.end(ctx, err, p.options); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		err = p.mend.explain(err)
		return nil, fmt.Errorf("copying %s to %s: %w", transports.ImageName(src), transports.ImageName(dest), err)
	}
	return copied, nil
}

// isDigested tells whether a destination can only take a manifest with the
// digest that it names.
func isDigested(dest types.ImageReference) bool {
	_, ok := dest.DockerReference().(reference.Digested)
	return ok
}

// canKeepDigest returns an error where the source is a composefs image whose
// manifest no copy can keep, with the reason, which the copy itself can't know.
func canKeepDigest(ctx context.Context, ref types.ImageReference, sys *types.SystemContext) error {
	if ref.Transport().Name() != "composefs" {
		return nil
	}
	opened, err := ref.NewImageSource(ctx, sys)
	if err != nil {
		return err
	}
	defer opened.Close()
	if src, ok := opened.(*source.Source); ok && src.ChangesManifest() {
		return fmt.Errorf("%s: the manifest's digest can't be kept: %w", transports.ImageName(ref), source.ErrNoCompressedLayer)
	}
	return nil
}

// writeDigest writes the --digestfile.
func (o *copyOptions) writeDigest(copied []byte) error {
	if o.digestFile == "" {
		return nil
	}
	d, err := manifest.Digest(copied)
	if err != nil {
		return fmt.Errorf("computing the digest of the copied manifest: %w", err)
	}
	return o.writeDigestText(d)
}

func (o *copyOptions) writeDigestText(d digest.Digest) error {
	if o.digestFile == "" {
		return nil
	}
	if err := os.WriteFile(o.digestFile, []byte(d.String()), 0o644); err != nil {
		return fmt.Errorf("writing the digest: %w", err)
	}
	return nil
}
