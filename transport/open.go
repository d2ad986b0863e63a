package transport

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/containers/image/v5/types"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/internal/hosts"
	"github.com/skopeo-cfs/skopeo-cfs/internal/notice"
	"github.com/skopeo-cfs/skopeo-cfs/reference"
	"github.com/skopeo-cfs/skopeo-cfs/source"
)

// NewImageSource opens the repository and finds the image in it. Its Reference
// is resolved: it has the repository's path without symlinks and the full tag,
// or the digest, so that a policy holds for the image whichever way it was
// named. Deployments are those of the bootc host that has the repository beside
// them. The caller closes it.
func (r imageReference) NewImageSource(ctx context.Context, sys *types.SystemContext) (types.ImageSource, error) {
	path, err := r.repositoryPath(sys)
	if err != nil {
		return nil, err
	}
	repo, err := composefsrepo.Open(ctx, path, &composefsrepo.Options{
		Waiting: func(path string) {
			notice.Printf("Waiting for composefs repository %s: another program is collecting its garbage", path)
		},
	})
	if err != nil {
		if r.Deployment() != "" && r.Repository() == "" {
			if _, hostErr := hosts.Open("", rootOf(sys)); hostErr != nil {
				return nil, hostErr
			}
		}
		return nil, err
	}
	if strings.Contains(repo.Path(), ":") { // by a symlink, the working directory, or the user's home
		return nil, errors.Join(fmt.Errorf("%w: %q", reference.ErrColon, repo.Path()), repo.Close())
	}
	src, err := r.open(ctx, sys, repo)
	if err != nil {
		repo.Close()
		return nil, fmt.Errorf("opening %s of composefs repository %s: %w", r.Name(), repo.Path(), err)
	}
	return src, nil
}

// open finds the image in the open repository.
func (r imageReference) open(ctx context.Context, sys *types.SystemContext, repo *composefsrepo.Repo) (types.ImageSource, error) {
	if r.Deployment() != "" {
		return r.openDeployment(ctx, sys, repo)
	}
	if r.Digest() != "" {
		image, err := repo.ImageByDigest(ctx, r.Digest())
		if err != nil {
			return nil, err
		}
		resolved, err := reference.WithDigest(repo.Path(), r.Digest())
		if err != nil {
			return nil, err
		}
		return source.New(imageReference{resolved}, repo, image), nil
	}
	tags, err := repo.Tags()
	if err != nil {
		return nil, err
	}
	tag, err := reference.Find(r.Tag(), tags)
	if errors.Is(err, reference.ErrUnknownTag) {
		return r.openByDeploymentsImage(ctx, sys, repo, err)
	}
	if err != nil {
		return nil, err
	}
	image, err := repo.ImageByTag(ctx, tag)
	if err != nil {
		return nil, err
	}
	resolved, err := reference.WithTag(repo.Path(), tag)
	if err != nil {
		return nil, err
	}
	return source.New(imageReference{resolved}, repo, image), nil
}
