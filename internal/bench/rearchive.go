package main

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
)

// rearchivePart is the first half of the way of today: REPOSITORY LAYOUT. It
// reads every layer's entries and writes them to a new tar, through gzip in one
// thread, into an OCI layout, with a new config and a new manifest. The
// compressor is the fastest at hand of its level.
func rearchivePart(ctx context.Context, args []string) error {
	if len(args) != 2 {
		return errors.New("rearchive: want REPOSITORY LAYOUT")
	}
	_, image, err := openImage(ctx, args[0])
	if err != nil {
		return err
	}
	l := layout(args[1])
	if err := l.create(); err != nil {
		return err
	}
	var oldConfig imgspecv1.Image
	var newManifest imgspecv1.Manifest
	if err := errors.Join(json.Unmarshal(image.Config, &oldConfig), json.Unmarshal(image.Manifest, &newManifest)); err != nil {
		return err
	}
	newConfig := oldConfig
	newConfig.History, newConfig.RootFS.DiffIDs, newManifest.Layers = nil, nil, nil
	for i := range image.Layers {
		layer, diffID, err := l.addLayer(ctx, image, i)
		if err != nil {
			return fmt.Errorf("layer %d: %w", i+1, err)
		}
		newManifest.Layers = append(newManifest.Layers, layer)
		newConfig.RootFS.DiffIDs = append(newConfig.RootFS.DiffIDs, diffID)
		var history imgspecv1.History
		if i < len(oldConfig.History) {
			history.Created, history.Comment = oldConfig.History[i].Created, oldConfig.History[i].Comment
		}
		newConfig.History = append(newConfig.History, history)
	}
	return l.finish(newManifest, newConfig)
}

// layout is the path of an OCI layout.
type layout string

func (l layout) blobs() string { return filepath.Join(string(l), imgspecv1.ImageBlobsDir, "sha256") }

func (l layout) create() error {
	if err := os.MkdirAll(l.blobs(), 0o755); err != nil {
		return err
	}
	return l.writeJSON(imgspecv1.ImageLayoutFile, imgspecv1.ImageLayout{Version: imgspecv1.ImageLayoutVersion})
}

func (l layout) writeJSON(name string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(string(l), name), data, 0o644)
}

// addLayer archives a layer anew.
func (l layout) addLayer(ctx context.Context, image *composefsrepo.Image, n int) (_ imgspecv1.Descriptor, diffID digest.Digest, err error) {
	chunks, err := image.LayerChunks(ctx, n)
	if err != nil {
		return imgspecv1.Descriptor{}, "", err
	}
	defer chunks.Close()
	file, err := os.CreateTemp(l.blobs(), "new-")
	if err != nil {
		return imgspecv1.Descriptor{}, "", err
	}
	defer file.Close()

	compressed, uncompressed := digest.Canonical.Digester(), digest.Canonical.Digester()
	compressor, err := gzip.NewWriterLevel(io.MultiWriter(file, compressed.Hash()), 6)
	if err != nil {
		return imgspecv1.Descriptor{}, "", err
	}
	err = rearchive(ctx, &chunkReader{chunks: chunks}, io.MultiWriter(compressor, uncompressed.Hash()))
	if err := errors.Join(err, compressor.Close()); err != nil {
		return imgspecv1.Descriptor{}, "", err
	}
	info, err := file.Stat()
	if err != nil {
		return imgspecv1.Descriptor{}, "", err
	}
	d := imgspecv1.Descriptor{MediaType: imgspecv1.MediaTypeImageLayerGzip, Digest: compressed.Digest(), Size: info.Size()}
	return d, uncompressed.Digest(), os.Rename(file.Name(), filepath.Join(l.blobs(), d.Digest.Encoded()))
}

// rearchive copies a tar entry by entry.
func rearchive(ctx context.Context, from io.Reader, to io.Writer) error {
	in, out := tar.NewReader(from), tar.NewWriter(to)
	for ctx.Err() == nil {
		header, err := in.Next()
		if err == io.EOF {
			return out.Close()
		}
		if err != nil {
			return err
		}
		if err := out.WriteHeader(header); err != nil {
			return fmt.Errorf("%s: %w", header.Name, err)
		}
		if _, err := io.Copy(out, in); err != nil {
			return fmt.Errorf("%s: %w", header.Name, err)
		}
	}
	return ctx.Err()
}

// finish adds config and manifest.
func (l layout) finish(m imgspecv1.Manifest, config imgspecv1.Image) error {
	var err error
	if m.Config, err = l.addDocument(imgspecv1.MediaTypeImageConfig, config); err != nil {
		return err
	}
	at, err := l.addDocument(imgspecv1.MediaTypeImageManifest, m)
	if err != nil {
		return err
	}
	index := imgspecv1.Index{MediaType: imgspecv1.MediaTypeImageIndex, Manifests: []imgspecv1.Descriptor{at}}
	index.SchemaVersion = 2
	return l.writeJSON(imgspecv1.ImageIndexFile, index)
}

func (l layout) addDocument(mediaType string, v any) (imgspecv1.Descriptor, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return imgspecv1.Descriptor{}, err
	}
	d := imgspecv1.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	return d, os.WriteFile(filepath.Join(l.blobs(), d.Digest.Encoded()), data, 0o644)
}

// chunkReader reads a layer's tar without checking it, and in one thread.
type chunkReader struct {
	chunks *composefsrepo.LayerChunks
	inline []byte
	object *os.File
}

// Read implements io.Reader.
func (r *chunkReader) Read(p []byte) (int, error) {
	for {
		if n := copy(p, r.inline); n > 0 {
			r.inline = r.inline[n:]
			return n, nil
		}
		if r.object != nil {
			n, err := r.object.Read(p)
			if n > 0 || err != io.EOF {
				return n, err
			}
			if err := r.object.Close(); err != nil {
				return 0, err
			}
			r.object = nil
		}
		chunk, err := r.chunks.Next()
		if err != nil {
			return 0, err
		}
		if r.inline = chunk.Inline; chunk.Inline == nil {
			if r.object, _, err = r.chunks.OpenObject(chunk.Object); err != nil {
				return 0, err
			}
		}
	}
}
