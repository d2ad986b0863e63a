// Package original has images for tests as registries have them: with compressed
// layers. It adds them to repositories in all the ways in which hosts get them, and
// pushes them to registries.
package original

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/bootchost"
	"github.com/skopeo-cfs/skopeo-cfs/internal/damaged"
	"github.com/skopeo-cfs/skopeo-cfs/internal/repomaker"
)

// Image is an image as a registry has it.
type Image struct {
	Manifest, Config []byte
	Digest, ID       digest.Digest // of these
	Layers           []imgspecv1.Descriptor
	Blobs            map[digest.Digest][]byte // compressed layers, and the config
	layout           string
}

// How a host came by an image.
type How int

// The ways.
const (
	Pulled    How = iota // from a registry, whose manifest the repository has
	Raw                  // from containers-storage: the manifest lists tars
	Collected            // the manifest is gone
)

// Ways are all ways.
var Ways = map[string]How{"pulled": Pulled, "raw": Raw, "collected": Collected}

// New returns an image of the fixtures as a registry has it. Annotations of its
// layers are dropped.
func New(t testing.TB, layout string) Image {
	t.Helper()
	image, tars := damaged.Fixture(t, layout)
	made := Image{Blobs: map[digest.Digest][]byte{}, layout: layout}
	config := image.Config
	config.RootFS = imgspecv1.RootFS{Type: "layers"}
	config.Platform = imgspecv1.Platform{OS: "linux", Architecture: "amd64"}
	for _, tar := range tars {
		blob := compress(t, tar)
		d := digest.FromBytes(blob)
		made.Blobs[d] = blob
		made.Layers = append(made.Layers, imgspecv1.Descriptor{MediaType: imgspecv1.MediaTypeImageLayerGzip, Digest: d, Size: int64(len(blob))})
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digest.FromBytes(tar))
	}
	made.Config = encode(t, config)
	made.ID = digest.FromBytes(made.Config)
	made.Blobs[made.ID] = made.Config
	made.Manifest = made.ManifestOf(t, nil)
	made.Digest = digest.FromBytes(made.Manifest)
	return made
}

// ManifestOf returns the image's manifest after a change.
func (i Image) ManifestOf(t testing.TB, change func(*imgspecv1.Manifest)) []byte {
	t.Helper()
	m := imgspecv1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: imgspecv1.MediaTypeImageManifest,
		Config:      imgspecv1.Descriptor{MediaType: imgspecv1.MediaTypeImageConfig, Digest: i.ID, Size: int64(len(i.Config))},
		Layers:      append([]imgspecv1.Descriptor{}, i.Layers...),
		Annotations: map[string]string{"org.opencontainers.image.source": "a registry"},
	}
	if change != nil {
		change(&m)
	}
	return encode(t, m)
}

// IndexOf returns an index that lists manifests of platforms, os/architecture.
func IndexOf(t testing.TB, manifests map[string][]byte) []byte {
	t.Helper()
	index := imgspecv1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: imgspecv1.MediaTypeImageIndex}
	for architecture, raw := range manifests {
		index.Manifests = append(index.Manifests, imgspecv1.Descriptor{
			MediaType: imgspecv1.MediaTypeImageManifest, Digest: digest.FromBytes(raw), Size: int64(len(raw)),
			Platform: &imgspecv1.Platform{OS: "linux", Architecture: architecture},
		})
	}
	return encode(t, index)
}

// AddTo adds the image to a new repository at path, as a host has it that came by it
// in one of the ways, with a tag.
func (i Image) AddTo(t testing.TB, path, tag string, how How) {
	t.Helper()
	repo, err := repomaker.Create(path, fsverity.SHA256, repomaker.Options{})
	check(t, err)
	image, _ := damaged.Fixture(t, i.layout)
	image.Listing = repomaker.Uncompressed
	image.Config.Platform = imgspecv1.Platform{OS: "linux", Architecture: "amd64"}
	added, err := repo.AddImage("", image)
	check(t, err)
	if added.Config.Digest != i.ID {
		t.Fatalf("another config: %s instead of %s", added.Config.Digest, i.ID)
	}
	switch how {
	case Pulled:
		check(t, os.Remove(filepath.Join(path, "streams/oci-manifest-"+added.Manifest.Digest.String())))
		_, err = repo.AddDocuments(tag, i.Manifest, i.Config, added.Layers)
		check(t, err)
	case Raw:
		check(t, repo.Tag(tag, added.Manifest.Digest))
	case Collected:
		bootchost.RemoveManifests(t, path)
	}
}

// Open adds the image to a new repository and opens it there.
func (i Image) Open(t testing.TB, how How) *composefsrepo.Image {
	t.Helper()
	path := filepath.Join(t.TempDir(), "repository")
	i.AddTo(t, path, "localhost/"+i.layout+":latest", how)
	repo, err := composefsrepo.Open(t.Context(), path, nil)
	check(t, err)
	t.Cleanup(func() { check(t, repo.Close()) })
	image, err := repo.ImageByDigest(t.Context(), i.ID)
	check(t, err)
	return image
}

// Push puts the image into a registry that is reached by HTTP, under a tag of a
// repository there.
func (i Image) Push(t testing.TB, registry, repository, tag string) {
	t.Helper()
	for d, blob := range i.Blobs {
		PushBlob(t, registry, repository, d, blob)
	}
	PushManifest(t, registry, repository, tag, imgspecv1.MediaTypeImageManifest, i.Manifest)
}

// PushBlob puts a blob into a registry.
func PushBlob(t testing.TB, registry, repository string, d digest.Digest, blob []byte) {
	t.Helper()
	response, err := http.Post(fmt.Sprintf("http://%s/v2/%s/blobs/uploads/", registry, repository), "application/octet-stream", nil)
	check(t, err)
	response.Body.Close()
	location, err := response.Location()
	check(t, err)
	query := location.Query()
	query.Set("digest", d.String())
	location.RawQuery = query.Encode()
	put(t, location.String(), "application/octet-stream", blob)
}

// PushManifest puts a manifest or an index into a registry, under a tag or its digest.
func PushManifest(t testing.TB, registry, repository, tag, mediaType string, raw []byte) {
	t.Helper()
	put(t, fmt.Sprintf("http://%s/v2/%s/manifests/%s", registry, repository, tag), mediaType, raw)
}

func put(t testing.TB, url, mediaType string, body []byte) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPut, url, bytes.NewReader(body))
	check(t, err)
	request.Header.Set("Content-Type", mediaType)
	response, err := http.DefaultClient.Do(request)
	check(t, err)
	defer response.Body.Close()
	if response.StatusCode != http.StatusCreated {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 1000))
		t.Fatalf("PUT %s: %s: %s", url, response.Status, text)
	}
}

// Layout writes an OCI layout with the image, listed by an index in it where that is
// not nil.
func (i Image) Layout(t testing.TB, dir string, index []byte) {
	t.Helper()
	blobs := map[digest.Digest][]byte{i.Digest: i.Manifest}
	for d, blob := range i.Blobs {
		blobs[d] = blob
	}
	top := IndexOf(t, map[string][]byte{"amd64": i.Manifest})
	if index != nil {
		d := digest.FromBytes(index)
		blobs[d] = index
		top = encode(t, imgspecv1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: []imgspecv1.Descriptor{
			{MediaType: imgspecv1.MediaTypeImageIndex, Digest: d, Size: int64(len(index))},
		}})
	}
	check(t, os.MkdirAll(filepath.Join(dir, "blobs/sha256"), 0o755))
	for d, blob := range blobs {
		check(t, os.WriteFile(filepath.Join(dir, "blobs/sha256", d.Encoded()), blob, 0o644))
	}
	check(t, os.WriteFile(filepath.Join(dir, "index.json"), top, 0o644))
	check(t, os.WriteFile(filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion": "1.0.0"}`), 0o644))
}

func compress(t testing.TB, data []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, err := w.Write(data)
	check(t, err)
	check(t, w.Close())
	return out.Bytes()
}

func encode(t testing.TB, v any) []byte {
	t.Helper()
	raw, err := json.Marshal(v)
	check(t, err)
	return raw
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
