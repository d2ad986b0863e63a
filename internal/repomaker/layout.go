package repomaker

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/skopeo-cfs/skopeo-cfs/splitstream"
)

// AddLayout adds an image or an artifact of the OCI layout in dir, and tags it
// unless tag is "". It is the one that the layout's index has under the name
// ref, or the only one where ref is "".
func (r *Repo) AddLayout(dir, ref, tag string) (Added, error) {
	added, err := layout{r, dir}.add(ref, tag)
	if err != nil {
		return Added{}, fmt.Errorf("adding %s:%s: %w", dir, ref, err)
	}
	return added, nil
}

// layout is an OCI layout that is being added to a repository.
type layout struct {
	repo *Repo
	dir  string
}

func (l layout) add(ref, tag string) (Added, error) {
	at, err := l.find(ref)
	if err != nil {
		return Added{}, err
	}
	rawManifest, err := l.read(at)
	if err != nil {
		return Added{}, fmt.Errorf("manifest: %w", err)
	}
	var m imgspecv1.Manifest
	if err := json.Unmarshal(rawManifest, &m); err != nil {
		return Added{}, fmt.Errorf("manifest: %w", err)
	}
	rawConfig, err := l.read(m.Config)
	if err != nil {
		return Added{}, fmt.Errorf("config: %w", err)
	}
	var layers []Blob
	if m.Config.MediaType == imgspecv1.MediaTypeImageConfig {
		layers, err = l.addLayers(m.Layers, rawConfig)
	} else {
		layers, err = l.addBlobs(m.Layers)
	}
	if err != nil {
		return Added{}, err
	}
	return l.repo.AddDocuments(tag, rawManifest, rawConfig, layers)
}

// find returns the descriptor of a manifest in the index.
func (l layout) find(ref string) (imgspecv1.Descriptor, error) {
	data, err := os.ReadFile(filepath.Join(l.dir, imgspecv1.ImageIndexFile))
	if err != nil {
		return imgspecv1.Descriptor{}, err
	}
	var index imgspecv1.Index
	if err := json.Unmarshal(data, &index); err != nil {
		return imgspecv1.Descriptor{}, fmt.Errorf("%s: %w", imgspecv1.ImageIndexFile, err)
	}
	var found []imgspecv1.Descriptor
	for _, d := range index.Manifests {
		if ref == "" || d.Annotations[imgspecv1.AnnotationRefName] == ref {
			found = append(found, d)
		}
	}
	if len(found) != 1 {
		return imgspecv1.Descriptor{}, fmt.Errorf("the index has %d manifests of that name", len(found))
	}
	return found[0], nil
}

// open opens a blob. Reading it to its end fails where it is not what the
// descriptor says.
func (l layout) open(d imgspecv1.Descriptor) (io.ReadCloser, error) {
	f, err := os.Open(filepath.Join(l.dir, imgspecv1.ImageBlobsDir, d.Digest.Algorithm().String(), d.Digest.Encoded()))
	if err != nil {
		return nil, err
	}
	return &checkedBlob{File: f, want: d, verifier: d.Digest.Verifier()}, nil
}

func (l layout) read(d imgspecv1.Descriptor) ([]byte, error) {
	blob, err := l.open(d)
	if err != nil {
		return nil, err
	}
	defer blob.Close()
	return io.ReadAll(blob)
}

// checkedBlob compares a blob to its descriptor as it is read.
type checkedBlob struct {
	*os.File
	want     imgspecv1.Descriptor
	verifier digest.Verifier
	size     int64
}

func (b *checkedBlob) Read(p []byte) (int, error) {
	n, err := b.File.Read(p)
	b.size += int64(n)
	b.verifier.Write(p[:n])
	if err == io.EOF && (b.size != b.want.Size || !b.verifier.Verified()) {
		return n, fmt.Errorf("blob %s is not of that digest and %d bytes", b.want.Digest, b.want.Size)
	}
	return n, err
}

// addLayers adds the layers of an image.
func (l layout) addLayers(descriptors []imgspecv1.Descriptor, rawConfig []byte) ([]Blob, error) {
	var config imgspecv1.Image
	if err := json.Unmarshal(rawConfig, &config); err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	diffIDs := config.RootFS.DiffIDs
	if len(diffIDs) != len(descriptors) {
		return nil, fmt.Errorf("%d layers, %d diff IDs", len(descriptors), len(diffIDs))
	}
	var layers []Blob
	for i, d := range descriptors {
		layer, err := l.addTar(d)
		if err != nil {
			return nil, fmt.Errorf("layer %s: %w", d.Digest, err)
		}
		if layer.Digest != diffIDs[i] {
			return nil, fmt.Errorf("layer %s: its tar is %s instead of %s", d.Digest, layer.Digest, diffIDs[i])
		}
		layers = append(layers, layer)
	}
	return layers, nil
}

// addTar adds the tar that a layer decompresses to.
func (l layout) addTar(d imgspecv1.Descriptor) (Blob, error) {
	compressed, err := l.open(d)
	if err != nil {
		return Blob{}, err
	}
	defer compressed.Close()
	tar, err := decompress(compressed, d.MediaType)
	if err != nil {
		return Blob{}, err
	}
	defer tar.Close()
	layer, err := l.repo.AddLayer(tar, nil)
	if err != nil {
		return Blob{}, err
	}
	_, err = io.Copy(io.Discard, compressed) // whatever a decompressor leaves
	return layer, err
}

func decompress(blob io.Reader, mediaType string) (io.ReadCloser, error) {
	switch {
	case strings.HasSuffix(mediaType, "+gzip"):
		return gzip.NewReader(blob)
	case strings.HasSuffix(mediaType, "+zstd"):
		d, err := zstd.NewReader(blob)
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	default:
		return io.NopCloser(blob), nil
	}
}

// tarTypes are the media types, but for a compression, of layers that importers
// unpack.
var tarTypes = []string{imgspecv1.MediaTypeImageLayer, "application/vnd.oci.image.layer.nondistributable.v1.tar"}

// addBlobs adds the blobs of an artifact: as they are, unless they are tars by
// their media type, whose streams importers call by the compressed blob's
// digest.
func (l layout) addBlobs(descriptors []imgspecv1.Descriptor) ([]Blob, error) {
	var blobs []Blob
	for _, d := range descriptors {
		add := l.addWhole
		if base, _, _ := strings.Cut(d.MediaType, "+"); slices.Contains(tarTypes, base) {
			add = l.addTar
		}
		blob, err := add(d)
		if err != nil {
			return nil, fmt.Errorf("blob %s: %w", d.Digest, err)
		}
		if blob.Digest != d.Digest {
			blob.Digest = d.Digest
			if err := l.repo.Link(StreamName(splitstream.Layer, d.Digest), blob.Stream); err != nil {
				return nil, err
			}
		}
		blobs = append(blobs, blob)
	}
	return blobs, nil
}

func (l layout) addWhole(d imgspecv1.Descriptor) (Blob, error) {
	content, err := l.open(d)
	if err != nil {
		return Blob{}, err
	}
	defer content.Close()
	return l.repo.AddBlob(splitstream.Blob, content, nil)
}
