package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/docker/go-units"
	"github.com/opencontainers/go-digest"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/internal/defaultrepo"
	"github.com/skopeo-cfs/skopeo-cfs/internal/usage"
)

type listOptions struct {
	asJSON  bool
	format  string
	filters []string
	sort    string
}

func newListCommand() *cobra.Command {
	var options listOptions
	cmd := &cobra.Command{
		Use:     "list [REPOSITORY]",
		Aliases: []string{"ls", "images"},
		Short:   "List the tagged images of a composefs repository",
		Long: `List the tagged images of a composefs repository.

SIZE is that of the uncompressed layers. SHARED is the size of an image's objects that
other tagged images have, too, and UNIQUE that of the objects that only this image has.
An index of images is shown as such; name its manifests by digest.

A filter is one of
  reference=PATTERN      the tag matches: * and ? as in a shell, without a slash
  id=ID, digest=DIGEST   the image ID or the manifest's digest begins with this
  label=KEY[=VALUE]      the image has this label
  before=TAG, since=TAG  the image was created before or after another
  until=TIME             the image was created before a time or a duration ago (24h)
If several filters have the same name, one of them has to match. Filters with different
names all have to match.

In a template the fields are .Tag .Digest .ID .Created .Layers .Size .Shared .Unique
.Labels and .Error. Sizes are in bytes; {{size .Size}} prints them as the table does.`,
		Example: `  skopeo-cfs list
  skopeo-cfs list --filter reference='quay.io/org/*' --sort created /srv/repo
  skopeo-cfs list --format 'table {{.Tag}}\t{{size .Unique}}'`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeDirectory,
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := defaultrepo.Path()
			if len(args) > 0 {
				path, err = args[0], nil
			}
			if err != nil {
				return err
			}
			return options.run(cmd.Context(), path, cmd.OutOrStdout())
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&options.asJSON, "json", false, "print JSON")
	flags.StringVar(&options.format, "format", "", formatHelp)
	flags.StringArrayVarP(&options.filters, "filter", "f", nil, "list only images that match the filter `NAME=VALUE`")
	flags.StringVar(&options.sort, "sort", "tag", "sort by `field`: "+sortNames())
	return cmd
}

// listed is an image of the list.
type listed struct {
	Tag     string            `json:"tag"`
	Digest  digest.Digest     `json:"digest,omitempty"`
	ID      digest.Digest     `json:"id,omitempty"` // of the config
	Created *time.Time        `json:"created,omitempty"`
	Layers  int               `json:"layers"`
	Size    int64             `json:"size"`   // of the layers' contents, in bytes
	Shared  int64             `json:"shared"` // of the objects that other images have too, in bytes
	Unique  int64             `json:"unique"` // of those that only this one has
	Labels  map[string]string `json:"labels,omitempty"`
	Error   string            `json:"error,omitempty"` // why the image can't be had

	image *composefsrepo.Image
	index bool // it is a list of manifests
}

func (o *listOptions) run(ctx context.Context, path string, stdout io.Writer) error {
	less, ok := sorts[o.sort]
	if !ok {
		return fmt.Errorf("--sort %q: must be one of %s", o.sort, sortNames())
	}
	repo, err := composefsrepo.Open(ctx, path, nil)
	if err != nil {
		return err
	}
	defer repo.Close()
	images, broken, err := readList(ctx, repo)
	if err != nil {
		return err
	}
	if images, err = filterList(images, o.filters); err != nil {
		return err
	}
	sortList(images, less)
	switch {
	case o.asJSON, o.format == "json":
		err = printJSON(images, stdout)
	case o.format != "":
		for i := range images {
			images[i].Tag = printable(images[i].Tag)
		}
		err = printFormat(o.format, images, stdout)
	default:
		err = printTable(images, stdout)
	}
	return errors.Join(err, broken)
}

// readList returns the tagged images, in the order of their tags, and what is wrong
// with those that can't be had.
func readList(ctx context.Context, repo *composefsrepo.Repo) (_ []listed, broken, err error) {
	tags, err := repo.Tags()
	if err != nil {
		return nil, nil, err
	}
	images := []listed{}
	for _, tag := range tags {
		image, err := repo.ImageByTag(ctx, tag)
		if ctx.Err() != nil {
			return nil, nil, context.Cause(ctx)
		}
		if err != nil {
			index := errors.Is(err, composefsrepo.ErrIndex)
			if !index { // which is nothing that is wrong with the repository
				broken = errors.Join(broken, err)
			}
			images = append(images, listed{Tag: tag, Error: err.Error(), index: index})
			continue
		}
		images = append(images, newListed(tag, image))
	}
	damaged, err := addUsage(ctx, images)
	return images, errors.Join(broken, damaged), err
}

func newListed(tag string, image *composefsrepo.Image) listed {
	l := listed{Tag: tag, Digest: image.ManifestDigest, ID: image.ConfigDescriptor.Digest, Layers: len(image.Layers), image: image}
	for _, layer := range image.Layers {
		l.Size += layer.Size
	}
	var config imgspecv1.Image
	if json.Unmarshal(image.Config, &config) == nil { // an artifact's need not be such
		l.Created, l.Labels = config.Created, config.Config.Labels
	}
	return l
}

// addUsage adds what the images take in the repository. Several tags of an image are
// one image here. Of images whose layers can't be read it returns why.
func addUsage(ctx context.Context, images []listed) (damaged, err error) {
	at := map[digest.Digest]int{}
	var distinct []*composefsrepo.Image
	for _, l := range images {
		if _, known := at[l.ID]; l.image != nil && !known {
			at[l.ID] = len(distinct)
			distinct = append(distinct, l.image)
		}
	}
	all, err := usage.Of(ctx, distinct)
	if err != nil && ctx.Err() == nil {
		return addUsageOfWhole(ctx, images)
	}
	for i, l := range images {
		if l.image != nil && err == nil {
			used := all[at[l.ID]]
			images[i].Shared, images[i].Unique = used.Shared, used.Unique
		}
	}
	return nil, err
}

// addUsageOfWhole is addUsage where not all layers can be read.
func addUsageOfWhole(ctx context.Context, images []listed) (damaged, err error) {
	for i, l := range images {
		if l.image == nil {
			continue
		}
		_, err := usage.Of(ctx, []*composefsrepo.Image{l.image})
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err != nil {
			err = fmt.Errorf("tag %q: %w", l.Tag, err)
			images[i].image, images[i].Error = nil, err.Error()
			damaged = errors.Join(damaged, err)
		}
	}
	if damaged == nil {
		return nil, nil // another program has just changed the repository
	}
	more, err := addUsage(ctx, images)
	return errors.Join(damaged, more), err
}

func printTable(images []listed, stdout io.Writer) error {
	table := tabwriter.NewWriter(stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "TAG\tDIGEST\tIMAGE ID\tCREATED\tLAYERS\tSIZE\tSHARED\tUNIQUE")
	for _, i := range images {
		switch {
		case i.index:
			fmt.Fprintf(table, "%s\t(index of images)\t-\t-\t-\t-\t-\t-\n", printable(i.Tag))
		case i.Digest == "":
			fmt.Fprintf(table, "%s\t-\t-\t-\t-\t-\t-\t-\n", printable(i.Tag))
		default:
			fmt.Fprintf(table, "%s\t%s\t%.12s\t%s\t%d\t%s\t%s\t%s\n", printable(i.Tag), i.Digest, i.ID.Encoded(), age(i.Created), i.Layers,
				units.HumanSize(float64(i.Size)), units.HumanSize(float64(i.Shared)), units.HumanSize(float64(i.Unique)))
		}
	}
	return table.Flush()
}

// age says how long ago something was, as podman does.
func age(then *time.Time) string {
	if then == nil {
		return "-"
	}
	return units.HumanDuration(time.Since(*then)) + " ago"
}

// printable returns a tag as it is, or quoted where it would do something to
// the terminal or the table.
func printable(tag string) string {
	if quoted := fmt.Sprintf("%q", tag); quoted != `"`+tag+`"` {
		return quoted
	}
	return tag
}
