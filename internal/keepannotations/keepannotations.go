// Package keepannotations keeps the annotations of layers in copies of images.
// copy.Image of containers/image loses the annotations of a layer that it compresses,
// but keeps them if it finds the compressed blob at the destination. So the second copy
// of an image would have another digest than the first.
package keepannotations

import (
	"context"
	"errors"
	"fmt"

	"github.com/containers/image/v5/copy"
	"github.com/containers/image/v5/docker/reference"
	"github.com/containers/image/v5/manifest"
	"github.com/containers/image/v5/signature"
	"github.com/containers/image/v5/transports"
	"github.com/containers/image/v5/types"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/skopeo-cfs/skopeo-cfs/internal/blobannotations"
	"github.com/skopeo-cfs/skopeo-cfs/internal/sources"
)

// ErrUnsupported: an option of the copy can't be served together with annotations
// that have to be kept.
var ErrUnsupported = errors.New("not supported if annotations of layers are kept")

// Of returns the annotations of each layer of the manifest that is an image's at
// its source, without those that are wrong of a layer which is compressed anew; nil
// if no layer has any.
func Of(ctx context.Context, src types.ImageSource) ([]map[string]string, error) {
	raw, mediaType, err := src.GetManifest(ctx, nil)
	if err != nil {
		return nil, err
	}
	if manifest.NormalizedMIMEType(mediaType) != imgspecv1.MediaTypeImageManifest {
		return nil, nil // no other has any that last
	}
	m, err := manifest.OCI1FromManifest(raw)
	if err != nil {
		return nil, fmt.Errorf("reading the manifest of %s: %w", transports.ImageName(src.Reference()), err)
	}
	annotations, some := make([]map[string]string, len(m.Layers)), false
	for i, l := range m.Layers {
		annotations[i] = blobannotations.Without(l.Annotations)
		some = some || len(annotations[i]) > 0
	}
	if !some {
		return nil, nil
	}
	return annotations, nil
}

// Image is copy.Image, but for the annotations that Of has returned of the source:
// where the manifest at the destination is OCI's, its layers have them. The
// manifest that it returns is the one that is stored.
//
// A copy to be signed is signed in a second step, when it is complete. The error
// wraps ErrUnsupported where that can't be done, or another option can't be served:
// signing what is compressed on the way to a directory, and timestamps in archives.
func Image(ctx context.Context, policy *signature.PolicyContext, dest, src types.ImageReference, options *copy.Options, annotations []map[string]string) ([]byte, error) {
	if options == nil {
		options = &copy.Options{}
	}
	if annotations == nil || !loses(dest, options) {
		return copy.Image(ctx, policy, dest, src, options)
	}
	unsigned, sign, err := split(dest, options)
	if err != nil {
		return nil, err
	}
	to := &destinationReference{ImageReference: dest, annotations: annotations}
	copied, err := copy.Image(ctx, policy, to, src, unsigned)
	if err != nil {
		return nil, err
	}
	if to.stored != nil { // else it was there before
		copied = to.stored
	}
	if sign == nil {
		return copied, nil
	}
	if err := signCopy(ctx, dest, copied, sign); err != nil {
		return nil, fmt.Errorf("signing what was copied to %s: %w", transports.ImageName(dest), err)
	}
	return copied, nil
}

// loses tells whether a copy to dest may lose annotations that dest could have.
func loses(dest types.ImageReference, options *copy.Options) bool {
	if options.PreserveDigests || options.ForceManifestMIMEType != "" && options.ForceManifestMIMEType != imgspecv1.MediaTypeImageManifest {
		return false
	}
	if _, ok := dest.DockerReference().(reference.Digested); ok {
		return false // nothing is compressed
	}
	switch dest.Transport().Name() {
	case "containers-storage", "docker-archive", "docker-daemon":
		return false
	case "dir":
		return options.DestinationCtx != nil && options.DestinationCtx.DirForceCompress
	}
	return true
}

// split returns the options of the copy, and those of what signs it, nil if
// nothing does. destination serves fewer of them than the library's own.
func split(dest types.ImageReference, options *copy.Options) (unsigned, sign *copy.Options, err error) {
	if options.DestinationTimestamp != nil && dest.Transport().Name() == "oci-archive" {
		return nil, nil, fmt.Errorf("setting timestamps in an archive: %w", ErrUnsupported)
	}
	if len(options.Signers) == 0 && options.SignBy == "" && options.SignBySigstorePrivateKeyFile == "" {
		return options, nil, nil
	}
	if dest.Transport().Name() != "docker" {
		// To open a directory for writing empties it.
		return nil, nil, fmt.Errorf("signing a copy to %s: %w", transports.ImageName(dest), ErrUnsupported)
	}
	unsigned, sign = new(copy.Options), new(copy.Options)
	*unsigned, *sign = *options, *options
	unsigned.Signers, unsigned.SignBy, unsigned.SignBySigstorePrivateKeyFile, unsigned.SignIdentity = nil, "", "", nil
	sign.SourceCtx, sign.PreserveDigests, sign.ReportResolvedReference = options.DestinationCtx, true, nil
	sign.RemoveSignatures = true // those of the copy that was there before
	return unsigned, sign, nil
}

// signCopy copies what was stored at dest to where it is, with the signatures that
// the options ask for. It must be that still.
func signCopy(ctx context.Context, dest types.ImageReference, stored []byte, options *copy.Options) error {
	policy, err := sources.AcceptAll() // it is what was copied, or refused
	if err != nil {
		return err
	}
	defer func() { _ = policy.Destroy() }() // of a context that is not in use, never fails
	_, err = copy.Image(ctx, policy, dest, &storedReference{dest, stored}, options)
	return err
}
