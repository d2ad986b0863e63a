package transport

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/containers/image/v5/types"

	"github.com/skopeo-cfs/skopeo-cfs/bootc"
	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/internal/hosts"
	"github.com/skopeo-cfs/skopeo-cfs/reference"
	"github.com/skopeo-cfs/skopeo-cfs/source"
)

// rootOf returns the running system's root directory.
func rootOf(sys *types.SystemContext) string {
	if sys == nil || sys.RootForImplicitAbsolutePaths == "" {
		return "/"
	}
	return sys.RootForImplicitAbsolutePaths
}

// openDeployment opens the image of the deployment that the reference names.
func (r imageReference) openDeployment(ctx context.Context, sys *types.SystemContext, repo *composefsrepo.Repo) (types.ImageSource, error) {
	host, err := hosts.Open(filepath.Dir(repo.Path()), rootOf(sys))
	if err != nil {
		return nil, err
	}
	deployment, err := host.Find(r.Deployment())
	if err != nil {
		return nil, err
	}
	return sourceOf(ctx, repo, host, deployment)
}

// openByDeploymentsImage opens the image of the deployment that was made of an
// image with a name for which there is no tag, which err says.
func (r imageReference) openByDeploymentsImage(ctx context.Context, sys *types.SystemContext, repo *composefsrepo.Repo, err error) (types.ImageSource, error) {
	host, hostErr := hosts.Open(filepath.Dir(repo.Path()), rootOf(sys))
	if hostErr != nil {
		return nil, err // a repository without a host, mostly
	}
	deployment, hostErr := hosts.FindDeployment(host, r.Tag())
	if hostErr != nil {
		return nil, fmt.Errorf("%w; %w", err, hostErr)
	}
	return sourceOf(ctx, repo, host, deployment)
}

// sourceOf opens the image of a deployment. The source's reference is to bootc's
// tag for it, or else to its digest: what it is to the host may change, and is
// nothing that policies are written for.
func sourceOf(ctx context.Context, repo *composefsrepo.Repo, host *bootc.Host, deployment *bootc.Deployment) (types.ImageSource, error) {
	image, err := host.OpenImage(ctx, repo, deployment)
	if err != nil {
		return nil, err
	}
	tag := bootc.TagOf(image.ManifestDigest)
	if d, err := repo.Resolve(tag); err == nil && d == image.Name() {
		resolved, err := reference.WithTag(repo.Path(), tag)
		if err != nil {
			return nil, err
		}
		return source.New(imageReference{resolved}, repo, image), nil
	}
	resolved, err := reference.WithDigest(repo.Path(), image.Name())
	if err != nil {
		return nil, err
	}
	return source.New(imageReference{resolved}, repo, image), nil
}
