// Package attached finds and copies what is attached to an image: its signatures, and
// artifacts that refer to it, such as SBOMs. A composefs repository does not have them.
// They are found in the registry that the image came from, or in a containers-storage.
// They go with the image to a registry or a containers-storage if the manifest is the
// one that they belong to.
//
// The package does not check signatures. A trust policy does that: see Signed.
package attached

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	"github.com/skopeo-cfs/skopeo-cfs/internal/sources"
)

var (
	// ErrInvalid: what was found is no signature, or there are more than an image has.
	ErrInvalid = errors.New("not valid signatures")
)

// The bounds of what is read. The size of one is that of containers/image.
const (
	maxSignature  = 4 << 20  // bytes of one
	maxSignatures = 128      // of an image
	maxAll        = 16 << 20 // bytes of all of an image's
	maxManifest   = 4 << 20  // bytes
	maxReferrers  = 128      // of an image
)

// Signature is a signature in the form in which containers-storage and directories of
// containers/image keep it: one of OpenPGP as it is, one of sigstore behind a header.
type Signature []byte

// sigstoreHeader begins a sigstore signature, whose JSON follows.
const sigstoreHeader = sources.SigstoreHeader

// sigstore is what is in a sigstore signature.
type sigstore struct {
	MIMEType    string            `json:"mimeType"`
	Payload     []byte            `json:"payload"`
	Annotations map[string]string `json:"annotations"`
}

// newSignature returns the signature that has the fields.
func (s sigstore) signature() (Signature, error) {
	raw, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	return append([]byte(sigstoreHeader), raw...), nil
}

func (s sigstore) equal(o sigstore) bool {
	return s.MIMEType == o.MIMEType && bytes.Equal(s.Payload, o.Payload) && maps.Equal(s.Annotations, o.Annotations)
}

// IsSigstore tells whether it is a signature of sigstore, the only ones that registries
// have as attachments.
func (s Signature) IsSigstore() bool { return bytes.HasPrefix(s, []byte(sigstoreHeader)) }

// sigstore returns the fields of a sigstore signature.
func (s Signature) sigstore() (sigstore, error) {
	raw, ok := bytes.CutPrefix(s, []byte(sigstoreHeader))
	if !ok {
		return sigstore{}, fmt.Errorf("%w: not a sigstore signature", ErrInvalid)
	}
	var fields sigstore
	if err := json.Unmarshal(raw, &fields); err != nil {
		return sigstore{}, fmt.Errorf("%w: %.200q", ErrInvalid, err.Error())
	}
	return fields, nil
}

// Union returns the signatures of a, and those of b that are not among them.
func Union(a, b []Signature) []Signature {
	all := append([]Signature{}, a...)
	for _, s := range b {
		if !contains(all, s) {
			all = append(all, s)
		}
	}
	return all
}

func contains(all []Signature, s Signature) bool {
	fields, err := s.sigstore()
	for _, other := range all {
		if bytes.Equal(other, s) {
			return true
		}
		if otherFields, otherErr := other.sigstore(); err == nil && otherErr == nil && fields.equal(otherFields) {
			return true
		}
	}
	return false
}
