package repomaker

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/splitstream"
)

// Blob is what the repository has of a manifest, a config, a layer's tar or any
// other blob.
type Blob struct {
	Digest digest.Digest   // of its content: for a layer's tar, its diff ID
	Size   int64           // of its content, in bytes
	Stream fsverity.Digest // names the object with its splitstream
}

// StreamName returns the name under which importers link the splitstream of a
// file of the type and digest given.
func StreamName(contentType splitstream.Type, d digest.Digest) string {
	kind := "layer"
	switch contentType {
	case splitstream.Manifest:
		kind = "manifest"
	case splitstream.Config:
		kind = "config"
	}
	return "oci-" + kind + "-" + d.String()
}

// AddBlob adds a file that importers keep in one object, as they do with
// manifests, configs and blobs of artifacts, and its splitstream with the named
// references given.
func (r *Repo) AddBlob(contentType splitstream.Type, content io.Reader, refs map[string]fsverity.Digest) (Blob, error) {
	hash := digest.Canonical.Digester()
	object, size, err := r.AddObject(io.TeeReader(content, hash.Hash()))
	if err != nil {
		return Blob{}, err
	}
	w := splitstream.NewWriter(r.algorithm, contentType)
	if err := w.Object(object, size); err != nil {
		return Blob{}, err
	}
	for _, name := range slices.Sorted(maps.Keys(refs)) {
		if err := w.NamedRef(name, refs[name]); err != nil {
			return Blob{}, err
		}
	}
	blob := Blob{Digest: hash.Digest(), Size: size}
	blob.Stream, err = r.AddStream(StreamName(contentType, blob.Digest), w)
	return blob, err
}

// AddStream adds the splitstream in w, in the repository's layout of headers,
// and links it under a name.
func (r *Repo) AddStream(name string, w *splitstream.Writer) (fsverity.Digest, error) {
	var file bytes.Buffer
	if _, err := w.WriteTo(&file); err != nil {
		return fsverity.Digest{}, fmt.Errorf("adding stream %s: %w", name, err)
	}
	if r.options.OldHeader {
		toOldHeader(file.Bytes())
	}
	return r.AddRawStream(name, &file)
}

// AddRawStream adds a file as it is and links it under a name, as if it were a
// splitstream.
func (r *Repo) AddRawStream(name string, file io.Reader) (fsverity.Digest, error) {
	d, _, err := r.AddObject(file)
	if err != nil {
		return fsverity.Digest{}, fmt.Errorf("adding stream %s: %w", name, err)
	}
	return d, r.Link(name, d)
}

// toOldHeader changes the header of a splitstream to the old layout: info range,
// flags, magic, version, algorithm, block size.
func toOldHeader(file []byte) {
	h := bytes.Clone(file[:32])
	magicAndVersion, flags, algorithm, info := h[:12], h[12:14], h[14:16], h[16:]
	copy(file, slices.Concat(info, flags, magicAndVersion, algorithm))
}

// Link makes streams/NAME lead to an object, instead of where it led before.
func (r *Repo) Link(name string, d fsverity.Digest) error {
	at := d.String()
	if err := r.link(name, "../objects/"+at[:2]+"/"+at[2:]); err != nil {
		return fmt.Errorf("linking stream %s: %w", name, err)
	}
	return nil
}

// tagDir is where the tags are, from the directory streams.
const tagDir = "refs/oci"

var tagEncoder = strings.NewReplacer("%", "%25", "/", "%2F")

// Tag makes a tag stand for the manifest with a digest, instead of what it stood
// for before.
func (r *Repo) Tag(tag string, manifest digest.Digest) error {
	name := filepath.Join(tagDir, tagEncoder.Replace(tag))
	if err := r.link(name, "../../"+StreamName(splitstream.Manifest, manifest)); err != nil {
		return fmt.Errorf("tagging %q: %w", tag, err)
	}
	return nil
}
