package serve_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/opencontainers/go-digest"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/repomaker"
	"github.com/skopeo-cfs/skopeo-cfs/serve"
)

// origin has images as a registry on loopback has them.
type origin struct {
	url   string
	asked atomic.Int64 // for manifests
	wrong atomic.Bool  // its blobs are others
}

func newOrigin(t testing.TB) *origin {
	t.Helper()
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	return &origin{url: server.URL + "/v2/os/"}
}

func (o *origin) put(t testing.TB, path string, body []byte, mediaType string) {
	t.Helper()
	method := http.MethodPut
	if strings.HasPrefix(path, "blobs/") {
		method = http.MethodPost
	}
	r, err := http.NewRequest(method, o.url+path, bytes.NewReader(body))
	require.NoError(t, err)
	r.Header.Set("Content-Type", mediaType)
	response, err := http.DefaultTransport.RoundTrip(r)
	require.NoError(t, err)
	response.Body.Close()
	require.Equal(t, http.StatusCreated, response.StatusCode)
}

func (o *origin) get(ctx context.Context, path string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, o.url+path, nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultTransport.RoundTrip(r)
	if err == nil && response.StatusCode != http.StatusOK {
		response.Body.Close()
		err = errors.New(response.Status)
	}
	return response, err
}

// Manifest implements serve.Originals.
func (o *origin) Manifest(ctx context.Context, _ string, image *composefsrepo.Image) ([]byte, string, error) {
	o.asked.Add(1)
	response, err := o.get(ctx, "manifests/"+image.ManifestDigest.String())
	if err != nil {
		return nil, "", err
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	return raw, response.Header.Get("Content-Type"), err
}

// Blob implements serve.Originals.
func (o *origin) Blob(ctx context.Context, _ digest.Digest, blob imgspecv1.Descriptor) (io.ReadCloser, error) {
	if o.wrong.Load() {
		return io.NopCloser(io.LimitReader(strings.NewReader(strings.Repeat("wrong", 1<<20)), blob.Size)), nil
	}
	response, err := o.get(ctx, "blobs/"+blob.Digest.String())
	if err != nil {
		return nil, err
	}
	return response.Body, nil
}

// addCompressed adds an image with a gzipped layer to a repository and, unless that is
// nil, to the origin.
func addCompressed(t testing.TB, repo *repomaker.Repo, o *origin, tag string) repomaker.Added {
	t.Helper()
	content := tarOf(t, "file", bytes.Repeat([]byte(tag), 100000))
	layer, err := repo.AddLayer(bytes.NewReader(content), nil)
	require.NoError(t, err)
	var compressed bytes.Buffer
	w := gzip.NewWriter(&compressed)
	w.Write(content)
	require.NoError(t, w.Close())
	config, err := json.Marshal(imgspecv1.Image{
		Platform: imgspecv1.Platform{OS: "linux", Architecture: "amd64"},
		RootFS:   imgspecv1.RootFS{Type: "layers", DiffIDs: []digest.Digest{layer.Digest}},
	})
	require.NoError(t, err)
	manifest, err := json.Marshal(imgspecv1.Manifest{
		Versioned: versioned, MediaType: imgspecv1.MediaTypeImageManifest,
		Config: imgspecv1.Descriptor{MediaType: imgspecv1.MediaTypeImageConfig, Digest: digest.FromBytes(config), Size: int64(len(config))},
		Layers: []imgspecv1.Descriptor{{MediaType: imgspecv1.MediaTypeImageLayerGzip, Digest: digest.FromBytes(compressed.Bytes()), Size: int64(compressed.Len())}},
	})
	require.NoError(t, err)
	added, err := repo.AddDocuments(tag, manifest, config, []repomaker.Blob{layer})
	require.NoError(t, err)
	if o != nil {
		for _, blob := range [][]byte{config, compressed.Bytes()} {
			o.put(t, "blobs/uploads/?digest="+digest.FromBytes(blob).String(), blob, "application/octet-stream")
		}
		o.put(t, "manifests/"+digest.FromBytes(manifest).String(), manifest, imgspecv1.MediaTypeImageManifest)
	}
	return added
}

// Where the compressed layers can be had, the image is the registry's, with its
// digest; and still to be had with the layers of the repository.
func TestOriginals(t *testing.T) {
	path := t.TempDir()
	repo, err := repomaker.Create(path, fsverity.SHA256, repomaker.Options{})
	require.NoError(t, err)
	o := newOrigin(t)
	known := addCompressed(t, repo, o, "quay.io/org/os:42")
	unknown := addCompressed(t, repo, nil, "quay.io/org/other:1")
	s := start(t, serve.Options{Repository: path, Originals: o})

	m, a := s.manifest(t, "/v2/org/os/manifests/42")
	require.Equal(t, known.Manifest.Digest.String(), a.header.Get("Docker-Content-Digest"))
	for range 3 {
		_, a = s.manifest(t, "/v2/org/os/manifests/"+known.Manifest.Digest.String())
		assert.Equal(t, known.Manifest.Digest, digest.FromBytes(a.body))
	}
	assert.EqualValues(t, 1, o.asked.Load(), "it is remembered")
	compressed := "/v2/org/os/blobs/" + m.Layers[0].Digest.String()
	blob := s.get(t, compressed)
	require.NoError(t, blob.err)
	assert.Equal(t, m.Layers[0].Digest, digest.FromBytes(blob.body))
	head := s.ask(t, http.MethodHead, compressed)
	assert.Equal(t, 200, head.status)
	assert.Equal(t, m.Layers[0].Digest.String(), head.header.Get("Docker-Content-Digest"))
	assert.Equal(t, 304, s.get(t, compressed, "If-None-Match", `"`+m.Layers[0].Digest.String()+`"`).status)
	assert.Equal(t, known.Layers[0].Digest, digest.FromBytes(s.get(t, "/v2/org/os/blobs/"+known.Layers[0].Digest.String()).body))
	assert.Equal(t, known.Config.Digest, digest.FromBytes(s.get(t, "/v2/org/os/blobs/"+known.Config.Digest.String()).body))

	m, _ = s.manifest(t, "/v2/org/other/manifests/1")
	assert.Equal(t, unknown.Layers[0].Digest, m.Layers[0].Digest)
	assert.Equal(t, 404, s.get(t, "/v2/org/other/manifests/"+unknown.Manifest.Digest.String()).status)
	assert.NoError(t, s.reported())

	o.wrong.Store(true)
	requireBroken(t, s.get(t, compressed))
	assert.ErrorIs(t, s.reported(), composefsrepo.ErrDigestMismatch)
	asked := o.asked.Load()
	s.manifest(t, "/v2/org/os/manifests/42")
	assert.Equal(t, asked+1, o.asked.Load(), "it is in doubt")
}
