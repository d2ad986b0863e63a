package sources

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/containers/image/v5/directory"
	"github.com/containers/image/v5/image"
	"github.com/containers/image/v5/signature"
	"github.com/containers/image/v5/types"
)

// SigstoreHeader begins a sigstore signature where containers/image stores it together
// with others; its JSON follows.
const SigstoreHeader = "\x00sigstore-json\n"

// HasSigstore tells whether one of the signatures is sigstore's.
func HasSigstore(signatures [][]byte) bool {
	return slices.ContainsFunc(signatures, func(s []byte) bool { return bytes.HasPrefix(s, []byte(SigstoreHeader)) })
}

// AcceptAll returns a policy that accepts every image, for one that has been judged. The
// caller destroys it.
func AcceptAll() (*signature.PolicyContext, error) {
	return signature.NewPolicyContext(&signature.Policy{
		Default: []signature.PolicyRequirement{signature.NewPRInsecureAcceptAnything()},
	})
}

// Allowed asks a policy for an image with a manifest and signatures that were found,
// and with the reference that policies are applied to. It returns nil if the policy
// allows the image, and otherwise why not.
//
// The signatures are written to a directory in tmp, "" for the system's, that is
// removed: the interface by which sources hand out signatures has only those of
// OpenPGP, but the sources of directories have more.
func Allowed(ctx context.Context, policy *signature.PolicyContext, ref types.ImageReference, manifest []byte, signatures [][]byte, tmp string) (err error) {
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
