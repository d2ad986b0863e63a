package composefsrepo

import (
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
)

// referrerDir has a directory for each manifest that others refer to, and in it
// a link for each of those. See composefs-oci's add_referrer.
const referrerDir = streamDir + "/refs/oci-referrers"

// Referrers returns the digests of the manifests that the repository has noted
// as referring to the manifest with the digest subject, sorted: signatures and
// other artifacts. They may be gone.
func (r *Repo) Referrers(subject digest.Digest) ([]digest.Digest, error) {
	if err := subject.Validate(); err != nil {
		return nil, fmt.Errorf("digest %.200q: %w", subject, err)
	}
	names, err := r.names(referrerDir + "/" + subject.String())
	if err != nil {
		return nil, fmt.Errorf("listing what refers to %s: %w", subject, err)
	}
	var referrers []digest.Digest
	for _, name := range names {
		if d, err := digest.Parse(name); err == nil {
			referrers = append(referrers, d)
		}
	}
	slices.Sort(referrers)
	return referrers, nil
}
