package attached

import (
	"context"
	"slices"

	"github.com/containers/image/v5/docker/reference"
	"github.com/containers/image/v5/signature"
	"github.com/containers/image/v5/types"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/internal/await"
	"github.com/skopeo-cfs/skopeo-cfs/internal/sources"
	"github.com/skopeo-cfs/skopeo-cfs/source"
)

// Signed asks a policy for an image with a manifest and signatures that were found,
// and with the reference that policies are applied to. It returns nil if the policy
// allows the image, and otherwise why not. The manifest must be the one that is then
// used.
//
// The signatures are written to a directory in tmp, "" for the system's, that is
// removed: the interface by which sources hand out signatures has only those of
// OpenPGP.
func Signed(ctx context.Context, policy *signature.PolicyContext, ref types.ImageReference, manifest []byte, signatures []Signature, tmp string) (err error) {
	return sources.Allowed(ctx, policy, ref, manifest, raw(signatures), tmp)
}

func raw(signatures []Signature) [][]byte {
	all := make([][]byte, len(signatures))
	for i, s := range signatures {
		all[i] = s
	}
	return all
}

// Places are where signatures are looked for.
type Places struct {
	// Stores are the root directories of containers-storages. They are only read, and
	// nobody's locks are waited for.
	Stores []string
	// Origins are names that the image has in registries, which are asked in System, a
	// context that may be nil. Without names, nothing goes to the network.
	Origins []reference.Named
	System  *types.SystemContext
}

// With returns a reference to the image that ref refers to, a composefs reference, whose
// image sources have the signatures that are found in the places: see source.Signed, for
// what that means to a copy, too. What can't be read, or is no signature, is an error
// where the signatures are asked for. Signatures are of a manifest, so where another than
// the repository's is signed, ref has to be what identity.With returns.
func With(ref types.ImageReference, places Places) types.ImageReference {
	places.Stores, places.Origins = slices.Clone(places.Stores), slices.Clone(places.Origins)
	return source.Signed(ref, func(ctx context.Context, image *composefsrepo.Image) ([][]byte, error) {
		found, err := places.find(ctx, image)
		return raw(found), err
	})
}

// find returns the signatures of an image's manifest.
func (p Places) find(ctx context.Context, image *composefsrepo.Image) ([]Signature, error) {
	var all []Signature
	for _, root := range p.Stores {
		var found []Signature
		err := await.Do(ctx, func() (err error) {
			found, err = FromStore(root, image.ConfigDescriptor.Digest.Encoded(), image.ManifestDigest)
			return err
		})
		if err != nil {
			return nil, err
		}
		all = Union(all, found)
	}
	for _, named := range p.Origins {
		found, err := FromRegistry(ctx, p.System, named, image.ManifestDigest)
		if err != nil {
			return nil, err
		}
		others, err := FromLookaside(ctx, p.System, named, image.ManifestDigest)
		if err != nil {
			return nil, err
		}
		all = Union(Union(all, found), others)
	}
	return all, nil
}
