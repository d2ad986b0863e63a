package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/containers/image/v5/docker"
	dockerreference "github.com/containers/image/v5/docker/reference"
	"github.com/containers/image/v5/transports"
	"github.com/containers/image/v5/types"
	"github.com/spf13/cobra"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/internal/defaultrepo"
	"github.com/skopeo-cfs/skopeo-cfs/reference"
)

type listTagsOptions struct {
	global   *globalOptions
	registry endpoint
}

func newListTagsCommand(global *globalOptions) *cobra.Command {
	options := listTagsOptions{global: global}
	cmd := &cobra.Command{
		Use:   "list-tags composefs:[REPOSITORY] | docker://REPOSITORY",
		Short: "List the tags of a repository",
		Long: `List the tags of a composefs repository, or of a repository in a registry, as the JSON
that skopeo prints. The brackets are part of the name. "composefs:" alone names the
default repository.`,
		Example: `  skopeo-cfs list-tags 'composefs:[/srv/repo]'
  skopeo-cfs list-tags docker://registry.example.com/org/os`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: cobra.FixedCompletions([]cobra.Completion{"composefs:", "docker://"}, cobra.ShellCompDirectiveNoSpace|cobra.ShellCompDirectiveNoFileComp),
		RunE: func(cmd *cobra.Command, args []string) error {
			return options.run(cmd.Context(), args[0], cmd.OutOrStdout())
		},
	}
	options.registry.addFlags(cmd.Flags(), "", "the registry")
	return cmd
}

// tagList is what list-tags prints, with skopeo's names for things.
type tagList struct {
	Repository string
	Tags       []string
}

func (o *listTagsOptions) run(ctx context.Context, name string, stdout io.Writer) error {
	list, err := o.list(ctx, name)
	if err != nil {
		return fmt.Errorf("listing the tags of %s: %w", name, err)
	}
	return printJSON(list, stdout)
}

func (o *listTagsOptions) list(ctx context.Context, name string) (*tagList, error) {
	if repository, ok := strings.CutPrefix(name, "composefs:"); ok {
		return listComposefsTags(ctx, repository)
	}
	repository, ok := strings.CutPrefix(name, "docker://")
	if !ok {
		return nil, errors.New("only composefs: and docker:// have tags to list")
	}
	named, err := dockerreference.ParseNormalizedNamed(repository)
	if err != nil {
		return nil, err
	}
	if !dockerreference.IsNameOnly(named) {
		return nil, errors.New("the name of a repository has no tag and no digest")
	}
	ref, err := docker.NewReference(dockerreference.TagNameOnly(named))
	if err != nil {
		return nil, err
	}
	sys := o.global.systemContext()
	if err := o.registry.apply(sys); err != nil {
		return nil, err
	}
	tags, err := docker.GetRepositoryTags(ctx, sys, ref)
	return &tagList{named.Name(), tags}, err
}

// listComposefsTags lists the tags of the repository whose path is in brackets, or of
// the default one.
func listComposefsTags(ctx context.Context, repository string) (*tagList, error) {
	path, err := defaultrepo.Path()
	if repository != "" {
		var closed bool
		path, closed = strings.CutSuffix(strings.TrimPrefix(repository, "["), "]")
		if !closed || !strings.HasPrefix(repository, "[") || path == "" {
			return nil, errors.New("the path of the repository must be in brackets: composefs:[REPOSITORY]")
		}
		err = nil
	}
	if err != nil {
		return nil, err
	}
	repo, err := composefsrepo.Open(ctx, path, nil)
	if err != nil {
		return nil, err
	}
	defer repo.Close()
	tags, err := repo.Tags()
	return &tagList{repo.Path(), tags}, err
}

// repoTags returns the tags of the images that have the same name as the one of a
// source: all those of its repository in a registry, or in a composefs repository.
func repoTags(ctx context.Context, src types.ImageSource, sys *types.SystemContext) ([]string, error) {
	name := src.Reference().DockerReference()
	tags := []string{}
	switch src.Reference().Transport().Name() {
	case docker.Transport.Name():
		return docker.GetRepositoryTags(ctx, sys, src.Reference())
	case "composefs":
		if name == nil {
			return tags, nil
		}
		repo, err := openRepositoryOf(ctx, src.Reference())
		if err != nil {
			return nil, err
		}
		defer repo.Close()
		all, err := repo.Tags()
		if err != nil {
			return nil, err
		}
		for _, tag := range all {
			if other, ok := strings.CutPrefix(tag, name.Name()+":"); ok && !strings.Contains(other, "/") {
				tags = append(tags, other)
			}
		}
	}
	return tags, nil
}

// openRepositoryOf opens the repository of a composefs image's resolved reference. The
// caller closes it.
func openRepositoryOf(ctx context.Context, ref types.ImageReference) (*composefsrepo.Repo, error) {
	named, err := reference.Parse(ref.StringWithinTransport())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", transports.ImageName(ref), err)
	}
	return composefsrepo.Open(ctx, named.Repository(), nil)
}
