package zerocopy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/containers/storage"
	"github.com/containers/storage/pkg/archive"
	"github.com/opencontainers/go-digest"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
)

// extract streams the i-th layer of the image to the store, which extracts it on
// top of parent, "" for the lowest layer. It returns nil where the store has a
// layer of that ID by now. Nothing is claimed of the layer: the store computes its
// digests from what it extracts.
func extract(ctx context.Context, store storage.Store, image *composefsrepo.Image, i int, id, parent string, progress func(int64)) (*storage.Layer, error) {
	content, err := image.OpenLayer(ctx, i)
	if err != nil {
		return nil, err
	}
	defer content.Close()
	// The store would decompress what looks compressed, a tar with such a name at
	// its start as well.
	buffered := bufio.NewReaderSize(&counted{content, progress}, headerSize)
	header, err := buffered.Peek(headerSize)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if c := archive.DetectCompression(header); c != archive.Uncompressed {
		return nil, fmt.Errorf("layer %s: containers-storage would take it for %s data", image.Layers[i].DiffID, c.Extension())
	}
	return addLayer(store, id, func() (*storage.Layer, error) {
		layer, _, err := store.PutLayer(id, parent, nil, "", false, nil, buffered)
		return layer, err
	})
}

// headerSize is how many bytes containers/storage looks at.
const headerSize = 10240

// counted tells how much of a layer has been read.
type counted struct {
	io.Reader
	progress func(int64)
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	if n > 0 {
		c.progress(int64(n))
	}
	return n, err
}

// checkExtracted returns an error unless the layer has the content of the diff ID.
func checkExtracted(layer *storage.Layer, diffID digest.Digest) error {
	if layer.UncompressedDigest != diffID {
		return fmt.Errorf("layer %s: %w: containers-storage has extracted %s", diffID, composefsrepo.ErrDigestMismatch, layer.UncompressedDigest)
	}
	return nil
}

// takeBack deletes a layer that this process has just added and that is not right.
// It deletes no other instance of the layer, and none under an ID that is not
// whole, which containers/storage would complete.
func takeBack(store storage.Store, layer *storage.Layer) error {
	there, err := store.Layer(layer.ID)
	if errors.Is(err, storage.ErrLayerUnknown) {
		return nil
	}
	if err == nil && there.ID == layer.ID && there.Created.Equal(layer.Created) {
		err = store.DeleteLayer(layer.ID)
	}
	if err != nil {
		return fmt.Errorf("removing layer %s again: %w", layer.ID, err)
	}
	return nil
}
