package main

import (
	"context"
	"slices"
	"strings"
	"time"

	imagestorage "github.com/containers/image/v5/storage"
	"github.com/containers/image/v5/transports"
	"github.com/containers/storage"
	"github.com/containers/storage/pkg/unshare"
	"github.com/spf13/cobra"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/internal/await"
	"github.com/skopeo-cfs/skopeo-cfs/internal/defaultrepo"
	"github.com/skopeo-cfs/skopeo-cfs/internal/hosts"
)

// completionTime is how long a shell waits at most for what a name may be.
const completionTime = 2 * time.Second

// completeImages completes up to n arguments that are images: the transport, and
// behind composefs: and containers-storage: what there is.
func completeImages(n int) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, begin string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) >= n {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completionTime)
		defer cancel()
		name, rest, ok := strings.Cut(begin, ":")
		if !ok {
			return completeTransport(begin), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
		}
		var names []string
		switch name {
		case "composefs":
			names = composefsNames(ctx, rest)
		case imagestorage.Transport.Name():
			names = storedNames(ctx)
		default:
			return nil, cobra.ShellCompDirectiveDefault
		}
		var fitting []cobra.Completion
		for _, n := range names {
			if strings.HasPrefix(n, rest) {
				fitting = append(fitting, name+":"+n)
			}
		}
		return fitting, cobra.ShellCompDirectiveNoFileComp
	}
}

// completeTransport returns the transports that begin so, each with what ends it.
func completeTransport(begin string) []cobra.Completion {
	var fitting []cobra.Completion
	for _, name := range transports.ListNames() {
		if !strings.HasPrefix(name, begin) {
			continue
		}
		if name == "docker" {
			name += "://"
		} else {
			name += ":"
		}
		fitting = append(fitting, name)
	}
	return fitting
}

// composefsNames returns what may follow "composefs:" where rest has been typed: the
// tags of the repository in brackets, else those of the default one and, on a bootc
// host, the deployments.
func composefsNames(ctx context.Context, rest string) []string {
	path, brackets := "", ""
	if inner, _, ok := strings.Cut(strings.TrimPrefix(rest, "["), "]"); ok && strings.HasPrefix(rest, "[") {
		path, brackets = inner, "["+inner+"]"
	} else {
		var err error
		if path, err = defaultrepo.Path(); err != nil {
			return nil
		}
	}
	var names []string
	for _, tag := range tagsOf(ctx, path) {
		if tag == printable(tag) {
			names = append(names, brackets+tag)
		}
	}
	if brackets != "" {
		return names
	}
	return append(names, deploymentNames()...)
}

// tagsOf returns the tags of a repository, none if they can't be had.
func tagsOf(ctx context.Context, path string) []string {
	repo, err := composefsrepo.Open(ctx, path, nil)
	if err != nil {
		return nil
	}
	defer repo.Close()
	tags, _ := repo.Tags() // a completion has nobody to tell
	return tags
}

// deploymentNames returns the names of a bootc host's deployments, none elsewhere.
func deploymentNames() []string {
	host, err := hosts.Open("", "")
	if err != nil {
		return nil
	}
	var names []string
	for _, d := range host.Deployments {
		if state := "@" + string(d.State); !slices.Contains(names, state) && isNamedState(state) {
			names = append(names, state)
		}
		names = append(names, "@"+d.ID[:min(len(d.ID), 12)])
	}
	return names
}

func isNamedState(state string) bool {
	return slices.Contains([]string{"@booted", "@staged", "@rollback"}, state)
}

// storedNames returns the names of the images in the local containers-storage. It
// enters no user namespace, so for users other than root there are none.
func storedNames(ctx context.Context) []string {
	if unshare.IsRootless() {
		return nil
	}
	var names []string
	err := await.Do(ctx, func() error {
		options, err := storage.DefaultStoreOptions()
		if err != nil {
			return err
		}
		store, err := storage.GetStore(options)
		if err != nil {
			return err
		}
		images, err := store.Images()
		for _, image := range images {
			names = append(names, image.Names...)
		}
		return err
	})
	if err != nil {
		return nil
	}
	return names
}

// completeDirectory completes an argument that is a directory.
func completeDirectory(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveFilterDirs
}
