// Package rearchive serves images of composefs repositories to copy.Image of
// containers/image if the streams do not rebuild the layers that were imported, and
// lack more than zeros at the end. It writes the entries of the tars that the streams
// do rebuild to new tars.
//
// The result is another image. Its config and its manifest are the old ones except for
// the digests, sizes and media types of layers. Labels, annotations and the history are
// kept, and each entry of the history has the layer that it had. Layers that are right
// are served as they are. The same image always gives the same digests.
//
// A layer with an altered object is never re-archived, because its content is not what
// importers have written. A layer that was cut on import is not re-archived either,
// because files are missing.
package rearchive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"

	"github.com/containers/image/v5/types"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/internal/sources"
	"github.com/skopeo-cfs/skopeo-cfs/source"
)

// Reference returns a reference to the image that ref, a composefs reference,
// refers to, re-archived if need be: its image sources are what New makes of
// ref's. Other references stay as they are.
func Reference(ref types.ImageReference) types.ImageReference {
	return sources.Mended(ref, New)
}

// New returns what serves the image of src re-archived, a *Source; or, where
// every layer is right, or lacks only zeros that can be added (see
// composefsrepo.Image.Repaired), one that serves the image itself. It reads all
// layers, several at once, and those that are to be re-archived again. What it
// returns takes the place of src, and closes it. The error is that of ctx, or of
// the first layer that can't be re-archived, composefsrepo's where the
// repository is at fault.
func New(ctx context.Context, src *source.Source) (types.ImageSource, error) {
	image, faults, err := src.Image().Repaired(ctx)
	if err != nil {
		return nil, err
	}
	s := &Source{src: source.New(src.Reference(), src, image), layers: make([]layer, len(image.Layers))}
	changed := false
	for i, l := range image.Layers {
		s.layers[i] = layer{index: i, info: sources.LayerInfo(l)}
		var other *composefsrepo.OtherTarError
		switch {
		case errors.As(faults[i], &other) && !other.Cut:
			s.layers[i].other, s.layers[i].open = other.Digest, other.Open
			changed = true
		case faults[i] != nil:
			return nil, faults[i]
		}
	}
	if !changed {
		return s.src, nil
	}
	if err := s.describe(ctx); err != nil {
		return nil, err
	}
	return s, s.writeDocuments()
}

// Source is a types.ImageSource. It may be used concurrently.
type Source struct {
	src              *source.Source
	layers           []layer
	config, manifest []byte
	configDigest     digest.Digest
}

var _ types.ImageSource = (*Source)(nil)

// layer is a layer of the new image.
type layer struct {
	index int           // in the old image
	other digest.Digest // of what the old layer's stream rebuilds, "" where that is the layer
	open  func(context.Context) (io.ReadCloser, error)
	info  types.BlobInfo
}

// Change is a layer of which there is another in the new image.
type Change struct {
	Old, New digest.Digest // diff IDs
}

// Changes returns the layers that are others in the new image, the lowest first.
func (s *Source) Changes() []Change {
	var changes []Change
	for _, l := range s.layers {
		if l.other != "" {
			changes = append(changes, Change{s.src.Image().Layers[l.index].DiffID, l.info.Digest})
		}
	}
	return changes
}

// describe finds the digests and the sizes of the layers that are re-archived.
func (s *Source) describe(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	first := map[digest.Digest]int{} // a tar may be that of several layers
	for i, l := range s.layers {
		if _, again := first[l.other]; again || l.other == "" {
			continue
		}
		first[l.other] = i
		group.Go(func() (err error) {
			s.layers[i].info, err = s.rearchive(ctx, l, io.Discard)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for i, l := range s.layers {
		if l.other != "" {
			done := s.layers[first[l.other]].info
			s.layers[i].info = s.changedInfo(l, done.Digest, done.Size)
		}
	}
	return nil
}

// changedInfo describes a layer that is another now.
func (s *Source) changedInfo(l layer, diffID digest.Digest, size int64) types.BlobInfo {
	changed := s.src.Image().Layers[l.index]
	changed.DiffID, changed.Size = diffID, size
	return sources.LayerInfo(changed)
}

// Reference returns that of the source that New was given, which policies are
// applied to.
func (s *Source) Reference() types.ImageReference { return s.src.Reference() }

// Close closes the source that New was given. It may be called again.
func (s *Source) Close() error { return s.src.Close() }

// GetManifest returns the new manifest, and its media type, which is the old
// one's.
func (s *Source) GetManifest(ctx context.Context, instance *digest.Digest) ([]byte, string, error) {
	_, mediaType, err := s.src.GetManifest(ctx, instance)
	return s.manifest, mediaType, err
}

// GetSignatures returns none: none are of this manifest.
func (s *Source) GetSignatures(ctx context.Context, instance *digest.Digest) ([][]byte, error) {
	_, _, err := s.src.GetManifest(ctx, instance)
	return nil, err
}

// LayerInfosForCopy returns nil: the layers are the manifest's.
func (s *Source) LayerInfosForCopy(ctx context.Context, instance *digest.Digest) ([]types.BlobInfo, error) {
	_, _, err := s.src.GetManifest(ctx, instance)
	return nil, err
}

// HasThreadSafeGetBlob tells that layers may be read side by side.
func (s *Source) HasThreadSafeGetBlob() bool { return true }

// GetBlob returns the new config or a layer of the new image, and its size in
// bytes. The caller closes it. Reading it ends with an error where the content
// does not have the digest.
func (s *Source) GetBlob(ctx context.Context, info types.BlobInfo, cache types.BlobInfoCache) (io.ReadCloser, int64, error) {
	if info.Digest == s.configDigest {
		return io.NopCloser(bytes.NewReader(s.config)), int64(len(s.config)), nil
	}
	for _, l := range s.layers {
		if l.info.Digest != info.Digest {
			continue
		}
		if l.other != "" {
			return s.open(ctx, l), l.info.Size, nil
		}
		return s.src.GetBlob(ctx, info, cache)
	}
	return nil, 0, fmt.Errorf("blob %s: not a blob of the re-archived image: %w", info.Digest, composefsrepo.ErrNotFound)
}
