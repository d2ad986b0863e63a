package attached

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/containers/image/v5/docker"
	"github.com/containers/image/v5/docker/reference"
	"github.com/containers/image/v5/types"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/skopeo-cfs/skopeo-cfs/internal/registries"
)

// A registry has the sigstore signatures of a manifest as the layers of an image with
// a tag that is made of the manifest's digest. The format is cosign's
// (specs/SIGNATURE_SPEC.md there).

// tagOf returns the tag of what is attached to a manifest.
func tagOf(d digest.Digest, kind string) string {
	return strings.Replace(d.String(), ":", "-", 1) + "." + kind
}

// FromRegistry returns the sigstore signatures that the repository of a name has of the
// manifest with a digest; none where it has none. The error wraps ErrInvalid or is that
// of reaching the registry.
func FromRegistry(ctx context.Context, sys *types.SystemContext, named reference.Named, d digest.Digest) ([]Signature, error) {
	repository, err := registries.Open(ctx, sys, named)
	if err != nil {
		return nil, err
	}
	signatures, err := signaturesIn(ctx, repository, d)
	if err != nil {
		return nil, fmt.Errorf("reading signatures of %s in %s: %w", d, named.Name(), err)
	}
	return signatures, nil
}

func signaturesIn(ctx context.Context, repository *remote.Repository, d digest.Digest) ([]Signature, error) {
	m, err := attachment(ctx, repository, tagOf(d, "sig"))
	if m == nil || err != nil {
		return nil, err
	}
	var all []Signature
	total := 0
	for _, l := range m.Layers {
		if l.Size < 0 || l.Size > maxSignature || len(all) == maxSignatures || total > maxAll {
			return nil, fmt.Errorf("%w: too many, or too large", ErrInvalid)
		}
		payload, err := content.FetchAll(ctx, repository.Blobs(), l) // checks size and digest
		if err != nil {
			return nil, err
		}
		total += len(payload)
		s, err := sigstore{l.MediaType, payload, l.Annotations}.signature()
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

// attachment returns the manifest of what has a tag, nil where nothing has it.
func attachment(ctx context.Context, repository *remote.Repository, tag string) (*imgspecv1.Manifest, error) {
	descriptor, body, err := repository.Manifests().FetchReference(ctx, tag)
	if errors.Is(err, errdef.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer body.Close()
	if descriptor.Size > maxManifest {
		return nil, fmt.Errorf("%w: manifest of %d bytes", ErrInvalid, descriptor.Size)
	}
	raw, err := content.ReadAll(io.LimitReader(body, maxManifest+1), descriptor)
	if err != nil {
		return nil, err
	}
	var m imgspecv1.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, fmt.Errorf("%w: %.200q", ErrInvalid, err.Error())
	}
	for _, l := range m.Layers {
		if err := l.Digest.Validate(); err != nil {
			return nil, fmt.Errorf("%w: %.100q: %w", ErrInvalid, l.Digest, err)
		}
	}
	return &m, nil
}

// ToRegistry adds the sigstore signatures of the manifest with a digest to the
// repository of a name, beside those that are there. It returns how many it has added;
// signatures of other kinds are not.
func ToRegistry(ctx context.Context, sys *types.SystemContext, named reference.Named, d digest.Digest, signatures []Signature) (added int, err error) {
	repository, err := registries.Open(ctx, sys, named)
	if err != nil {
		return 0, err
	}
	there, err := signaturesIn(ctx, repository, d)
	if err != nil {
		return 0, fmt.Errorf("reading the signatures of %s that are in %s: %w", d, named.Name(), err)
	}
	m := imgspecv1.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: imgspecv1.MediaTypeImageManifest}
	config := imgspecv1.Image{RootFS: imgspecv1.RootFS{Type: "layers"}}
	for _, s := range Union(there, signatures) {
		fields, err := s.sigstore()
		if err != nil {
			continue
		}
		layer, err := pushBlob(ctx, repository, fields.MIMEType, fields.Payload)
		if err != nil {
			return 0, fmt.Errorf("writing a signature of %s to %s: %w", d, named.Name(), err)
		}
		layer.Annotations = fields.Annotations
		m.Layers = append(m.Layers, layer)
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, layer.Digest)
	}
	if added = len(m.Layers) - len(there); added == 0 {
		return 0, nil
	}
	rawConfig, err := json.Marshal(config)
	if err != nil {
		return 0, err
	}
	if m.Config, err = pushBlob(ctx, repository, imgspecv1.MediaTypeImageConfig, rawConfig); err != nil {
		return 0, fmt.Errorf("writing signatures of %s to %s: %w", d, named.Name(), err)
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return 0, err
	}
	descriptor := content.NewDescriptorFromBytes(m.MediaType, raw)
	if err := repository.Manifests().PushReference(ctx, descriptor, bytes.NewReader(raw), tagOf(d, "sig")); err != nil {
		return 0, fmt.Errorf("writing signatures of %s to %s: %w", d, named.Name(), err)
	}
	return added, nil
}

// pushBlob writes a blob that the repository may have.
func pushBlob(ctx context.Context, repository *remote.Repository, mediaType string, raw []byte) (imgspecv1.Descriptor, error) {
	descriptor := content.NewDescriptorFromBytes(mediaType, raw)
	there, err := repository.Blobs().Exists(ctx, descriptor)
	if err == nil && !there {
		err = repository.Blobs().Push(ctx, descriptor, bytes.NewReader(raw))
	}
	return descriptor, err
}

// FromLookaside returns the OpenPGP signatures that containers/image finds of the
// manifest with a digest in the repository of a name: where registries.d(5) says, or in
// the registry itself if that has an interface for them.
func FromLookaside(ctx context.Context, sys *types.SystemContext, named reference.Named, d digest.Digest) (_ []Signature, err error) {
	name, err := reference.WithDigest(reference.TrimNamed(named), d)
	if err != nil {
		return nil, err
	}
	ref, err := docker.NewReference(name)
	if err != nil {
		return nil, err
	}
	src, err := ref.NewImageSource(ctx, sys)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	found, err := src.GetSignatures(ctx, nil)
	if err != nil {
		return nil, err
	}
	var all []Signature
	for _, s := range found {
		if len(all) == maxSignatures || len(s) > maxSignature {
			return nil, fmt.Errorf("%w: too many, or too large", ErrInvalid)
		}
		all = append(all, s)
	}
	return all, nil
}
