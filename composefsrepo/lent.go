package composefsrepo

import (
	"context"
	"fmt"
	"os"

	"github.com/opencontainers/go-digest"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
)

// Lent is what a process gets of an image that can't open the image's repository, or
// must not: all but the objects, for which it asks somebody else. It is meant to be
// encoded as JSON, for a process that trusts where it comes from.
type Lent struct {
	Algorithm      string
	DemandsVerity  bool
	Manifest       []byte
	ManifestType   string
	ManifestDigest digest.Digest
	Synthesised    bool
	Config         []byte
	// ConfigDescriptor is the config's, as the manifest has it.
	ConfigDescriptor imgspecv1.Descriptor
	Layers           []LentLayer
}

// LentLayer is a layer of a Lent image, with the name of its stream.
type LentLayer struct {
	Descriptor imgspecv1.Descriptor
	DiffID     digest.Digest
	Verity     string
	Size       int64
	Zeros      int64 // how many are added to what the stream has
}

// Lend returns what a process gets of the image, which opens it with Open.
func (i *Image) Lend() *Lent {
	lent := &Lent{
		Algorithm: i.repo.algorithm.String(), DemandsVerity: i.repo.verity,
		Manifest: i.Manifest, ManifestType: i.ManifestType, ManifestDigest: i.ManifestDigest, Synthesised: i.Synthesised,
		Config: i.Config, ConfigDescriptor: i.ConfigDescriptor,
	}
	for _, l := range i.Layers {
		lent.Layers = append(lent.Layers, LentLayer{l.Descriptor, l.DiffID, l.Verity.String(), l.Size, l.zeros})
	}
	return lent
}

// Open returns the image, whose objects are opened with open, which is called by several
// goroutines at once. Files that it returns are closed when they have been read; each
// is checked as if it had been opened in the repository. An error that wraps
// fs.ErrNotExist stands for an object that is not there.
func (l *Lent) Open(open func(fsverity.Digest) (*os.File, error)) (*Image, error) {
	algorithm, err := fsverity.ParseAlgorithm(l.Algorithm)
	if err != nil {
		return nil, err
	}
	i := &Image{
		repo:     &Repo{algorithm: algorithm, verity: l.DemandsVerity, borrow: open},
		Manifest: l.Manifest, ManifestType: l.ManifestType, ManifestDigest: l.ManifestDigest, Synthesised: l.Synthesised,
		Config: l.Config, ConfigDescriptor: l.ConfigDescriptor,
	}
	for n, layer := range l.Layers {
		verity, err := fsverity.Parse(layer.Verity)
		if err != nil {
			return nil, fmt.Errorf("layer %d: %w", n+1, err)
		}
		i.Layers = append(i.Layers, Layer{layer.Descriptor, layer.DiffID, verity, layer.Size, layer.Zeros})
	}
	return i, nil
}

// LayerObjects returns the objects that the i-th layer is made of, without that of its
// stream, which must be what its name says: otherwise the error wraps ErrVerity, and
// nothing that it refers to is the layer's. The memory is proportional to their number.
func (i *Image) LayerObjects(ctx context.Context, n int) (map[fsverity.Digest]struct{}, error) {
	chunks, err := i.LayerChunks(ctx, n)
	if err != nil {
		return nil, err
	}
	defer chunks.Close()
	if err := chunks.CheckStream(ctx); err != nil {
		return nil, err
	}
	objects := map[fsverity.Digest]struct{}{}
	for chunk, err := range chunks.all(ctx) {
		if err != nil {
			return nil, err
		}
		if !chunk.Object.IsZero() {
			objects[chunk.Object] = struct{}{}
		}
	}
	return objects, nil
}
