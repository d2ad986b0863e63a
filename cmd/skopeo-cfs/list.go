package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/docker/go-units"
	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/internal/defaultrepo"
)

func newListCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list [REPOSITORY]",
		Short: "List the tagged images of a composefs repository",
		Long: `List the tagged images of a composefs repository: their tags, the digests of
their manifests, their image IDs, and the size of their uncompressed layers. An index of
images is shown as one; its manifests are to be named by digest.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := defaultrepo.Path()
			if len(args) > 0 {
				path, err = args[0], nil
			}
			if err != nil {
				return err
			}
			return list(cmd.Context(), path, asJSON, cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// listed is an image of the list.
type listed struct {
	Tag    string        `json:"tag"`
	Digest digest.Digest `json:"digest,omitempty"`
	ID     digest.Digest `json:"id,omitempty"`    // of the config
	Size   int64         `json:"size"`            // of the layers' contents, in bytes
	Error  string        `json:"error,omitempty"` // why the image can't be had

	index bool // it is a list of manifests
}

func list(ctx context.Context, path string, asJSON bool, stdout io.Writer) error {
	repo, err := composefsrepo.Open(ctx, path, nil)
	if err != nil {
		return err
	}
	defer repo.Close()
	tags, err := repo.Tags()
	if err != nil {
		return err
	}
	images := []listed{}
	var broken error
	for _, tag := range tags {
		image, err := repo.ImageByTag(ctx, tag)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			index := errors.Is(err, composefsrepo.ErrIndex)
			if !index { // which is nothing that is wrong with the repository
				broken = errors.Join(broken, err)
			}
			images = append(images, listed{Tag: tag, Error: err.Error(), index: index})
			continue
		}
		entry := listed{Tag: tag, Digest: image.ManifestDigest, ID: image.ConfigDescriptor.Digest}
		for _, l := range image.Layers {
			entry.Size += l.Size
		}
		images = append(images, entry)
	}
	if asJSON {
		encoder := json.NewEncoder(stdout)
		encoder.SetIndent("", "    ")
		err = encoder.Encode(images)
	} else {
		err = printTable(images, stdout)
	}
	return errors.Join(err, broken)
}

func printTable(images []listed, stdout io.Writer) error {
	table := tabwriter.NewWriter(stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "TAG\tDIGEST\tIMAGE ID\tSIZE")
	for _, i := range images {
		if i.index {
			fmt.Fprintf(table, "%s\t(index of images)\t-\t-\n", printable(i.Tag))
			continue
		}
		if i.Error != "" {
			fmt.Fprintf(table, "%s\t-\t-\t-\n", printable(i.Tag))
			continue
		}
		fmt.Fprintf(table, "%s\t%s\t%.12s\t%s\n", printable(i.Tag), i.Digest, i.ID.Encoded(), units.HumanSize(float64(i.Size)))
	}
	return table.Flush()
}

// printable returns a tag as it is, or quoted where it would do something to
// the terminal or the table.
func printable(tag string) string {
	if quoted := fmt.Sprintf("%q", tag); quoted != `"`+tag+`"` {
		return quoted
	}
	return tag
}
