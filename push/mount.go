package push

import (
	"context"
	"errors"
	"io"

	"github.com/containers/image/v5/docker/reference"
	"github.com/containers/image/v5/types"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/internal/registries"
)

// errNotMounted: the registry wants the blob to be sent.
var errNotMounted = errors.New("not mounted")

// mounter mounts blobs from the image's other repositories of a registry.
// containers/image does so only with blobs that it has sent there itself.
type mounter struct {
	to   *remote.Repository
	from []*remote.Repository
}

// newMounter returns a mounter that mounts from those of the names that are in the
// registry. Where one can't be reached, nothing is mounted from it.
func newMounter(ctx context.Context, sys *types.SystemContext, to reference.Named, names []reference.Named) *mounter {
	m := &mounter{}
	for _, from := range names {
		if reference.Domain(from) != reference.Domain(to) || from.Name() == to.Name() {
			continue
		}
		var err error
		if m.to == nil {
			if m.to, err = registries.Open(ctx, sys, to); err != nil {
				return &mounter{}
			}
		}
		if repository, err := registries.Open(ctx, sys, from); err == nil {
			m.from = append(m.from, repository)
		}
	}
	return m
}

// mount tells whether the destination has the layer now.
func (m *mounter) mount(ctx context.Context, l composefsrepo.Layer) bool {
	for _, from := range m.from {
		// To ask for the mount of a blob that is not there begins an upload.
		if there, err := from.Blobs().Exists(ctx, l.Descriptor); err != nil || !there {
			continue
		}
		err := m.to.Mount(ctx, l.Descriptor, from.Reference.Repository, func() (io.ReadCloser, error) { return nil, errNotMounted })
		if err == nil {
			return true
		}
	}
	return false
}
