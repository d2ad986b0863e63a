package transport

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/containers/image/v5/types"
	"github.com/sirupsen/logrus"

	"github.com/skopeo-cfs/skopeo-cfs/bootc"
	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/reference"
	"github.com/skopeo-cfs/skopeo-cfs/source"
)

// OpenHost opens the bootc host with the physical root sysroot, "" for the
// running system's, and logs what could not be read of it.
func OpenHost(sysroot string, sys *types.SystemContext) (*bootc.Host, error) {
	host, err := bootc.Open(sysroot, &bootc.Options{Root: rootOf(sys)})
	if err != nil {
		return nil, err
	}
	for _, w := range host.Warnings {
		logrus.Warnf("Host %s: %v", host.Sysroot, w)
	}
	return host, nil
}

// rootOf returns the running system's root directory.
func rootOf(sys *types.SystemContext) string {
	if sys == nil || sys.RootForImplicitAbsolutePaths == "" {
		return "/"
	}
	return sys.RootForImplicitAbsolutePaths
}

// FindDeployment returns the host's deployment of the image with a name, in
// full or as people type it, whatever the transport; of several the first, in
// the order booted, staged, rollback, others, and it logs which that is. The
// error wraps bootc.ErrNotFound, or reference.ErrAmbiguous.
func FindDeployment(host *bootc.Host, name string) (*bootc.Deployment, error) {
	var names []string
	for _, d := range host.Deployments {
		names = append(names, d.Image.Name)
	}
	image, err := reference.Find(name, distinct(names))
	if errors.Is(err, reference.ErrAmbiguous) {
		return nil, fmt.Errorf("image of a deployment in %s: %w", host.Sysroot, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w in %s: none is of an image %.300q, but of %.1000q", bootc.ErrNotFound, host.Sysroot, name, distinct(names))
	}
	var found []*bootc.Deployment
	for i := range host.Deployments {
		if host.Deployments[i].Image.Name == image {
			found = append(found, &host.Deployments[i])
		}
	}
	if len(found) > 1 {
		logrus.Warnf("%d deployments are of image %q: taking the %s one, %s", len(found), image, found[0].State, found[0].ID)
	}
	return found[0], nil
}

// distinct returns the names that are not empty, each once.
func distinct(names []string) []string {
	var out []string
	seen := map[string]bool{"": true}
	for _, name := range names {
		if !seen[name] {
			seen[name] = true
			out = append(out, name)
		}
	}
	return out
}

// openDeployment opens the image of the deployment that the reference names.
func (r imageReference) openDeployment(ctx context.Context, sys *types.SystemContext, repo *composefsrepo.Repo) (types.ImageSource, error) {
	host, err := OpenHost(filepath.Dir(repo.Path()), sys)
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
	host, hostErr := OpenHost(filepath.Dir(repo.Path()), sys)
	if hostErr != nil {
		return nil, err // a repository without a host, mostly
	}
	deployment, hostErr := FindDeployment(host, r.Tag())
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
