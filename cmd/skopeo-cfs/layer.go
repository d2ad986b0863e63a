package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/opencontainers/go-digest"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/tree"
)

func newLayerCommand(global *globalOptions) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "layer",
		Short: "Look into the layers of an image",
		Long: `Look into the layers of an image. A layer is named by its number, 1 for the lowest,
or by its diff ID, of which 12 digits are enough.

` + imageArgument,
		Args: cobra.NoArgs,
	}
	cmd.AddCommand(newLayerListCommand(global), newLayerCatCommand(global), newLayerFilesCommand(global))
	return cmd
}

func newLayerListCommand(global *globalOptions) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "ls IMAGE",
		Short: "List the layers of an image",
		Long: `List the layers of an image, the lowest first: their numbers, diff IDs, the sizes of
their tars, and what created them, according to the image's history.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeInside(global),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withImage(cmd.Context(), global, args[0], func(image *composefsrepo.Image) error {
				return buffered(cmd.OutOrStdout(), func(out io.Writer) error { return listLayers(image, asJSON, out) })
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// listedLayer is a layer of the list.
type listedLayer struct {
	Index     int           `json:"index"`
	DiffID    digest.Digest `json:"diffID"` // of a blob that is no tar, its digest
	Size      int64         `json:"size"`   // of the tar, in bytes
	CreatedBy string        `json:"createdBy,omitempty"`
}

func listLayers(image *composefsrepo.Image, asJSON bool, out io.Writer) error {
	layers, created := []listedLayer{}, createdBy(image)
	for n, l := range image.Layers {
		layers = append(layers, listedLayer{n + 1, l.Digest(), l.Size, created[n]})
	}
	if asJSON {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "    ")
		return encoder.Encode(layers)
	}
	table := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "INDEX\tDIFF ID\tSIZE\tCREATED BY")
	for _, l := range layers {
		fmt.Fprintf(table, "%d\t%s\t%d\t%s\n", l.Index, l.DiffID, l.Size, shortened(l.CreatedBy))
	}
	return table.Flush()
}

// createdBy returns what the history has of each layer, "" where it has nothing.
func createdBy(image *composefsrepo.Image) []string {
	created := make([]string, len(image.Layers))
	var config imgspecv1.Image
	if err := json.Unmarshal(image.Config, &config); err != nil {
		return created
	}
	n := 0
	for _, h := range config.History {
		if !h.EmptyLayer && n < len(created) {
			created[n] = h.CreatedBy
			n++
		}
	}
	return created
}

// shortened returns the beginning of a text, fit for a table.
func shortened(text string) string {
	const most = 60
	if characters := []rune(text); len(characters) > most {
		text = string(characters[:most-1]) + "…"
	}
	return printable(text)
}

func newLayerCatCommand(global *globalOptions) *cobra.Command {
	return &cobra.Command{
		Use:   "cat IMAGE INDEX|DIFF_ID",
		Short: "Write a layer's tar to standard output",
		Long: `Write the tar of a layer to standard output, as it was pulled. If its digest is not the
diff ID, the command fails at the end of the tar. Standard output can't be a terminal.`,
		Example:           `  skopeo-cfs layer cat os:42 3 | tar -tv`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: completeInside(global, layersInside),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withImage(cmd.Context(), global, args[0], func(image *composefsrepo.Image) error {
				return catLayer(cmd.Context(), image, args[1], cmd.OutOrStdout())
			})
		},
	}
}

func catLayer(ctx context.Context, image *composefsrepo.Image, layer string, stdout io.Writer) error {
	n, err := findLayer(image, layer)
	if err != nil {
		return err
	}
	if isTerminal(stdout) {
		return errors.New("standard output is a terminal: redirect it to a file or a pipe")
	}
	content, err := image.OpenLayer(ctx, n)
	if err != nil {
		return err
	}
	defer content.Close()
	_, err = io.Copy(stdout, content)
	return noReader(err)
}

func newLayerFilesCommand(global *globalOptions) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "files IMAGE INDEX|DIFF_ID",
		Short: "List the entries of a layer",
		Long: `List the entries of a layer in their order, including whiteouts: .wh.NAME hides NAME in
the layers below, and .wh..wh..opq hides everything that they have in its directory. The
columns are those of "skopeo-cfs files". No content is read.`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: completeInside(global, layersInside),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withImage(cmd.Context(), global, args[0], func(image *composefsrepo.Image) error {
				return buffered(cmd.OutOrStdout(), func(out io.Writer) error {
					return listEntries(cmd.Context(), image, args[1], asJSON, out)
				})
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func listEntries(ctx context.Context, image *composefsrepo.Image, layer string, asJSON bool, out io.Writer) error {
	n, err := findLayer(image, layer)
	if err != nil {
		return err
	}
	list := jsonArray{out: out}
	err = tree.ReadLayer(ctx, image, n, func(e *tree.Entry) error {
		f := listEntry(e)
		if asJSON {
			return list.add(f)
		}
		cells := f.columns(e.Name)
		_, err := fmt.Fprintf(out, "%s %7s %7s %11s %s %s\n", cells[0], cells[1], cells[2], cells[3], cells[4], cells[5])
		return err
	})
	if err != nil || !asJSON {
		return err
	}
	return list.end()
}

// findLayer returns the index of the layer that a number, or a diff ID, names.
func findLayer(image *composefsrepo.Image, name string) (int, error) {
	if n, err := strconv.Atoi(name); err == nil && n >= 1 && n <= len(image.Layers) {
		return n - 1, nil
	}
	const enough = 12 // digits
	prefix := strings.TrimPrefix(name, "sha256:")
	found := -1
	for n, l := range image.Layers {
		d := l.Digest()
		isIt := name == d.String() || len(prefix) >= enough && strings.HasPrefix(d.Encoded(), prefix)
		switch {
		case !isIt:
		case found >= 0 && image.Layers[found].Digest() != d:
			return 0, fmt.Errorf("layer %q: several layers of the image begin like this", name)
		case found < 0:
			found = n
		}
	}
	if found < 0 {
		return 0, fmt.Errorf("layer %q: the image has layers 1 to %d, and none with this diff ID", name, len(image.Layers))
	}
	return found, nil
}
