package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/skopeo-cfs/skopeo-cfs/tree"
)

func newCatCommand(global *globalOptions) *cobra.Command {
	return &cobra.Command{
		Use:   "cat IMAGE PATH",
		Short: "Print a file of an image",
		Long: `Print the content of a file of an image. Symlinks are followed within the image.
The content is checked before any of it is printed. On a terminal, control
characters are printed as escape sequences.

` + imageArgument,
		Example:           `  skopeo-cfs cat @staged /etc/os-release`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: completeInside(global, pathsInside),
		RunE: func(cmd *cobra.Command, args []string) error {
			return cat(cmd.Context(), global, args[0], args[1], cmd.OutOrStdout())
		},
	}
}

func cat(ctx context.Context, global *globalOptions, image, path string, stdout io.Writer) error {
	return withTree(ctx, global, image, func(files *tree.Tree) error {
		n, err := files.Lookup(path)
		if err != nil {
			return err
		}
		if !n.IsRegular() {
			return fmt.Errorf("%q is not a regular file but a %s", path, kinds[n.Type()].name)
		}
		file, err := files.Open(ctx, n, path)
		if err != nil {
			return err
		}
		defer file.Close()
		return buffered(stdout, func(out io.Writer) error {
			if isTerminal(stdout) {
				out = &spelled{out: out}
			}
			_, err := io.Copy(out, file)
			if s, ok := out.(*spelled); ok && err == nil {
				err = s.end()
			}
			return err
		})
	})
}
