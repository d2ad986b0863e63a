//go:build !remote

package libimage

import (
	"context"

	"github.com/containers/image/v5/signature"
	storageTransport "github.com/containers/image/v5/storage"
	"github.com/containers/image/v5/transports/alltransports"
	"github.com/containers/storage"
)

// Pull copies an image into a store and returns its ID.
func Pull(ctx context.Context, store storage.Store, name string) (string, error) {
	ref, err := alltransports.ParseImageName(name)
	if err != nil {
		return "", err
	}
	policyContext, err := signature.NewPolicyContext(&signature.Policy{
		Default: []signature.PolicyRequirement{signature.NewPRInsecureAcceptAnything()},
	})
	if err != nil {
		return "", err
	}
	defer policyContext.Destroy()
	// The name of an image of a transport that is not known is its ID.
	img, err := ref.NewImage(ctx, nil)
	if err != nil {
		return "", err
	}
	defer img.Close()
	destRef, err := storageTransport.Transport.ParseStoreReference(store, "@"+img.ConfigInfo().Digest.Encoded())
	if err != nil {
		return "", err
	}
	c := &copier{policyContext: policyContext}
	image, err := c.copyToStorage(ctx, ref, destRef)
	if err != nil {
		return "", err
	}
	return image.ID, nil
}
