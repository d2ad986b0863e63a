package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/splitstream"
)

// forge writes what no importer would into a repository.
type forge struct {
	t         testing.TB
	repo      string
	algorithm fsverity.Algorithm
}

// newForge returns the forge of a new repository.
func newForge(t testing.TB) forge {
	t.Helper()
	f := forge{t, t.TempDir(), fsverity.SHA256}
	f.put("meta.json", []byte(`{"version":1,"algorithm":"fsverity-sha256-12"}`))
	require.NoError(t, os.MkdirAll(filepath.Join(f.repo, "streams/refs/oci"), 0o755))
	return f
}

// put writes a file of the repository.
func (f forge) put(name string, data []byte) {
	f.t.Helper()
	name = filepath.Join(f.repo, name)
	require.NoError(f.t, os.MkdirAll(filepath.Dir(name), 0o755))
	require.NoError(f.t, os.WriteFile(name, data, 0o644))
}

// link makes a symlink of the repository, in the place of one that is there.
func (f forge) link(name, target string) {
	f.t.Helper()
	name = filepath.Join(f.repo, name)
	require.NoError(f.t, os.RemoveAll(name))
	require.NoError(f.t, os.Symlink(target, name))
}

func objectPath(d fsverity.Digest) string {
	return "objects/" + d.String()[:2] + "/" + d.String()[2:]
}

// object stores an object.
func (f forge) object(data []byte) fsverity.Digest {
	f.t.Helper()
	d, err := fsverity.Compute(f.algorithm, bytes.NewReader(data))
	require.NoError(f.t, err)
	f.put(objectPath(d), data)
	return d
}

// stored stores a splitstream.
func (f forge) stored(w *splitstream.Writer) fsverity.Digest {
	f.t.Helper()
	var file bytes.Buffer
	_, err := w.WriteTo(&file)
	require.NoError(f.t, err)
	return f.object(file.Bytes())
}

// stream stores a file as a splitstream with references, and links it as
// streams/NAME.
func (f forge) stream(name string, contentType splitstream.Type, content []byte, refs map[string]fsverity.Digest) fsverity.Digest {
	f.t.Helper()
	w := splitstream.NewWriter(f.algorithm, contentType)
	_, err := w.Write(content)
	require.NoError(f.t, err)
	for name, d := range refs {
		require.NoError(f.t, w.NamedRef(name, d))
	}
	d := f.stored(w)
	f.link("streams/"+name, "../"+objectPath(d))
	return d
}

// forged is an image to be stored: by layer with a tar, its config, its
// manifest. What is changed in it before that makes it a bad one.
type forged struct {
	layers       map[digest.Digest]fsverity.Digest // the streams
	config       imgspecv1.Image
	manifest     imgspecv1.Manifest
	configRefs   map[string]fsverity.Digest
	manifestRefs map[string]fsverity.Digest
	// Where these are set, they are stored instead of the right ones.
	rawConfig, rawManifest []byte
	manifestDigest         digest.Digest
}

// image prepares an image with the layers.
func (f forge) image(tars ...[]byte) *forged {
	f.t.Helper()
	i := &forged{layers: map[digest.Digest]fsverity.Digest{}}
	i.manifest = imgspecv1.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: imgspecv1.MediaTypeImageManifest, Layers: []imgspecv1.Descriptor{}}
	i.config.RootFS.Type = "layers"
	i.config.OS, i.config.Architecture = "linux", "amd64"
	i.configRefs, i.manifestRefs = map[string]fsverity.Digest{}, map[string]fsverity.Digest{}
	for _, data := range tars {
		d := digest.FromBytes(data)
		i.add(d, f.stream("oci-layer-"+d.String(), splitstream.Layer, data, nil))
	}
	return i
}

// add appends a layer.
func (i *forged) add(diffID digest.Digest, stream fsverity.Digest) {
	i.config.RootFS.DiffIDs = append(i.config.RootFS.DiffIDs, diffID)
	i.manifest.Layers = append(i.manifest.Layers, imgspecv1.Descriptor{
		MediaType: imgspecv1.MediaTypeImageLayerGzip, Digest: digest.FromString("compressed " + diffID.String()), Size: 1,
	})
	i.configRefs[diffID.String()], i.manifestRefs[diffID.String()] = stream, stream
}

// tag stores a prepared image and gives it a tag.
func (f forge) tag(tag string, i *forged) {
	f.t.Helper()
	config := i.rawConfig
	if config == nil {
		config = f.marshal(i.config)
	}
	d := digest.FromBytes(config)
	if i.manifest.Config.Digest == "" {
		i.manifest.Config = imgspecv1.Descriptor{MediaType: imgspecv1.MediaTypeImageConfig, Digest: d, Size: int64(len(config))}
	}
	i.manifestRefs["config:"+i.manifest.Config.Digest.String()] = f.stream("oci-config-"+d.String(), splitstream.Config, config, i.configRefs)

	raw := i.rawManifest
	if raw == nil {
		raw = f.marshal(i.manifest)
	}
	if i.manifestDigest == "" {
		i.manifestDigest = digest.FromBytes(raw)
	}
	f.stream("oci-manifest-"+i.manifestDigest.String(), splitstream.Manifest, raw, i.manifestRefs)
	f.link("streams/refs/oci/"+tag, "../../oci-manifest-"+i.manifestDigest.String())
}

func (f forge) marshal(v any) []byte {
	f.t.Helper()
	data, err := json.Marshal(v)
	require.NoError(f.t, err)
	return data
}

// tarOf returns a tar with a file.
func tarOf(t testing.TB, name string, content []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	require.NoError(t, w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))}))
	_, err := w.Write(content)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return b.Bytes()
}

// algorithmOf returns a fixture's algorithm.
func algorithmOf(fixture string) fsverity.Algorithm {
	if strings.HasSuffix(fixture, "sha512") {
		return fsverity.SHA512
	}
	return fsverity.SHA256
}

func (f forge) remove(name string) {
	f.t.Helper()
	require.NoError(f.t, os.Remove(filepath.Join(f.repo, name)))
}

// change changes a file of the repository.
func (f forge) change(name string, change func([]byte) []byte) {
	f.t.Helper()
	data, err := os.ReadFile(filepath.Join(f.repo, name))
	require.NoError(f.t, err)
	f.put(name, change(data))
}

// streamFile returns the object that a stream is in.
func (f forge) streamFile(name string) string {
	f.t.Helper()
	target, err := os.Readlink(filepath.Join(f.repo, "streams", name))
	require.NoError(f.t, err)
	return strings.TrimPrefix(target, "../")
}

// objectOf returns the object that has the text in it.
func (f forge) objectOf(text string) string {
	f.t.Helper()
	files, err := filepath.Glob(filepath.Join(f.repo, "objects/*/*"))
	require.NoError(f.t, err)
	for _, file := range files {
		data, err := os.ReadFile(file)
		require.NoError(f.t, err)
		if bytes.Contains(data, []byte(text)) {
			name, err := filepath.Rel(f.repo, file)
			require.NoError(f.t, err)
			return name
		}
	}
	require.Fail(f.t, "no object has it", text)
	return ""
}
