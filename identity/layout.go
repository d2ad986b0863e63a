package identity

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"

	"github.com/opencontainers/go-digest"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxDocuments is how many manifests and indexes of a layout are looked at.
const maxDocuments = 1000

// layout looks for the image in an OCI layout, whatever its names are there.
func (s *search) layout(ctx context.Context, path string) *Found {
	at := Source{Kind: Layout, Where: path}
	dir, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var found *Found
	if err == nil {
		defer dir.Close()
		found, err = s.layoutImage(ctx, dir, at)
	}
	if err != nil {
		s.refuse(at, err)
	}
	return found
}

// listed is a document that another one lists.
type listed struct {
	descriptor imgspecv1.Descriptor
	index      []byte // which lists it, nil where that is the layout's own
}

// layoutImage returns the manifest of the image that the layout has, or why it has
// none.
func (s *search) layoutImage(ctx context.Context, dir *os.File, at Source) (*Found, error) {
	raw, err := readBounded(dir, "index.json", MaxManifest)
	if err != nil {
		return nil, err
	}
	top, err := parseIndex(raw)
	if err != nil {
		return nil, fmt.Errorf("index.json: %w", err)
	}
	var pending []listed
	add := func(i *index, from []byte) {
		for _, d := range i.Manifests[:min(len(i.Manifests), maxDocuments)] {
			pending = append(pending, listed{d, from})
		}
	}
	add(top, nil)
	reason := ErrNotThere
	seen := map[digest.Digest]bool{}
	for len(pending) > 0 && len(seen) < maxDocuments && ctx.Err() == nil {
		next := pending[0]
		pending = pending[1:]
		d := next.descriptor.Digest
		if seen[d] || d.Validate() != nil {
			continue
		}
		seen[d] = true
		raw, err := readBounded(dir, path.Join("blobs", d.Algorithm().String(), d.Encoded()), MaxManifest)
		if err == nil {
			err = checkDigest(raw, d)
		}
		if err != nil {
			reason = fmt.Errorf("manifest %s: %w", d, err)
			continue
		}
		if i, err := parseIndex(raw); err == nil {
			add(i, raw)
			continue
		}
		found, err := s.accept(at, raw, d)
		if found != nil {
			found.Index = next.index
			return found, nil
		}
		if !errors.Is(err, ErrOtherConfig) {
			reason = fmt.Errorf("manifest %s: %w", d, err)
		}
	}
	return nil, reason
}
