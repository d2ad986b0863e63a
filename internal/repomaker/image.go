package repomaker

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/splitstream"
)

// Image is an image to be made of tars.
type Image struct {
	Layers []Layer
	// Listing is what the manifest lists as layers.
	Listing Listing
	// Config is the config but for its diff IDs. Without a platform it gets
	// linux/amd64.
	Config imgspecv1.Image
	// Annotations are the manifest's.
	Annotations map[string]string
}

// Layer is a layer of an Image.
type Layer struct {
	Tar         io.Reader // read once, to its end
	Annotations map[string]string
	Alter       Alter // may be nil
	// Cut is how many bytes of the tar the stream rebuilds, 0 for all of them. It
	// must not be within the content of a file that becomes an object.
	Cut int64
}

// Added is an image that was added.
type Added struct {
	Manifest, Config Blob
	Layers           []Blob // tars or, of an artifact, blobs
}

// AddImage makes an image of tars, adds it, and tags it unless tag is "".
func (r *Repo) AddImage(tag string, image Image) (Added, error) {
	var added Added
	descriptors := []imgspecv1.Descriptor{}
	config := image.Config
	config.RootFS = imgspecv1.RootFS{Type: "layers", DiffIDs: []digest.Digest{}}
	if config.OS == "" {
		config.Platform = imgspecv1.Platform{OS: "linux", Architecture: "amd64"}
	}
	for i, l := range image.Layers {
		listed, err := newListed(image.Listing)
		if err != nil {
			return Added{}, err
		}
		l.Tar = io.TeeReader(l.Tar, listed)
		blob, err := r.addLayer(l)
		if err != nil {
			return Added{}, fmt.Errorf("layer %d: %w", i+1, err)
		}
		descriptor, err := listed.descriptor(blob)
		if err != nil {
			return Added{}, fmt.Errorf("layer %d: %w", i+1, err)
		}
		descriptor.Annotations = l.Annotations
		descriptors = append(descriptors, descriptor)
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, blob.Digest)
		added.Layers = append(added.Layers, blob)
	}
	rawConfig, err := json.Marshal(config)
	if err != nil {
		return Added{}, err
	}
	rawManifest, err := json.Marshal(imgspecv1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: imgspecv1.MediaTypeImageManifest,
		Config: imgspecv1.Descriptor{
			MediaType: imgspecv1.MediaTypeImageConfig, Digest: digest.FromBytes(rawConfig), Size: int64(len(rawConfig)),
		},
		Layers:      descriptors,
		Annotations: image.Annotations,
	})
	if err != nil {
		return Added{}, err
	}
	return r.AddDocuments(tag, rawManifest, rawConfig, added.Layers)
}

// AddDocuments adds a manifest and a config, whatever they say, with references
// to the config and to layers that were added before, and tags the manifest
// unless tag is "".
func (r *Repo) AddDocuments(tag string, manifest, config []byte, layers []Blob) (_ Added, err error) {
	added := Added{Layers: layers}
	refs := layerRefs(layers)
	if added.Config, err = r.AddBlob(splitstream.Config, bytes.NewReader(config), refs); err != nil {
		return Added{}, fmt.Errorf("adding config: %w", err)
	}
	refs = maps.Clone(refs)
	refs["config:"+added.Config.Digest.String()] = added.Config.Stream
	if added.Manifest, err = r.AddBlob(splitstream.Manifest, bytes.NewReader(manifest), refs); err != nil {
		return Added{}, fmt.Errorf("adding manifest: %w", err)
	}
	if tag == "" {
		return added, nil
	}
	return added, r.Tag(tag, added.Manifest.Digest)
}

// layerRefs returns the named references to layers.
func layerRefs(layers []Blob) map[string]fsverity.Digest {
	refs := map[string]fsverity.Digest{}
	for _, l := range layers {
		refs[l.Digest.String()] = l.Stream
	}
	return refs
}
