package attached

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containers/image/v5/directory"
	"github.com/containers/image/v5/image"
	"github.com/containers/image/v5/signature"
	"github.com/containers/image/v5/types"
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
	dir, err := os.MkdirTemp(tmp, "signatures")
	if err != nil {
		return fmt.Errorf("making a directory for signatures: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := os.WriteFile(filepath.Join(dir, "manifest.json"), manifest, 0o600); err != nil {
		return err
	}
	for i, s := range signatures {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("signature-%d", i+1)), s, 0o600); err != nil {
			return err
		}
	}
	at, err := directory.NewReference(dir)
	if err != nil {
		return err
	}
	src, err := at.NewImageSource(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	unparsed := image.UnparsedInstanceWithReference(image.UnparsedInstance(src, nil), ref)
	allowed, err := policy.IsRunningImageAllowed(ctx, unparsed)
	if err == nil && !allowed {
		err = errors.New("it is not allowed")
	}
	if err != nil {
		return fmt.Errorf("source image rejected: %w", err)
	}
	return nil
}
