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
		Long: `Copy a file or a directory of an image to DEST. If DEST is a directory, the copy goes
into it, under its own name. If PATH is /, the content of the image goes there.
Symlinks in PATH are followed within the image. Symlinks that are copied stay symlinks.

As root, extract keeps owners, permissions and extended attributes. Other users own
what they copy, and set-id bits are removed. On XFS and btrfs, contents share their
blocks with the repository.

Existing directories stay, and new files are added to them. Nothing else that exists is
replaced. If anything fails, extract removes what it has copied.

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
			logrus.Warnf("%d extended attributes were left out: the filesystem of %s does not support them", result.LeftOut, dest)
		}
		return nil
	})
}
