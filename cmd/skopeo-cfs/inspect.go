package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/containers/image/v5/image"
	"github.com/containers/image/v5/manifest"
	"github.com/containers/image/v5/transports"
	"github.com/containers/image/v5/types"
	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/skopeo-cfs/skopeo-cfs/source"
)

type inspectOptions struct {
	global      *globalOptions
	registry    endpoint
	raw, config bool
	format      string
	noTags      bool
	identity    identityOptions
}

func newInspectCommand(global *globalOptions) *cobra.Command {
	options := inspectOptions{global: global}
	cmd := &cobra.Command{
		Use:   "inspect IMAGE",
		Short: "Show what an image is",
		Long: `Show what an image is, as JSON.

For an image in a composefs repository, "Composefs" has what only the repository
knows. For each layer, that is the diff ID, the object with its stream, and the number
of bytes in objects and in the stream itself. For the image, it is the space that it
takes and what it shares with other tagged images, its EROFS images, and the
deployments that boot from them. All sizes are in bytes.`,
		Example: `  skopeo-cfs inspect composefs:quay.io/org/os:42
  skopeo-cfs inspect --raw 'composefs:[/srv/repo]os' | jq .layers
  skopeo-cfs inspect --format '{{.Name}}@{{.Digest}}' composefs:@booted`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeImages(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return options.run(cmd.Context(), args[0], cmd.OutOrStdout())
		},
	}
	options.registry.addFlags(cmd.Flags(), "", "the registry")
	options.identity.addFlags(cmd.Flags())
	cmd.Flags().BoolVar(&options.raw, "raw", false, "print the manifest as it is; with --config, the config")
	cmd.Flags().BoolVar(&options.config, "config", false, "print the config, converted to the OCI format")
	cmd.Flags().StringVarP(&options.format, "format", "f", "", "print it with the Go `template`, such as {{.Digest}}")
	cmd.Flags().BoolVarP(&options.noTags, "no-tags", "n", false, "do not list the other tags of the image's repository")
	return cmd
}

// inspection is what inspect prints, with skopeo's names for things.
type inspection struct {
	Name          string `json:",omitempty"`
	Digest        digest.Digest
	RepoTags      []string
	Created       *time.Time
	DockerVersion string
	Labels        map[string]string
	Architecture  string
	Os            string
	Layers        []string
	LayersData    []types.ImageInspectLayer `json:",omitempty"`
	Env           []string
	Composefs     *composefsInspection `json:",omitempty"`
	inspectedIdentity
}

func (o *inspectOptions) run(ctx context.Context, name string, stdout io.Writer) (err error) {
	if err := enterUserNamespace(nil, name); err != nil {
		return err
	}
	ref, err := parseImageName(ctx, name)
	if err != nil {
		return err
	}
	sys := o.global.systemContext()
	if err := o.registry.apply(sys); err != nil {
		return err
	}
	src, err := ref.NewImageSource(ctx, sys)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	if err := o.print(ctx, src, sys, stdout); err != nil {
		return fmt.Errorf("inspecting %s: %w", transports.ImageName(src.Reference()), err)
	}
	return nil
}

func (o *inspectOptions) print(ctx context.Context, src types.ImageSource, sys *types.SystemContext, stdout io.Writer) error {
	raw, _, err := src.GetManifest(ctx, nil)
	if err != nil {
		return err
	}
	if o.raw && !o.config {
		_, err := stdout.Write(raw)
		return err
	}
	img, err := image.FromUnparsedImage(ctx, sys, image.UnparsedInstance(src, nil))
	if err != nil {
		return err
	}
	switch {
	case o.raw:
		config, err := img.ConfigBlob(ctx)
		if err != nil {
			return err
		}
		_, err = stdout.Write(config)
		return err
	case o.config:
		config, err := img.OCIConfig(ctx)
		if err != nil {
			return err
		}
		return json.NewEncoder(stdout).Encode(config)
	}
	info, err := img.Inspect(ctx)
	if artifact := (manifest.NonImageArtifactError{}); errors.As(err, &artifact) {
		info, err = inspectArtifact(img), nil
	}
	if err != nil {
		return err
	}
	out, err := describe(src.Reference(), raw, info)
	if err != nil {
		return err
	}
	if out.inspectedIdentity, err = o.identity.inspect(ctx, src, sys); err != nil {
		return err
	}
	if !o.noTags {
		if out.RepoTags, err = repoTags(ctx, src, sys); err != nil {
			return fmt.Errorf("listing the tags of its repository (--no-tags leaves them out): %w", err)
		}
	}
	if composefs, ok := src.(*source.Source); ok {
		if out.Composefs, err = inspectComposefs(ctx, composefs); err != nil {
			return err
		}
	}
	if o.format != "" {
		return printFormat(o.format, []*inspection{out}, stdout)
	}
	return printJSON(out, stdout)
}

// inspectArtifact returns what there is to say of something whose config is not
// an image's: its blobs.
func inspectArtifact(img types.Image) *types.ImageInspectInfo {
	info := &types.ImageInspectInfo{Layers: []string{}}
	for _, l := range img.LayerInfos() {
		info.Layers = append(info.Layers, l.Digest.String())
		info.LayersData = append(info.LayersData, types.ImageInspectLayer{
			MIMEType: l.MediaType, Digest: l.Digest, Size: l.Size, Annotations: l.Annotations,
		})
	}
	return info
}

// describe fills an inspection.
func describe(ref types.ImageReference, raw []byte, info *types.ImageInspectInfo) (*inspection, error) {
	d, err := manifest.Digest(raw)
	if err != nil {
		return nil, err
	}
	out := &inspection{
		Digest: d, RepoTags: []string{},
		Created: info.Created, DockerVersion: info.DockerVersion,
		Labels: info.Labels, Architecture: info.Architecture, Os: info.Os,
		Layers: info.Layers, LayersData: info.LayersData, Env: info.Env,
	}
	if named := ref.DockerReference(); named != nil {
		out.Name = named.Name()
	}
	return out, nil
}
