package transport

import (
	"context"
	"errors"
	"path/filepath"
	"strings"

	"github.com/containers/image/v5/directory/explicitfilepath"
	dockerref "github.com/containers/image/v5/docker/reference"
	"github.com/containers/image/v5/types"

	"github.com/skopeo-cfs/skopeo-cfs/internal/defaultrepo"
	"github.com/skopeo-cfs/skopeo-cfs/internal/sources"
	"github.com/skopeo-cfs/skopeo-cfs/reference"
)

// ErrReadOnly: composefs: references can't be written to, nor deleted.
var ErrReadOnly = errors.New("the composefs transport is read-only: repositories are written by their importers (bootc, cfsctl)")

// imageReference is the types.ImageReference of a composefs image.
type imageReference struct {
	reference.Reference
}

// ParseReference returns the reference that text, without the transport's name,
// is. The repository is not looked at. The error wraps reference.ErrInvalid.
func ParseReference(text string) (types.ImageReference, error) {
	r, err := reference.Parse(text)
	if err != nil {
		return nil, err
	}
	return imageReference{r}, nil
}

// NewReference returns r as a reference of containers/image.
func NewReference(r reference.Reference) types.ImageReference { return imageReference{r} }

func (r imageReference) Transport() types.ImageTransport { return Transport }

func (r imageReference) StringWithinTransport() string { return r.String() }

// DockerReference returns the tag where it is the full name of an image, with a
// version and without a digest, else nil.
func (r imageReference) DockerReference() dockerref.Named {
	named, err := dockerref.ParseNamed(r.Tag())
	if err != nil {
		return nil
	}
	if _, ok := named.(dockerref.NamedTagged); !ok {
		return nil
	}
	if _, ok := named.(dockerref.Digested); ok {
		return nil
	}
	return named
}

// hostRepository is where a host has its repository, below the root directory.
const hostRepository = "sysroot/composefs"

// repositoryPath returns the path of the repository as the user means it:
// without one, deployments are the host's, whoever the user is.
func (r imageReference) repositoryPath(sys *types.SystemContext) (string, error) {
	if r.Repository() != "" {
		return r.Repository(), nil
	}
	if r.Deployment() != "" {
		return filepath.Join(rootOf(sys), hostRepository), nil
	}
	path, err := defaultrepo.Path()
	if err != nil {
		return "", err
	}
	return filepath.Join(rootOf(sys), path), nil
}

// scopePath returns the repository's path as policies have it: absolute and
// without symlinks, where there is something at the path; "" where it has a colon.
func (r imageReference) scopePath() string {
	path, err := r.repositoryPath(nil)
	if err != nil {
		return ""
	}
	if resolved, err := explicitfilepath.ResolvePathToFullyExplicit(path); err == nil {
		path = resolved
	} else if path, err = filepath.Abs(path); err != nil {
		return ""
	}
	if strings.Contains(path, ":") {
		return ""
	}
	return path
}

// PolicyConfigurationIdentity returns /path/to/repository:NAME. Of a reference
// as it was typed NAME is what was typed; that of an image source, which
// policies are applied to, is resolved. It is "" of a path with a colon, from which
// no image source can be opened.
func (r imageReference) PolicyConfigurationIdentity() string {
	path := r.scopePath()
	if path == "" {
		return ""
	}
	return path + ":" + r.Name()
}

// PolicyConfigurationNamespaces returns the repository's path and those of the
// directories above it, but for the root, which is the default scope "".
func (r imageReference) PolicyConfigurationNamespaces() []string {
	var namespaces []string
	for path := r.scopePath(); len(path) > 1; path = filepath.Dir(path) {
		namespaces = append(namespaces, path)
	}
	return namespaces
}

// NewImage returns the image, after whatever conversions the library does. The
// caller closes it.
func (r imageReference) NewImage(ctx context.Context, sys *types.SystemContext) (types.ImageCloser, error) {
	return sources.NewImage(ctx, sys, r)
}

// NewImageDestination returns ErrReadOnly.
func (r imageReference) NewImageDestination(context.Context, *types.SystemContext) (types.ImageDestination, error) {
	return nil, ErrReadOnly
}

// DeleteImage returns ErrReadOnly.
func (r imageReference) DeleteImage(context.Context, *types.SystemContext) error {
	return ErrReadOnly
}
