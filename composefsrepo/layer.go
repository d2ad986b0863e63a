package composefsrepo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"os"

	"github.com/opencontainers/go-digest"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/lostzeros"
	"github.com/skopeo-cfs/skopeo-cfs/splitstream"
)

// Layer is a layer of an image, or a blob of an artifact.
type Layer struct {
	// Descriptor is the manifest's: mostly that of a compressed blob, which the
	// repository does not have.
	Descriptor imgspecv1.Descriptor
	// DiffID is the digest of the uncompressed tar, "" where the layer is a
	// blob that is kept as it was pulled.
	DiffID digest.Digest
	// Verity names the object with the layer's stream.
	Verity fsverity.Digest
	// Size is the size in bytes of what OpenLayer gives.
	Size int64

	zeros int64 // how many OpenLayer adds to what the stream has
}

// Digest returns the digest of what OpenLayer gives: the diff ID of a tar, the
// descriptor's digest of any other blob.
func (l Layer) Digest() digest.Digest {
	if l.DiffID != "" {
		return l.DiffID
	}
	return l.Descriptor.Digest
}

// layers finds the layers of a manifest.
func (r *Repo) layers(ctx context.Context, m *imgspecv1.Manifest, config *document, manifestRefs map[string]fsverity.Digest) ([]Layer, error) {
	refs := maps.Clone(config.refs)
	maps.Copy(refs, manifestRefs)

	diffIDs := make([]digest.Digest, len(m.Layers)) // an artifact has none
	if IsImageConfig(m.Config.MediaType) {
		var err error
		if diffIDs, err = parseDiffIDs(config.raw); err != nil {
			return nil, fmt.Errorf("config %s: %w", m.Config.Digest, err)
		}
		if len(diffIDs) != len(m.Layers) {
			return nil, fmt.Errorf("%w: the manifest has %d layers, config %s has %d diff IDs", ErrInvalidImage, len(m.Layers), m.Config.Digest, len(diffIDs))
		}
	}
	if err := checkBlobs(m.Layers, diffIDs); err != nil {
		return nil, err
	}
	layers := []Layer{}
	for i, descriptor := range m.Layers {
		l, err := r.layer(ctx, Layer{Descriptor: descriptor, DiffID: diffIDs[i]}, refs)
		if err != nil {
			return nil, fmt.Errorf("layer %d of %d, %s: %w", i+1, len(m.Layers), Layer{Descriptor: descriptor, DiffID: diffIDs[i]}.Digest(), err)
		}
		layers = append(layers, l)
	}
	return layers, nil
}

// checkBlobs refuses an image that has a blob with two contents.
func checkBlobs(layers []imgspecv1.Descriptor, diffIDs []digest.Digest) error {
	contents := map[digest.Digest]digest.Digest{}
	for i, l := range layers {
		if before, ok := contents[l.Digest]; ok && before != diffIDs[i] {
			return fmt.Errorf("%w: blob %s has two diff IDs, %s and %s", ErrInvalidImage, l.Digest, before, diffIDs[i])
		}
		contents[l.Digest] = diffIDs[i]
	}
	return nil
}

// layer completes a manifest's layer by its stream, which it judges by its
// content type: the manifest does not tell whether an importer has unpacked a
// blob.
func (r *Repo) layer(ctx context.Context, l Layer, refs map[string]fsverity.Digest) (Layer, error) {
	// The stream has the diff ID's name, or the blob's where the importer took
	// the image for an artifact.
	at, err := r.findLayer(l.Digest(), refs)
	if errors.Is(err, ErrNotFound) {
		if blob, blobErr := r.findBlob(l.Descriptor.Digest, refs); blobErr == nil {
			at, err = blob, nil
		}
	}
	if err != nil {
		return Layer{}, err
	}
	contentType, err := l.describe(ctx, r, at)
	if err != nil {
		return Layer{}, err
	}
	switch contentType {
	case splitstream.Layer:
	case splitstream.Blob:
		l.DiffID = ""
	default:
		return Layer{}, fmt.Errorf("%w: its stream has content type %s instead of %s or %s", ErrInvalidImage, contentType, splitstream.Layer, splitstream.Blob)
	}
	lacksZeros := l.DiffID != "" && lostzeros.May(l.Size, l.Descriptor.Size)
	if l.Digest() == l.Descriptor.Digest && l.Size != l.Descriptor.Size && !lacksZeros {
		if contentType == splitstream.Layer {
			err = errors.New("the repository may have the tar of a compressed blob, but there is no diff ID to check it against")
		} else {
			err = errors.New("it is a different blob")
		}
		return Layer{}, fmt.Errorf("%w: its stream has %d bytes, the manifest %d: %w", ErrInvalidImage, l.Size, l.Descriptor.Size, err)
	}
	return l, nil
}

// describe sets what the stream in the object at tells of the layer, and
// returns the stream's content type.
func (l *Layer) describe(ctx context.Context, r *Repo, at fsverity.Digest) (splitstream.Type, error) {
	s, err := r.openStream(ctx, at)
	if err != nil {
		return splitstream.Type{}, err
	}
	defer s.Close()
	l.Verity, l.Size = at, s.Size()
	return s.ContentType(), nil
}

// tarLayer finds a layer of which only the diff ID is known.
func (r *Repo) tarLayer(ctx context.Context, diffID digest.Digest, refs map[string]fsverity.Digest) (Layer, error) {
	l := Layer{DiffID: diffID}
	at, err := r.findLayer(diffID, refs)
	if err != nil {
		return Layer{}, err
	}
	contentType, err := l.describe(ctx, r, at)
	if err != nil {
		return Layer{}, err
	}
	if contentType != splitstream.Layer {
		return Layer{}, fmt.Errorf("%w: its stream has content type %s instead of %s", ErrInvalidImage, contentType, splitstream.Layer)
	}
	return l, nil
}

// findLayer returns the object with a layer's stream: through the references of
// the manifest and the config, which their own verity covers, else by name.
func (r *Repo) findLayer(d digest.Digest, refs map[string]fsverity.Digest) (fsverity.Digest, error) {
	if at, ok := refs[d.String()]; ok {
		return at, nil
	}
	return r.findStream(layerPrefix + d.String())
}

// findBlob is findLayer for a blob that was kept as it was pulled, whose stream
// importers may call a layer's or a blob's.
func (r *Repo) findBlob(d digest.Digest, refs map[string]fsverity.Digest) (fsverity.Digest, error) {
	at, err := r.findLayer(d, refs)
	if errors.Is(err, ErrNotFound) {
		return r.findStream(blobPrefix + d.String())
	}
	return at, err
}

// OpenLayer returns the i-th layer's content: Layer.Size bytes with the digest
// Layer.Digest(). The caller closes it. Reading ends with an error, never with
// io.EOF, where size or digest are not those: it then wraps ErrDigestMismatch,
// ErrLostZeros, ErrVerity or one of splitstream's, and names the object at fault
// if one is; or it is an OtherTarError. Once ctx is done, Read returns its error.
func (i *Image) OpenLayer(ctx context.Context, n int) (io.ReadCloser, error) {
	return i.repo.openLayer(ctx, i.Layers[n], i.Layers[n].Digest())
}

// openLayer opens a layer that is expected to have the digest want.
func (r *Repo) openLayer(ctx context.Context, l Layer, want digest.Digest) (io.ReadCloser, error) {
	s, err := r.openStream(ctx, l.Verity)
	if err != nil {
		return nil, fmt.Errorf("layer %s: %w", l.Digest(), err)
	}
	return newVerified(ctx, s, l, want), nil
}

// LayerChunks are the pieces of a layer's content: bytes, and objects that
// OpenObject opens. They are not checked against the layer's digest, and have none
// of the zeros that Image.Repaired adds. Whoever uses them computes the digest, and
// calls Verdict with it. Next may be called by one goroutine at a time, OpenObject
// by several.
type LayerChunks struct {
	*splitstream.Chunks
	stream *stream
	layer  Layer
}

// LayerChunks returns the pieces of the i-th layer. The caller closes them.
func (i *Image) LayerChunks(ctx context.Context, n int) (*LayerChunks, error) {
	l := i.Layers[n]
	s, err := i.repo.openStream(ctx, l.Verity)
	if err != nil {
		return nil, fmt.Errorf("layer %s: %w", l.Digest(), err)
	}
	return &LayerChunks{s.Chunks(), s, l}, nil
}

// Size returns how many bytes the pieces have together, as the stream states it.
func (c *LayerChunks) Size() int64 { return c.stream.Size() }

// OpenObject opens an object of the layer; see Repo.OpenObject.
func (c *LayerChunks) OpenObject(d fsverity.Digest) (*os.File, int64, error) {
	return c.stream.repo.OpenObject(d)
}

// Close closes the layer's stream. It may be called again.
func (c *LayerChunks) Close() error { return c.stream.Close() }

// Verdict returns nil if the pieces came to the layer's digest. Otherwise, or if
// they made no sense for the reason err, it looks for the object that is at fault,
// by computing the fs-verity digests of all of them. The error names that object and
// wraps ErrVerity; or, where no object was altered, it is an OtherTarError, or wraps
// err.
func (c *LayerChunks) Verdict(ctx context.Context, got digest.Digest, err error) error {
	repo, l := c.stream.repo, c.layer
	if err == nil {
		if got == l.Digest() {
			return nil
		}
		err = repo.mismatch(l, got)
	}
	err = repo.culprit(ctx, l.Verity, err)
	repo.lookForEnd(ctx, l, err)
	return inLayer(l, err)
}

// mismatch returns the error of a layer having come to the digest got.
func (r *Repo) mismatch(l Layer, got digest.Digest) error {
	if l.DiffID != "" {
		return &OtherTarError{Digest: got, open: func(ctx context.Context) (io.ReadCloser, error) {
			return r.openLayer(ctx, l, got)
		}}
	}
	return fmt.Errorf("%w: it hashes to %s", ErrDigestMismatch, got)
}

// inLayer adds the layer to an error of its content.
func inLayer(l Layer, err error) error {
	return fmt.Errorf("layer %s: stream %s: %w", l.Digest(), l.Verity, err)
}

// all returns the chunks, or an error that names the layer and ends them. ctx is asked
// before each.
func (c *LayerChunks) all(ctx context.Context) iter.Seq2[splitstream.Chunk, error] {
	return func(yield func(splitstream.Chunk, error) bool) {
		for {
			chunk, err := c.Next()
			if errors.Is(err, io.EOF) {
				return
			}
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield(splitstream.Chunk{}, inLayer(c.layer, err))
				return
			}
			if !yield(chunk, nil) {
				return
			}
		}
	}
}

// CheckObjects returns an error that wraps ErrMissingObject, and names the
// object, where one is not there that the i-th layer is made of. Contents are
// not looked at.
func (i *Image) CheckObjects(ctx context.Context, n int) error {
	chunks, err := i.LayerChunks(ctx, n)
	if err != nil {
		return err
	}
	defer chunks.Close()
	for chunk, err := range chunks.all(ctx) {
		if err != nil {
			return err
		}
		if !chunk.Object.IsZero() && !i.repo.hasObject(chunk.Object) {
			return inLayer(i.Layers[n], fmt.Errorf("object %s: %w", chunk.Object, ErrMissingObject))
		}
	}
	return nil
}
