package source

import (
	"bytes"
	"context"
	"fmt"
	"sync"

	"github.com/containers/image/v5/types"
	"github.com/opencontainers/go-digest"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/internal/notice"
	"github.com/skopeo-cfs/skopeo-cfs/internal/sources"
)

// FindSignatures returns the signatures that there are of an image's manifest, in the
// form in which containers-storage keeps them: one of OpenPGP as it is, one of sigstore
// behind a header. Nothing that it returns is believed.
type FindSignatures func(ctx context.Context, image *composefsrepo.Image) ([][]byte, error)

// Signed returns a reference to the image that ref refers to, a composefs reference,
// whose image sources have signatures: those that find finds. It is called when a
// source is first asked for them, and again only if it fails. Other references stay as
// they are.
//
// An image with signatures can't be copied to where they can't go along, unless
// copy.Options.RemoveSignatures is set: into a manifest that has to be another, and to
// places that keep none. That is so for all transports.
func Signed(ref types.ImageReference, find FindSignatures) types.ImageReference {
	return sources.Mended(ref, func(_ context.Context, s *Source) (types.ImageSource, error) {
		signed := s.With(s.image)
		signed.signatures = &signatures{find: find}
		return signed, nil
	})
}

// With returns a source of another image of the same reference, as of a manifest that
// was looked for elsewhere: with the signatures of that, if there are any to find. It
// takes the place of s, which it closes when it is closed.
func (s *Source) With(image *composefsrepo.Image) *Source {
	other := New(s.reference, s, image)
	if s.signatures != nil {
		other.signatures = &signatures{find: s.signatures.find}
	}
	return other
}

// signatures are those of an image's manifest.
type signatures struct {
	find  FindSignatures
	mutex sync.Mutex
	done  bool
	found [][]byte
	said  sync.Once
}

// Signatures returns the signatures of the manifest, of both kinds, in the form that
// FindSignatures has; none where nobody said how to find them.
func (s *Source) Signatures(ctx context.Context) ([][]byte, error) {
	if s.signatures == nil {
		return nil, nil
	}
	s.signatures.mutex.Lock()
	defer s.signatures.mutex.Unlock()
	if s.signatures.done {
		return s.signatures.found, nil
	}
	found, err := s.signatures.find(ctx, s.image)
	if err != nil {
		return nil, fmt.Errorf("looking for signatures of %s: %w", s.image.ManifestDigest, err)
	}
	s.signatures.found, s.signatures.done = found, true
	return found, nil
}

// GetSignatures returns the OpenPGP signatures of the manifest, if Signed has said how
// to find them. The repository itself keeps none. Those of sigstore can't be handed out:
// containers/image has an interface for them that only its own sources can have. They
// are in Signatures, where zerocopy.Copy gets them.
func (s *Source) GetSignatures(ctx context.Context, instance *digest.Digest) ([][]byte, error) {
	if err := noInstance(instance); err != nil {
		return nil, err
	}
	found, err := s.Signatures(ctx)
	if err != nil {
		return nil, err
	}
	var simple [][]byte
	for _, signature := range found {
		if !bytes.HasPrefix(signature, []byte(sources.SigstoreHeader)) {
			simple = append(simple, signature)
		}
	}
	if n := len(found) - len(simple); n > 0 {
		s.signatures.said.Do(func() {
			notice.Printf("manifest %s has signatures of sigstore, %d, which can't be handed to copy.Image, nor copied by it", s.image.ManifestDigest, n)
		})
	}
	return simple, nil
}
