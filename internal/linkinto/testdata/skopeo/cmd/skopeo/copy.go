package main

import (
	"context"
	"fmt"

	"github.com/containers/image/v5/copy"
	"github.com/containers/image/v5/signature"
	"github.com/containers/image/v5/transports/alltransports"
)

func copyImage(ctx context.Context, from, to string) error {
	srcRef, err := alltransports.ParseImageName(from)
	if err != nil {
		return fmt.Errorf("Invalid source name %s: %w", from, err)
	}
	destRef, err := alltransports.ParseImageName(to)
	if err != nil {
		return fmt.Errorf("Invalid destination name %s: %w", to, err)
	}
	policyContext, err := signature.NewPolicyContext(&signature.Policy{
		Default: []signature.PolicyRequirement{signature.NewPRInsecureAcceptAnything()},
	})
	if err != nil {
		return err
	}
	defer policyContext.Destroy()
	_, err = copy.Image(ctx, policyContext, destRef, srcRef, &copy.Options{
		ImageListSelection: copy.CopySystemImage,
	})
	return err
}
