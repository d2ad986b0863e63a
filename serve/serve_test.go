package serve_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	pathpkg "path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
	"github.com/skopeo-cfs/skopeo-cfs/internal/repomaker"
	"github.com/skopeo-cfs/skopeo-cfs/serve"
)

// TestMain sees that nothing is left running.
func TestMain(m *testing.M) {
	code := m.Run()
	http.DefaultClient.CloseIdleConnections()
	for deadline := time.Now().Add(20 * time.Second); code == 0; time.Sleep(50 * time.Millisecond) {
		stacks := leaked()
		if len(stacks) == 0 {
			break
		}
		if time.Now().After(deadline) {
			os.Stderr.WriteString("goroutines are left:\n" + strings.Join(stacks, "\n\n") + "\n")
			code = 1
		}
	}
	os.Exit(code)
}

// leaked returns the stacks of goroutines of this module or of a server.
func leaked() []string {
	buffer := make([]byte, 4<<20)
	var found []string
	for i, stack := range strings.Split(string(buffer[:runtime.Stack(buffer, true)]), "\n\n") {
		if i > 0 && (strings.Contains(stack, "skopeo-cfs/") || strings.Contains(stack, "net/http.(*conn)")) {
			found = append(found, stack)
		}
	}
	return found
}

// server is a registry that runs.
type server struct {
	*serve.Server
	url  string // http://HOST:PORT
	host string // HOST:PORT
	stop func() // ends it, gracefully

	mu       sync.Mutex
	reports  []error
	accesses []serve.Access
}

// start starts a registry on loopback, which ends with the test.
func start(t testing.TB, options serve.Options) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return startOn(t, l, options)
}

func startOn(t testing.TB, l net.Listener, options serve.Options) *server {
	t.Helper()
	s := &server{host: l.Addr().String(), url: "http://" + l.Addr().String()}
	if options.Certificate != "" {
		s.url = "https://" + s.host
	}
	options.Report = func(err error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.reports = append(s.reports, err)
	}
	options.Log = func(a serve.Access) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.accesses = append(s.accesses, a)
	}
	var err error
	s.Server, err = serve.New(t.Context(), options)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l) }()
	s.stop = sync.OnceFunc(func() {
		cancel()
		assert.NoError(t, <-ended)
		s.Close()
	})
	t.Cleanup(s.stop)
	return s
}

// reported returns what went wrong so far.
func (s *server) reported() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.reports...)
}

// answer is a response, read to its end.
type answer struct {
	status int
	header http.Header
	body   []byte
	err    error // of asking, or of reading the body
}

// get asks for a path; header has pairs of names and values.
func (s *server) get(t testing.TB, path string, header ...string) answer {
	t.Helper()
	return s.ask(t, http.MethodGet, path, header...)
}

func (s *server) ask(t testing.TB, method, path string, header ...string) answer {
	t.Helper()
	r, err := http.NewRequest(method, s.url+path, nil)
	require.NoError(t, err)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	response, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return answer{err: err}
	}
	defer response.Body.Close()
	a := answer{status: response.StatusCode, header: response.Header}
	a.body, a.err = io.ReadAll(response.Body)
	return a
}

// manifest returns a manifest that is served.
func (s *server) manifest(t testing.TB, path string, header ...string) (imgspecv1.Manifest, answer) {
	t.Helper()
	a := s.get(t, path, header...)
	require.Equal(t, http.StatusOK, a.status, "%s: %s", path, a.body)
	require.Equal(t, digest.FromBytes(a.body).String(), a.header.Get("Docker-Content-Digest"))
	var m imgspecv1.Manifest
	require.NoError(t, json.Unmarshal(a.body, &m))
	assert.Equal(t, m.MediaType, a.header.Get("Content-Type"))
	return m, a
}

// layers returns the contents of an image's layers.
func layers(t testing.TB, repository string, d digest.Digest) map[digest.Digest][]byte {
	t.Helper()
	repo, err := composefsrepo.Open(t.Context(), repository, nil)
	require.NoError(t, err)
	defer repo.Close()
	image, err := repo.ImageByDigest(t.Context(), d)
	require.NoError(t, err)
	contents := map[digest.Digest][]byte{}
	for i, l := range image.Layers {
		content, err := image.OpenLayer(t.Context(), i)
		require.NoError(t, err)
		contents[l.Digest()], err = io.ReadAll(content)
		require.NoError(t, err)
		require.NoError(t, content.Close())
	}
	return contents
}

// Every image of every repository is served whole: its own config, and layers that
// its diff IDs are the digests of. The manifest has the same digest everywhere.
func TestEveryImage(t *testing.T) {
	t.Parallel()
	digests := map[string]string{}
	for _, name := range fixtures.Repositories {
		s := start(t, serve.Options{Repository: fixtures.Unpack(t, name)})
		for layout, want := range fixtures.Layouts(t, name) {
			if layout == "emptylayers" { // has no tag
				continue
			}
			m, a := s.manifest(t, "/v2/localhost/"+layout+"/manifests/latest")
			assert.Equal(t, want.Config, m.Config.Digest)
			config := s.get(t, "/v2/"+layout+"/blobs/"+m.Config.Digest.String())
			assert.Equal(t, want.Config, digest.FromBytes(config.body))
			listed := want.Layers
			if len(want.Blobs) > 0 {
				listed = want.Blobs
			}
			require.Len(t, m.Layers, len(listed))
			for i, l := range m.Layers {
				if listed[i].DiffID != "" {
					assert.Equal(t, listed[i].DiffID, l.Digest)
					assert.Equal(t, listed[i].DiffSize, l.Size)
					assert.NotContains(t, l.MediaType, "+")
				}
				blob := s.get(t, "/v2/localhost/"+layout+"/blobs/"+l.Digest.String())
				require.Equal(t, http.StatusOK, blob.status)
				require.NoError(t, blob.err)
				assert.Equal(t, l.Digest, digest.FromBytes(blob.body))
				assert.EqualValues(t, l.Size, len(blob.body))
			}
			got := a.header.Get("Docker-Content-Digest")
			if before, ok := digests[layout]; ok {
				assert.Equal(t, before, got, "%s of %s", layout, name)
			}
			digests[layout] = got
			_, again := s.manifest(t, "/v2/localhost/"+layout+"/manifests/"+got)
			assert.Equal(t, a.body, again.body)
			if len(want.Blobs) > 0 || layout == "raw" {
				assert.Equal(t, want.Manifest.String(), got, "the manifest names what the repository has, and stays")
			} else {
				missing := s.get(t, "/v2/localhost/"+layout+"/manifests/"+want.Manifest.String())
				assert.Equal(t, http.StatusNotFound, missing.status)
				assert.Contains(t, string(missing.body), "ask for the tag")
			}
		}
		assert.NoError(t, s.reported())
	}
}

func TestRanges(t *testing.T) {
	repository := fixtures.Unpack(t, "sha256")
	s := start(t, serve.Options{Repository: repository})
	for _, layout := range []string{"sizes", "hello", "kinds"} {
		for d, content := range layers(t, repository, fixtures.Expected(t)[layout].Manifest) {
			path, size := "/v2/localhost/"+layout+"/blobs/"+d.String(), len(content)
			for _, r := range [][2]int{{0, 0}, {0, size - 1}, {1, size - 1}, {511, 1500}, {512, 512}, {size / 2, size/2 + 300000}, {size - 1, size - 1}, {size / 3, size - 2}} {
				if r[0] >= size {
					continue
				}
				a := s.get(t, path, "Range", rangeOf(r[0], r[1]))
				require.Equal(t, http.StatusPartialContent, a.status)
				require.NoError(t, a.err)
				require.True(t, bytes.Equal(content[r[0]:min(r[1]+1, size)], a.body), "%s %s %v", layout, d, r)
			}
			a := s.get(t, path, "Range", "bytes=-10")
			assert.Equal(t, content[size-10:], a.body)
			assert.Equal(t, http.StatusRequestedRangeNotSatisfiable, s.get(t, path, "Range", rangeOf(size, size+1)).status)
			a = s.get(t, path, "Range", "bytes=0-1,5-6")
			assert.Equal(t, http.StatusOK, a.status, "several ranges are the whole")
			assert.Equal(t, size, len(a.body))
			a = s.get(t, path, "Range", "bytes=0-1", "If-Range", `"other"`)
			assert.Equal(t, http.StatusOK, a.status)
			assert.Equal(t, size, len(a.body))
			assert.Equal(t, http.StatusNotModified, s.get(t, path, "If-None-Match", `"`+d.String()+`"`).status)
			a = s.ask(t, http.MethodHead, path)
			assert.Equal(t, http.StatusOK, a.status)
			assert.Empty(t, a.body)
			assert.Equal(t, digest.FromBytes(content).String(), a.header.Get("Docker-Content-Digest"))
		}
	}
	assert.NoError(t, s.reported())
}

func rangeOf(from, to int) string { return "bytes=" + itoa(from) + "-" + itoa(to) }

func itoa(n int) string { b, _ := json.Marshal(n); return string(b) }

func TestZstd(t *testing.T) {
	repository := fixtures.Unpack(t, "sha256")
	s := start(t, serve.Options{Repository: repository})
	want := fixtures.Expected(t)["sizes"]
	for d, content := range layers(t, repository, want.Manifest) {
		path := "/v2/localhost/sizes/blobs/" + d.String()
		a := s.get(t, path, "Accept-Encoding", "zstd;q=1.0, gzip;q=0.8")
		require.Equal(t, "zstd", a.header.Get("Content-Encoding"))
		assert.Less(t, len(a.body), len(content))
		decoder, err := zstd.NewReader(bytes.NewReader(a.body))
		require.NoError(t, err)
		defer decoder.Close()
		decoded, err := io.ReadAll(decoder)
		require.NoError(t, err)
		assert.Equal(t, d, digest.FromBytes(decoded))
		assert.NotEqual(t, s.get(t, path).header.Get("Etag"), a.header.Get("Etag"))
		for _, header := range [][]string{
			{"Accept-Encoding", "zstd;q=0"},
			{"Accept-Encoding", "gzip"},
			{"Accept-Encoding", "zstd", "Range", "bytes=0-99"},
		} {
			assert.Empty(t, s.get(t, path, header...).header.Get("Content-Encoding"), header)
		}
	}
	m, _ := s.manifest(t, "/v2/localhost/sbom/manifests/latest")
	a := s.get(t, "/v2/localhost/sbom/blobs/"+m.Layers[0].Digest.String(), "Accept-Encoding", "zstd")
	assert.Empty(t, a.header.Get("Content-Encoding"), "only tars")
}

func TestNames(t *testing.T) {
	repository := fixtures.Unpack(t, "sha256")
	s := start(t, serve.Options{Repository: repository})
	for path, status := range map[string]int{
		"/v2/":                                              200,
		"/v2/localhost/hello/manifests/latest":              200,
		"/v2/hello/manifests/latest":                        200,
		"/v2/hello/manifests/latest?ns=localhost":           200,
		"/v2/hello/manifests/latest?ns=quay.io":             200, // there is no other
		"/v2/quay.io/org/app/manifests/1.0":                 200,
		"/v2/org/app/manifests/1.0":                         200,
		"/v2/localhost:5000/a/b/c/manifests/latest":         200,
		"/v2/a/b/c/manifests/latest":                        200,
		"/v2/plain/manifests/latest":                        200,
		"/v2/localhost/hello/manifests/1":                   404,
		"/v2/localhost/nothing/manifests/latest":            404,
		"/v2/nothing/tags/list":                             404,
		"/v2/HELLO/manifests/latest":                        404,
		"/v2/hello/manifests/.INVALID":                      404,
		"/v2/hello/blobs/sha256:" + strings.Repeat("0", 64): 404,
		"/v2/hello/blobs/sha256:00":                         404,
		"/v2/hello/blobs/nothing":                           404,
		"/v2/hello/blobs/uploads/":                          405,
		"/":                                                 404,
		"/v2/hello":                                         404,
		"/v2/../../etc/passwd":                              404,
		"/v2/%2e%2e/%2e%2e/manifests/latest":                404,
		"/v2/hello/manifests/..%2f..%2fmeta.json":           404,
		"/v2/hello//manifests/latest":                       404,
		"/v2/hello/manifests/%00":                           404,
	} {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			assert.Equal(t, status, s.ask(t, method, path).status, "%s %s", method, path)
		}
	}
	for _, method := range []string{http.MethodPut, http.MethodPost, http.MethodDelete, http.MethodPatch, "LOOK"} {
		assert.Equal(t, http.StatusMethodNotAllowed, s.ask(t, method, "/v2/hello/manifests/latest").status, method)
	}
	assert.NoError(t, s.reported())
}

func TestLists(t *testing.T) {
	s := start(t, serve.Options{Repository: fixtures.Unpack(t, "sha256")})
	var catalog struct {
		Repositories []string `json:"repositories"`
	}
	require.NoError(t, json.Unmarshal(s.get(t, "/v2/_catalog").body, &catalog))
	assert.Contains(t, catalog.Repositories, "quay.io/org/app")
	assert.Contains(t, catalog.Repositories, "a/b/c", "clients could not ask for its host with a port")
	assert.NotContains(t, catalog.Repositories, "100%/odd name")
	all := slices.Clone(catalog.Repositories)

	var paged []string
	for path := "/v2/_catalog?n=4"; path != ""; {
		a := s.get(t, path)
		require.NoError(t, json.Unmarshal(a.body, &catalog))
		paged = append(paged, catalog.Repositories...)
		path = strings.TrimSuffix(strings.TrimPrefix(a.header.Get("Link"), "<"), `>; rel="next"`)
	}
	assert.Equal(t, all, paged)

	var tags struct {
		Name string
		Tags []string
	}
	require.NoError(t, json.Unmarshal(s.get(t, "/v2/org/app/tags/list").body, &tags))
	assert.Equal(t, "org/app", tags.Name)
	assert.Equal(t, []string{"1.0"}, tags.Tags)
	require.NoError(t, json.Unmarshal(s.get(t, "/v2/org/app/tags/list?last=1.0").body, &tags))
	assert.Empty(t, tags.Tags)
	require.NoError(t, json.Unmarshal(s.get(t, "/v2/org/app/tags/list?n=0").body, &tags))
	assert.Empty(t, tags.Tags)
	assert.Equal(t, http.StatusBadRequest, s.get(t, "/v2/org/app/tags/list?n=x").status)
}

func TestOnly(t *testing.T) {
	s := start(t, serve.Options{Repository: fixtures.Unpack(t, "sha256"), Only: []string{"localhost/h*", "quay.io/org/app:2*"}})
	assert.Equal(t, 200, s.get(t, "/v2/localhost/hello/manifests/latest").status)
	for _, path := range []string{"/v2/localhost/sizes/manifests/latest", "/v2/quay.io/org/app/manifests/1.0", "/v2/plain/manifests/latest"} {
		assert.Equal(t, 404, s.get(t, path).status, path)
	}
	other := fixtures.Expected(t)["sizes"]
	for _, d := range []digest.Digest{other.Config, other.Layers[0].DiffID} {
		assert.Equal(t, 404, s.get(t, "/v2/localhost/hello/blobs/"+d.String()).status, "a blob of an image that is not served")
	}
	_, err := serve.New(t.Context(), serve.Options{Repository: fixtures.Unpack(t, "sha256"), Only: []string{"[a"}})
	assert.ErrorIs(t, err, pathpkg.ErrBadPattern)
}

// The manifests are negotiated; Docker's images stay Docker's for who takes them.
func TestDockerImages(t *testing.T) {
	const dockerManifest, dockerConfig = "application/vnd.docker.distribution.manifest.v2+json", "application/vnd.docker.container.image.v1+json"
	path := t.TempDir()
	repo, err := repomaker.Create(path, fsverity.SHA256, repomaker.Options{})
	require.NoError(t, err)
	added := addDocker(t, repo)
	s := start(t, serve.Options{Repository: path})

	m, a := s.manifest(t, "/v2/library/docker/manifests/latest")
	assert.Equal(t, dockerManifest, m.MediaType)
	assert.Equal(t, dockerConfig, m.Config.MediaType)
	assert.Equal(t, "application/vnd.docker.image.rootfs.diff.tar", m.Layers[0].MediaType)
	assert.Equal(t, added.Layers[0].Digest, m.Layers[0].Digest)
	docker := a.header.Get("Docker-Content-Digest")

	m, a = s.manifest(t, "/v2/library/docker/manifests/latest", "Accept", imgspecv1.MediaTypeImageManifest)
	assert.Equal(t, imgspecv1.MediaTypeImageManifest, m.MediaType)
	assert.Equal(t, imgspecv1.MediaTypeImageConfig, m.Config.MediaType)
	assert.Equal(t, imgspecv1.MediaTypeImageLayer, m.Layers[0].MediaType)
	assert.Equal(t, added.Config.Digest, m.Config.Digest)
	oci := a.header.Get("Docker-Content-Digest")
	for _, d := range []string{docker, oci} {
		assert.Equal(t, 200, s.get(t, "/v2/library/docker/manifests/"+d, "Accept", "text/html").status)
	}
	assert.Equal(t, 404, s.get(t, "/v2/library/docker/manifests/latest", "Accept", "text/html").status)
	assert.Equal(t, 200, s.get(t, "/v2/library/docker/manifests/latest", "Accept", "text/html, */*;q=0.1").status)
}

// addDocker adds an image of Docker's schema 2 with a compressed layer.
func addDocker(t testing.TB, repo *repomaker.Repo) repomaker.Added {
	t.Helper()
	layer, err := repo.AddLayer(bytes.NewReader(make([]byte, 1024)), nil)
	require.NoError(t, err)
	config, err := json.Marshal(imgspecv1.Image{
		Platform: imgspecv1.Platform{OS: "linux", Architecture: "amd64"},
		RootFS:   imgspecv1.RootFS{Type: "layers", DiffIDs: []digest.Digest{layer.Digest}},
	})
	require.NoError(t, err)
	manifest, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
		"config": map[string]any{"mediaType": "application/vnd.docker.container.image.v1+json", "size": len(config), "digest": digest.FromBytes(config)},
		"layers": []any{map[string]any{"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "size": 29, "digest": digest.FromString("compressed")}},
	})
	require.NoError(t, err)
	added, err := repo.AddDocuments("docker.io/library/docker:latest", manifest, config, []repomaker.Blob{layer})
	require.NoError(t, err)
	return added
}

// What refers to an image, and what refers to that, can be had below its name.
func TestReferrers(t *testing.T) {
	path := t.TempDir()
	repo, err := repomaker.Create(path, fsverity.SHA256, repomaker.Options{})
	require.NoError(t, err)
	added, err := repo.AddImage("quay.io/org/os:42", repomaker.Image{Layers: []repomaker.Layer{{Tar: bytes.NewReader(make([]byte, 1024))}}})
	require.NoError(t, err)
	sbom := addArtifact(t, repo, "sbom", added.Manifest.Digest)
	signature := addArtifact(t, repo, "signature", sbom.Manifest.Digest)
	stranger := addArtifact(t, repo, "stranger", digest.FromString("another"))

	s := start(t, serve.Options{Repository: path})
	list := func(d digest.Digest, query string) []imgspecv1.Descriptor {
		a := s.get(t, "/v2/quay.io/org/os/referrers/"+d.String()+query)
		require.Equal(t, 200, a.status)
		assert.Equal(t, imgspecv1.MediaTypeImageIndex, a.header.Get("Content-Type"))
		assert.Equal(t, query != "", a.header.Get("OCI-Filters-Applied") == "artifactType")
		var index imgspecv1.Index
		require.NoError(t, json.Unmarshal(a.body, &index))
		return index.Manifests
	}
	found := list(added.Manifest.Digest, "")
	require.Len(t, found, 1)
	assert.Equal(t, sbom.Manifest.Digest, found[0].Digest)
	assert.Equal(t, "application/x.sbom", found[0].ArtifactType)
	assert.Equal(t, "sbom", found[0].Annotations["kind"])
	assert.Len(t, list(added.Manifest.Digest, "?artifactType=application/x.sbom"), 1)
	assert.Empty(t, list(added.Manifest.Digest, "?artifactType=other"))
	assert.Len(t, list(sbom.Manifest.Digest, ""), 1)
	assert.NotNil(t, list(digest.FromString("nothing"), ""))
	for _, a := range []repomaker.Added{sbom, signature} {
		_, got := s.manifest(t, "/v2/quay.io/org/os/manifests/"+a.Manifest.Digest.String())
		assert.Equal(t, a.Manifest.Digest, digest.FromBytes(got.body))
		blob := s.get(t, "/v2/quay.io/org/os/blobs/"+a.Layers[0].Digest.String())
		assert.Equal(t, a.Layers[0].Digest, digest.FromBytes(blob.body))
	}
	assert.Equal(t, 404, s.get(t, "/v2/quay.io/org/os/manifests/"+stranger.Manifest.Digest.String()).status)
	assert.NoError(t, s.reported())
}

// addArtifact adds an artifact that refers to a subject, without a tag.
func addArtifact(t testing.TB, repo *repomaker.Repo, kind string, subject digest.Digest) repomaker.Added {
	t.Helper()
	blob, err := repo.AddBlob(blobType, strings.NewReader("a "+kind), nil)
	require.NoError(t, err)
	manifest, err := json.Marshal(imgspecv1.Manifest{
		Versioned: versioned, MediaType: imgspecv1.MediaTypeImageManifest, ArtifactType: "application/x." + kind,
		Config:      imgspecv1.DescriptorEmptyJSON,
		Layers:      []imgspecv1.Descriptor{{MediaType: "text/plain", Digest: blob.Digest, Size: blob.Size}},
		Subject:     &imgspecv1.Descriptor{MediaType: imgspecv1.MediaTypeImageManifest, Digest: subject, Size: 1},
		Annotations: map[string]string{"kind": kind},
	})
	require.NoError(t, err)
	added, err := repo.AddDocuments("", manifest, []byte("{}"), []repomaker.Blob{blob})
	require.NoError(t, err)
	dir := filepath.Join(repo.Path(), "streams/refs/oci-referrers", subject.String())
	require.NoError(t, os.MkdirAll(dir, 0o755))
	require.NoError(t, os.Symlink("../../../oci-manifest-"+added.Manifest.Digest.String(), filepath.Join(dir, added.Manifest.Digest.String())))
	return added
}

// A tag that is set, moved or removed is seen; what it stood for can be had by digest
// for a while.
func TestRepositoryChanges(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	repo, err := repomaker.Create(path, fsverity.SHA256, repomaker.Options{})
	require.NoError(t, err)
	image := func(content string) repomaker.Image {
		return repomaker.Image{Layers: []repomaker.Layer{{Tar: bytes.NewReader(tarOf(t, "file", []byte(content)))}}}
	}
	first, err := repo.AddImage("quay.io/org/os:42", image("first"))
	require.NoError(t, err)
	s := start(t, serve.Options{Repository: path})
	const tag = "/v2/quay.io/org/os/manifests/42"
	m, a := s.manifest(t, tag)
	require.Equal(t, first.Layers[0].Digest, m.Layers[0].Digest)
	second, err := repo.AddImage("quay.io/org/os:42", image("second"))
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		m, _ := s.manifest(t, tag)
		return m.Layers[0].Digest == second.Layers[0].Digest
	}, 10*time.Second, 50*time.Millisecond)
	assert.Equal(t, 200, s.get(t, "/v2/quay.io/org/os/manifests/"+a.header.Get("Docker-Content-Digest")).status)
	assert.Equal(t, 200, s.get(t, "/v2/quay.io/org/os/blobs/"+first.Layers[0].Digest.String()).status)
	_, err = repo.AddImage("example.com/org/os:42", image("third"))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return s.get(t, "/v2/example.com/org/os/manifests/42").status == 200 }, 10*time.Second, 50*time.Millisecond)
	assert.Equal(t, 404, s.get(t, "/v2/org/os/manifests/42").status, "two are called so")
	assert.Equal(t, 200, s.get(t, "/v2/org/os/manifests/42?ns=example.com").status)
	require.NoError(t, os.RemoveAll(filepath.Join(path, "streams/refs/oci")))
	require.Eventually(t, func() bool { return s.get(t, tag).status == 404 }, 10*time.Second, 50*time.Millisecond)
	assert.NoError(t, s.reported())
}
