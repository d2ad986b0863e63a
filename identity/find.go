package identity

import (
	"context"
	"errors"
	"time"

	"github.com/containers/image/v5/docker/reference"
	"github.com/containers/image/v5/types"
	"github.com/opencontainers/go-digest"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/internal/await"
)

// Level is how far a manifest is looked for.
type Level string

// The levels, each of which includes those before it.
const (
	LevelStored Level = "stored" // not beyond the repository
	LevelLocal  Level = "local"  // on this machine
	LevelOrigin Level = "origin" // in the registry that the image came from, too
)

// Options say where a manifest is looked for. The zero Options look nowhere but in
// the repository.
type Options struct {
	Level Level
	// Cache is the directory in which manifests are kept that were found, "" for
	// none. It is made if need be. It may be used by several processes.
	Cache string
	// Stores are the root directories of containers-storages, and Layouts are OCI
	// layouts. They are only read, and nobody's locks are waited for.
	Stores, Layouts []string
	// Origins are the image's names in registries, and Digests those of its
	// manifest or index, as far as they are known: a name may stand for another
	// image by now.
	Origins []reference.Named
	Digests []digest.Digest
	// System is the context of registries; it may be nil.
	System *types.SystemContext
	// Timeout is how long a registry has for all its answers, 0 for 10 seconds.
	Timeout time.Duration
}

const defaultTimeout = 10 * time.Second

// Find returns the manifest that a registry has of the image, if it is found, and
// otherwise the repository's. It looks at the repository, the cache, the stores, the
// layouts and the origins, in that order, and ends with the first manifest that
// Accept takes. The refusals say why those before it did not give one; places that do
// not exist are not among them. That something can't be reached is a refusal; the
// only error is that of ctx.
func Find(ctx context.Context, image *composefsrepo.Image, o Options) (*Found, []Refusal, error) {
	s := &search{image: image, options: o, system: platformOf(image, o.System)}
	found := s.stored()
	if found.Original || !isImage(image) {
		return found, nil, nil
	}
	if o.Level == LevelLocal || o.Level == LevelOrigin {
		other, err := s.look(ctx)
		if err != nil {
			return nil, nil, err
		}
		if other != nil {
			return other, s.refusals, nil
		}
	}
	if s.fallback != nil {
		found = s.fallback
	}
	return found, s.refusals, nil
}

// isImage tells whether all layers are tars.
func isImage(image *composefsrepo.Image) bool {
	for _, l := range image.Layers {
		if l.DiffID == "" {
			return false
		}
	}
	return len(image.Layers) > 0
}

// search is one call of Find.
type search struct {
	image    *composefsrepo.Image
	options  Options
	system   *types.SystemContext // asks for the image's platform
	refusals []Refusal
	fallback *Found // lists uncompressed layers, where the repository has no manifest
}

// stored returns the repository's manifest.
func (s *search) stored() *Found {
	f := &Found{Image: s.image, Source: Source{Kind: Stored}, Original: compresses(s.image)}
	if s.image.Synthesised {
		f.Source.Kind = Made
	}
	return f
}

// look returns what is found beyond the repository, nil where nothing is.
func (s *search) look(ctx context.Context) (*Found, error) {
	if found := s.cached(); found != nil {
		return found, nil
	}
	var found *Found
	err := await.Do(ctx, func() error { // a filesystem may hang
		local := *s
		found = local.local(ctx)
		s.refusals, s.fallback = local.refusals, local.fallback
		return ctx.Err()
	})
	if err != nil {
		return nil, err
	}
	if found == nil && s.options.Level == LevelOrigin {
		if found, err = s.origins(ctx); err != nil {
			return nil, err
		}
	}
	if found != nil {
		s.keep(found)
	}
	return found, nil
}

// local looks at the stores and the layouts.
func (s *search) local(ctx context.Context) *Found {
	for _, root := range s.options.Stores {
		if found := s.store(root); found != nil || ctx.Err() != nil {
			return found
		}
	}
	for _, path := range s.options.Layouts {
		if found := s.layout(ctx, path); found != nil || ctx.Err() != nil {
			return found
		}
	}
	return nil
}

// origins asks the registries.
func (s *search) origins(ctx context.Context) (*Found, error) {
	timeout := s.options.Timeout
	if timeout == 0 {
		timeout = defaultTimeout
	}
	for _, named := range s.options.Origins {
		limited, cancel := context.WithTimeout(ctx, timeout)
		found, err := s.registry(limited, named)
		cancel()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if found != nil {
			return found, nil
		}
		s.refuse(Source{Kind: Registry, Where: named.String()}, err)
	}
	return nil, nil
}

// refuse notes why a place did not give the manifest.
func (s *search) refuse(at Source, err error) {
	if errors.Is(err, context.DeadlineExceeded) {
		err = ErrTimeout
	}
	s.refusals = append(s.refusals, Refusal{at, err})
}

// accept returns what a manifest that was read from somewhere comes to.
func (s *search) accept(at Source, raw []byte, want digest.Digest) (*Found, error) {
	image, err := Accept(s.image, raw, want)
	if err != nil {
		return nil, err
	}
	found := &Found{Image: image, Source: at, Original: at.Kind == Registry || compresses(image)}
	if found.Original {
		return found, nil
	}
	if s.image.Synthesised && s.fallback == nil {
		s.fallback = found
	}
	return nil, ErrUncompressed
}
