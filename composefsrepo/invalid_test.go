package composefsrepo_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/damaged"
	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
	"github.com/skopeo-cfs/skopeo-cfs/internal/repomaker"
	"github.com/skopeo-cfs/skopeo-cfs/splitstream"
)

// listed is a layer in a manifest and in a config.
type listed struct{ blob, diffID digest.Digest }

// addListed adds an image whose documents list these layers, and returns the
// digest of its manifest.
func addListed(t *testing.T, repo *repomaker.Repo, configType string, layers []listed, blobs ...repomaker.Blob) digest.Digest {
	t.Helper()
	config := imgspecv1.Image{Platform: imgspecv1.Platform{OS: "linux", Architecture: "amd64"}, RootFS: imgspecv1.RootFS{Type: "layers"}}
	manifest := imgspecv1.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: imgspecv1.MediaTypeImageManifest}
	for _, l := range layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, l.diffID)
		d := imgspecv1.Descriptor{MediaType: imgspecv1.MediaTypeImageLayerGzip, Digest: l.blob, Size: 1}
		for _, b := range blobs {
			if b.Digest == l.blob {
				d.Size = b.Size
			}
		}
		manifest.Layers = append(manifest.Layers, d)
	}
	rawConfig, err := json.Marshal(config)
	require.NoError(t, err)
	manifest.Config = imgspecv1.Descriptor{MediaType: configType, Digest: digest.FromBytes(rawConfig), Size: int64(len(rawConfig))}
	rawManifest, err := json.Marshal(manifest)
	require.NoError(t, err)
	added, err := repo.AddDocuments("", rawManifest, rawConfig, blobs)
	require.NoError(t, err)
	return added.Manifest.Digest
}

// A blob has one content, of which there may be several blobs.
func TestBlobWithTwoDiffIDsIsRefused(t *testing.T) {
	repo, err := repomaker.Create(t.TempDir(), fsverity.SHA256, repomaker.Options{})
	require.NoError(t, err)
	_, tars := damaged.Fixture(t, "hello")
	var layers []repomaker.Blob
	for _, data := range tars[:2] {
		l, err := repo.AddLayer(bytes.NewReader(data), nil)
		require.NoError(t, err)
		layers = append(layers, l)
	}
	x, y := layers[0].Digest, layers[1].Digest
	blob, other := digest.FromString("blob"), digest.FromString("other")
	for name, test := range map[string]struct {
		layers []listed
		good   bool
	}{
		"two contents":                   {[]listed{{blob, x}, {blob, y}}, false},
		"two contents, not side by side": {[]listed{{blob, x}, {other, x}, {blob, y}}, false},
		"two blobs":                      {[]listed{{blob, x}, {other, x}}, true},
		"the same twice":                 {[]listed{{blob, x}, {other, y}, {blob, x}}, true},
		"compressed and not":             {[]listed{{x, x}, {blob, x}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			// The tars have names of their own, by which they are found.
			d := addListed(t, repo, imgspecv1.MediaTypeImageConfig, test.layers, layers...)
			_, err := open(t, repo.Path()).ImageByDigest(t.Context(), d)
			if test.good {
				assert.NoError(t, err)
				return
			}
			assert.ErrorIs(t, err, composefsrepo.ErrInvalidImage)
			for _, part := range []digest.Digest{blob, x, y} {
				assert.ErrorContains(t, err, part.String())
			}
		})
	}
}

// An artifact may list a blob several times, and its blobs may be kept in streams
// that are called so.
func TestBlobsOfArtifacts(t *testing.T) {
	repo, err := repomaker.Create(t.TempDir(), fsverity.SHA256, repomaker.Options{})
	require.NoError(t, err)
	const text = "a blob of an artifact"
	b, err := repo.AddBlob(splitstream.Blob, bytes.NewReader([]byte(text)), nil)
	require.NoError(t, err)
	d := addListed(t, repo, "application/vnd.example.config", []listed{{b.Digest, "sha256:x"}, {b.Digest, "sha256:y"}}, b)
	streams := filepath.Join(repo.Path(), "streams")
	without, err := repo.AddDocuments("without", manifestOf(t, repo.Path(), d), configOf(t, repo.Path(), d), nil) // no references lead to the blob
	require.NoError(t, err)
	require.Equal(t, d, without.Manifest.Digest)
	for _, name := range []string{"oci-layer-", "oci-blob-"} {
		image, err := open(t, repo.Path()).ImageByDigest(t.Context(), d)
		require.NoError(t, err, name)
		require.Len(t, image.Layers, 2)
		data, err := readLayer(t, image, 1)
		require.NoError(t, err)
		assert.Equal(t, text, string(data))
		if name == "oci-layer-" {
			require.NoError(t, os.Rename(filepath.Join(streams, "oci-layer-"+b.Digest.String()), filepath.Join(streams, "oci-blob-"+b.Digest.String())))
		}
	}
}

func manifestOf(t *testing.T, path string, d digest.Digest) []byte {
	t.Helper()
	image, err := open(t, path).ImageByDigest(t.Context(), d)
	require.NoError(t, err)
	return image.Manifest
}

func configOf(t *testing.T, path string, d digest.Digest) []byte {
	t.Helper()
	image, err := open(t, path).ImageByDigest(t.Context(), d)
	require.NoError(t, err)
	return image.Config
}

// A list of manifests is none that this package reads, and is said to be one.
func TestIndexIsRefusedAsSuch(t *testing.T) {
	path := fixtures.Unpack(t, "sha256")
	repo, err := repomaker.Open(path, fsverity.SHA256, repomaker.Options{})
	require.NoError(t, err)
	hello := fixtures.Expected(t)["hello"]
	raw, err := json.Marshal(imgspecv1.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: imgspecv1.MediaTypeImageIndex,
		Manifests: []imgspecv1.Descriptor{{MediaType: imgspecv1.MediaTypeImageManifest, Digest: hello.Manifest, Size: 1}},
	})
	require.NoError(t, err)
	d := digest.FromBytes(raw)
	w := splitstream.NewWriter(fsverity.SHA256, splitstream.Type([]byte("ociindx\x00")))
	_, err = w.Write(raw)
	require.NoError(t, err)
	_, err = repo.AddStream("oci-index-"+d.String(), w)
	require.NoError(t, err)
	require.NoError(t, os.Symlink("../../oci-index-"+d.String(), filepath.Join(path, "streams/refs/oci/index")))
	_, err = repo.AddBlob(splitstream.Manifest, bytes.NewReader(append(raw, '\n')), nil) // as if it were a manifest
	require.NoError(t, err)

	r := open(t, path)
	for name, get := range map[string]func() error{
		"by tag":             func() error { _, err := r.ImageByTag(t.Context(), "index"); return err },
		"resolved":           func() error { _, err := r.Resolve("index"); return err },
		"by digest":          func() error { _, err := r.ImageByDigest(t.Context(), d); return err },
		"kept as an image's": func() error { _, err := r.ImageByDigest(t.Context(), digest.FromBytes(append(raw, '\n'))); return err },
	} {
		err := get()
		assert.ErrorIs(t, err, composefsrepo.ErrIndex, name)
		assert.NotErrorIs(t, err, composefsrepo.ErrNotFound, name)
		assert.ErrorContains(t, err, "by digest", name)
	}
	tags, err := r.Tags()
	require.NoError(t, err)
	assert.Contains(t, tags, "index")
	_, err = r.ImageByDigest(t.Context(), hello.Manifest)
	assert.NoError(t, err)
}
