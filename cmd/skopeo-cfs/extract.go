package main

import (
	"context"
	"os"
	"path"
	"path/filepath"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/skopeo-cfs/skopeo-cfs/tree"
	"github.com/skopeo-cfs/skopeo-cfs/tree/extract"
)

func newExtractCommand(global *globalOptions) *cobra.Command {
	return &cobra.Command{
		Use:   "extract IMAGE PATH DEST",
		Short: "Copy a file or a directory out of an image",
		Long: `Copy a file or a directory of an image to DEST; or into DEST where that is a
directory, under its own name. Symlinks in PATH are followed within the image; those
that are copied stay symlinks. Of / the content is copied.

Root gets owners, all permissions and extended attributes as they are in the image;
other users own what they copy, without set-id bits. On XFS and btrfs contents share
their blocks with the repository.

Directories that are there stay as they are, and others are added to them. Nothing
else that is there is replaced. If anything fails, what was copied is removed again.

` + imageArgument,
		Example: `  skopeo-cfs extract @rollback /etc/ssh .
  skopeo-cfs extract os:42 / root`,
		Args:              cobra.ExactArgs(3),
		ValidArgsFunction: completeInside(global, pathsInside),
		RunE: func(cmd *cobra.Command, args []string) error {
			return extractFiles(cmd.Context(), global, args[0], args[1], args[2])
		},
	}
}

func extractFiles(ctx context.Context, global *globalOptions, image, from, dest string) error {
	return withTree(ctx, global, image, func(files *tree.Tree) error {
		n, err := files.Lookup(from)
		if err != nil {
			return err
		}
		name := path.Base(path.Join("/", from))
		if info, err := os.Stat(dest); err == nil && info.IsDir() && name != "/" {
			dest = filepath.Join(dest, name)
		}
		result, err := extract.File(ctx, files, n, dest, extract.Options{Owners: os.Geteuid() == 0})
		if err != nil {
			return err
		}
		if result.LeftOut > 0 {
			logrus.Warnf("%d extended attributes were left out, which the filesystem of %s can't have", result.LeftOut, dest)
		}
		return nil
	})
}
