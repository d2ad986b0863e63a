package zerocopy

import (
	"context"

	"github.com/containers/image/v5/signature"
	"github.com/containers/image/v5/types"

	"github.com/skopeo-cfs/skopeo-cfs/internal/sources"
	"github.com/skopeo-cfs/skopeo-cfs/source"
)

// judge asks the policy for an image that has signatures of sigstore, which copy.Image
// could not ask it with. Then it returns a policy that accepts the image, which is to be
// destroyed: the source keeps the manifest that was judged. Otherwise it returns the
// policy itself.
func judge(ctx context.Context, policy *signature.PolicyContext, src *source.Source, sys *types.SystemContext) (*signature.PolicyContext, error) {
	signatures, err := src.Signatures(ctx)
	if err != nil || !sources.HasSigstore(signatures) {
		return policy, err
	}
	tmp := ""
	if sys != nil {
		tmp = sys.BigFilesTemporaryDir
	}
	if err := sources.Allowed(ctx, policy, src.Reference(), src.Image().Manifest, signatures, tmp); err != nil {
		return nil, err
	}
	return sources.AcceptAll()
}
