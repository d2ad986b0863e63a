package main

import (
	"context"
	"fmt"
	"path"
	"strings"

	"github.com/spf13/cobra"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/tree"
)

// completeInside completes the arguments of a command that looks into an image: the
// image, and then by the functions given what is in it. Behind those the shell
// completes files.
func completeInside(global *globalOptions, rest ...func(context.Context, *composefsrepo.Image, string) []string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, begin string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) == 0 {
			return completeInsideName(cmd, args, begin)
		}
		if len(args) > len(rest) {
			return nil, cobra.ShellCompDirectiveDefault
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completionTime)
		defer cancel()
		var fitting []cobra.Completion
		_ = withImage(ctx, global, args[0], func(image *composefsrepo.Image) error { // a completion has nobody to tell
			for _, word := range rest[len(args)-1](ctx, image, begin) {
				if strings.HasPrefix(word, begin) && word == printable(word) {
					fitting = append(fitting, word)
				}
			}
			return nil
		})
		directive := cobra.ShellCompDirectiveNoFileComp
		if len(fitting) == 1 && strings.HasSuffix(fitting[0], "/") {
			directive |= cobra.ShellCompDirectiveNoSpace
		}
		return fitting, directive
	}
}

// completeInsideName completes an image's name, with the transport or without.
func completeInsideName(cmd *cobra.Command, args []string, begin string) ([]cobra.Completion, cobra.ShellCompDirective) {
	const own = "composefs:"
	if strings.HasPrefix(begin, own) {
		return completeImages(1)(cmd, args, begin)
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTime)
	defer cancel()
	var fitting []cobra.Completion
	for _, name := range append(composefsNames(ctx, begin), own) {
		if strings.HasPrefix(name, begin) {
			fitting = append(fitting, name)
		}
	}
	directive := cobra.ShellCompDirectiveNoFileComp
	if len(fitting) == 1 && fitting[0] == own {
		directive |= cobra.ShellCompDirectiveNoSpace
	}
	return fitting, directive
}

// pathsInside returns the paths in the directory of an image that begin names.
func pathsInside(ctx context.Context, image *composefsrepo.Image, begin string) []string {
	files, err := tree.Read(ctx, image)
	if err != nil {
		return nil
	}
	dir, _ := path.Split(begin)
	n, err := files.Lookup(dir)
	if err != nil {
		return nil
	}
	var paths []string
	for _, child := range n.Children() {
		name := dir + child.Name
		if child.IsDir() {
			name += "/"
		}
		paths = append(paths, name)
	}
	return paths
}

// layersInside returns the numbers of an image's layers, and their diff IDs.
func layersInside(_ context.Context, image *composefsrepo.Image, _ string) []string {
	var names []string
	for n := range image.Layers {
		names = append(names, fmt.Sprint(n+1))
	}
	for _, l := range image.Layers {
		names = append(names, l.Digest().String())
	}
	return names
}
