package push_test

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/containers/image/v5/copy"
	"github.com/containers/image/v5/docker/reference"
	"github.com/containers/image/v5/pkg/compression"
	"github.com/containers/image/v5/signature"
	"github.com/containers/image/v5/transports/alltransports"
	"github.com/containers/image/v5/types"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/opencontainers/go-digest"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/identity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/original"
	"github.com/skopeo-cfs/skopeo-cfs/push"
	_ "github.com/skopeo-cfs/skopeo-cfs/transport"
)

// server is a registry on loopback that counts and can be told to misbehave.
type server struct {
	at string

	mutex     sync.Mutex
	sent      int64 // bytes that it was sent
	served    int64 // bytes that it has sent
	methods   []string
	intercept func(w http.ResponseWriter, r *http.Request) bool // true if it has answered
}

func newServer(t testing.TB) *server {
	t.Helper()
	s := &server{}
	handler := mounting(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mutex.Lock()
		s.methods = append(s.methods, r.Method+" "+r.URL.Path)
		intercept := s.intercept
		s.mutex.Unlock()
		r.Body = &counted{r.Body, s}
		w = &counting{w, s}
		if intercept == nil || !intercept(w, r) {
			handler.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(server.Close)
	s.at = strings.TrimPrefix(server.URL, "http://")
	return s
}

// mounting answers to mounts as a registry does that keeps blobs by repository; the
// handler has one set of blobs for all.
func mounting(handler http.Handler) http.Handler {
	var mutex sync.Mutex
	has := map[string]bool{}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		parts := strings.Split(r.URL.Path, "/blobs/")
		if len(parts) != 2 {
			handler.ServeHTTP(w, r)
			return
		}
		mutex.Lock()
		defer mutex.Unlock()
		query := r.URL.Query()
		repository := strings.TrimPrefix(parts[0], "/v2/")
		if mount := query.Get("mount"); mount != "" {
			if has[query.Get("from")+mount] {
				has[repository+mount] = true
				w.WriteHeader(http.StatusCreated)
				return
			}
			query.Del("mount")
			r.URL.RawQuery = query.Encode()
		}
		if d := query.Get("digest"); r.Method == http.MethodPut && d != "" {
			has[repository+d] = true
		}
		if strings.HasPrefix(parts[1], "sha256:") && !has[repository+parts[1]] {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		handler.ServeHTTP(w, r)
	})
}

type counted struct {
	io.ReadCloser
	s *server
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.s.mutex.Lock()
	defer c.s.mutex.Unlock()
	c.s.sent += int64(n)
	return n, err
}

type counting struct {
	http.ResponseWriter
	s *server
}

func (c *counting) Write(p []byte) (int, error) {
	c.s.mutex.Lock()
	c.s.served += int64(len(p))
	c.s.mutex.Unlock()
	return c.ResponseWriter.Write(p)
}

// reset begins to count anew.
func (s *server) reset() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.sent, s.served, s.methods = 0, 0, nil
}

func (s *server) misbehave(f func(w http.ResponseWriter, r *http.Request) bool) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.intercept = f
}

// named returns a name in the registry.
func (s *server) named(t testing.TB, name string) reference.Named {
	t.Helper()
	n, err := reference.ParseNormalizedNamed(s.at + "/" + name)
	require.NoError(t, err)
	return n
}

// digestOf returns the digest of a manifest in the registry, "" where it has none.
func (s *server) digestOf(t testing.TB, repository, tag string) digest.Digest {
	t.Helper()
	response, err := http.Get("http://" + s.at + "/v2/" + repository + "/manifests/" + tag)
	require.NoError(t, err)
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return ""
	}
	raw, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return digest.FromBytes(raw)
}

// blob returns a blob in the registry.
func (s *server) blob(t testing.TB, repository string, d digest.Digest) []byte {
	t.Helper()
	response, err := http.Get("http://" + s.at + "/v2/" + repository + "/blobs/" + d.String())
	require.NoError(t, err)
	defer response.Body.Close()
	require.Equal(t, http.StatusOK, response.StatusCode)
	raw, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return raw
}

func system(t testing.TB) *types.SystemContext {
	t.Helper()
	dir := t.TempDir()
	return &types.SystemContext{
		DockerInsecureSkipTLSVerify: types.OptionalBoolTrue, RegistriesDirPath: dir,
		SystemRegistriesConfPath: "/dev/null", SystemRegistriesConfDirPath: dir,
		BlobInfoCacheDir: dir, AuthFilePath: filepath.Join(dir, "auth.json"), BigFilesTemporaryDir: dir,
	}
}

func acceptAll(t testing.TB) *signature.PolicyContext {
	t.Helper()
	policy, err := signature.NewPolicyContext(&signature.Policy{Default: []signature.PolicyRequirement{signature.NewPRInsecureAcceptAnything()}})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, policy.Destroy()) })
	return policy
}

func parse(t testing.TB, name string) types.ImageReference {
	t.Helper()
	ref, err := alltransports.ParseImageName(name)
	require.NoError(t, err)
	return ref
}

// host returns the reference of an image on a host that came by it in one of the
// ways, with the registry's manifest.
func host(t testing.TB, o original.Image, way original.How) types.ImageReference {
	t.Helper()
	path := filepath.Join(t.TempDir(), "repository")
	o.AddTo(t, path, "localhost/x:latest", way)
	return identity.With(parse(t, "composefs:["+path+"]@"+o.ID.String()), o.Manifest)
}

// pushed is what a push has come to.
type pushed struct {
	manifest []byte
	plans    []push.Plan
	err      error
}

func pushTo(t testing.TB, to string, src types.ImageReference, options push.Options) pushed {
	t.Helper()
	var p pushed
	p.manifest, p.err = push.Image(t.Context(), acceptAll(t), parse(t, to), src, &copy.Options{SourceCtx: system(t), DestinationCtx: system(t)}, options,
		func(plan push.Plan) { p.plans = append(p.plans, plan) })
	return p
}

// A registry that has the image gets kilobytes from a second host, whichever way
// that came by it, and the manifest keeps its digest.
func TestRegistryHasTheLayers(t *testing.T) {
	o := original.New(t, "many")
	for name, way := range original.Ways {
		s, src := newServer(t), host(t, o, way)
		for d, blob := range o.Blobs {
			original.PushBlob(t, s.at, "org/os", d, blob)
		}
		s.reset()
		p := pushTo(t, "docker://"+s.at+"/org/os:2", src, push.Options{})
		require.NoError(t, p.err, name)
		assert.Equal(t, string(o.Manifest), string(p.manifest))
		assert.Equal(t, o.Digest, s.digestOf(t, "org/os", "2"))
		require.Len(t, p.plans, 1)
		assert.NotEmpty(t, p.plans[0].Reused)
		assert.Empty(t, p.plans[0].Fetched)
		assert.LessOrEqual(t, s.sent, int64(len(o.Manifest)), "bytes were sent")
	}
}

// Layers in another repository of the registry are mounted.
func TestMount(t *testing.T) {
	o, s := original.New(t, "many"), newServer(t)
	o.Push(t, s.at, "upstream/os", "1")
	s.reset()
	p := pushTo(t, "docker://"+s.at+"/mirror/os:1", host(t, o, original.Raw), push.Options{Origins: []reference.Named{s.named(t, "upstream/os:1")}})
	require.NoError(t, p.err)
	assert.Equal(t, o.Digest, s.digestOf(t, "mirror/os", "1"))
	assert.LessOrEqual(t, s.sent, int64(len(o.Manifest)+len(o.Config)), "bytes were sent")
}

// Nothing is written where layers are missing and not to be had.
func TestMissing(t *testing.T) {
	o, s := original.New(t, "hello"), newServer(t)
	original.PushBlob(t, s.at, "org/os", o.Layers[0].Digest, o.Blobs[o.Layers[0].Digest])
	src := host(t, o, original.Pulled)
	s.reset()
	for name, options := range map[string]push.Options{
		"not to be fetched":  {Origins: []reference.Named{s.named(t, "org/elsewhere:1")}},
		"from nowhere":       {FetchMissing: true},
		"origin has nothing": {FetchMissing: true, Origins: []reference.Named{s.named(t, "org/elsewhere:1")}},
		"no origin there":    {FetchMissing: true, Origins: []reference.Named{(&server{at: "127.0.0.1:1"}).named(t, "org/os:1")}},
	} {
		p := pushTo(t, "docker://"+s.at+"/org/os:1", src, options)
		assert.ErrorIs(t, p.err, push.ErrMissing, name)
		assert.ErrorContains(t, p.err, "2 of 3", name)
		assert.Empty(t, p.plans)
	}
	assert.Zero(t, s.sent)
	assert.ErrorIs(t, pushTo(t, "docker-archive:"+t.TempDir()+"/x", src, push.Options{}).err, push.ErrDestination)
	for name, options := range map[string]*copy.Options{
		"another type":        {ForceManifestMIMEType: "application/vnd.docker.distribution.manifest.v2+json"},
		"another compression": {DestinationCtx: &types.SystemContext{CompressionFormat: &compression.Zstd}},
		"uncompressed":        {DestinationCtx: &types.SystemContext{DirForceDecompress: true}},
		"encrypted":           {OciEncryptLayers: &[]int{}},
	} {
		_, err := push.Image(t.Context(), acceptAll(t), parse(t, "docker://"+s.at+"/org/os:1"), src, options, push.Options{}, nil)
		assert.ErrorIs(t, err, push.ErrDestination, name)
	}
}

// What the destination lacks is fetched, as it is: into registries, layouts and
// directories.
func TestFetched(t *testing.T) {
	o, from, to := original.New(t, "hello"), newServer(t), newServer(t)
	o.Push(t, from.at, "org/os", o.Digest.String())
	original.PushBlob(t, to.at, "org/os", o.Layers[0].Digest, o.Blobs[o.Layers[0].Digest])
	options := push.Options{FetchMissing: true, Origins: []reference.Named{from.named(t, "org/os:1")}}
	p := pushTo(t, "docker://"+to.at+"/org/os:1", host(t, o, original.Raw), options)
	require.NoError(t, p.err)
	require.Len(t, p.plans, 1)
	assert.Len(t, p.plans[0].Reused, 1)
	assert.Len(t, p.plans[0].Fetched, 2)
	assert.Equal(t, from.at+"/org/os@"+o.Digest.String(), p.plans[0].From.String())
	assert.Equal(t, o.Digest, to.digestOf(t, "org/os", "1"))
	for d, blob := range o.Blobs {
		assert.Equal(t, blob, to.blob(t, "org/os", d))
	}
	dir := t.TempDir()
	for _, name := range []string{"oci:" + dir + "/layout:x", "oci-archive:" + dir + "/archive:x", "dir:" + dir + "/dir"} {
		p := pushTo(t, name, host(t, o, original.Collected), options)
		require.NoError(t, p.err, name)
		assert.Equal(t, string(o.Manifest), string(p.manifest), name)
	}
}

// A layout on this machine serves, too, without a registry.
func TestLayout(t *testing.T) {
	o, to, layout := original.New(t, "hello"), newServer(t), t.TempDir()
	o.Layout(t, layout, nil)
	p := pushTo(t, "docker://"+to.at+"/org/os:1", host(t, o, original.Raw), push.Options{Layouts: []string{"/does/not/exist", layout}})
	require.NoError(t, p.err)
	assert.Equal(t, o.Digest, to.digestOf(t, "org/os", "1"))
	assert.Len(t, p.plans[0].Local, 3)

	blob := filepath.Join(layout, "blobs/sha256", o.Layers[1].Digest.Encoded())
	altered := bytes.Clone(o.Blobs[o.Layers[1].Digest])
	altered[len(altered)/2] ^= 1
	require.NoError(t, os.WriteFile(blob, altered, 0o644))
	to = newServer(t)
	p = pushTo(t, "docker://"+to.at+"/org/os:1", host(t, o, original.Raw), push.Options{Layouts: []string{layout}})
	assert.Error(t, p.err)
	assert.Empty(t, to.digestOf(t, "org/os", "1"))
}

// An origin whose blobs are not the image's layers is found out on the way.
func TestOriginThatLies(t *testing.T) {
	o, from, to := original.New(t, "hello"), newServer(t), newServer(t)
	other := original.New(t, "trailers")
	liar := o
	liar.Layers = append([]imgspecv1.Descriptor{}, o.Layers...)
	liar.Layers[1] = other.Layers[1]
	liar.Blobs = map[digest.Digest][]byte{o.ID: o.Config, liar.Layers[1].Digest: other.Blobs[liar.Layers[1].Digest]}
	liar.Blobs[o.Layers[0].Digest], liar.Blobs[o.Layers[2].Digest] = o.Blobs[o.Layers[0].Digest], o.Blobs[o.Layers[2].Digest]
	liar.Manifest = liar.ManifestOf(t, nil)
	liar.Digest = digest.FromBytes(liar.Manifest)
	liar.Push(t, from.at, "org/os", liar.Digest.String())
	options := push.Options{FetchMissing: true, Origins: []reference.Named{from.named(t, "org/os:1")}}
	p := pushTo(t, "docker://"+to.at+"/org/os:1", host(t, liar, original.Raw), options)
	assert.ErrorIs(t, p.err, push.ErrBlob)
	assert.ErrorContains(t, p.err, liar.Layers[1].Digest.String())
	assert.Empty(t, to.digestOf(t, "org/os", "1"))

	// So is one that ends half way, or serves other bytes.
	o.Push(t, from.at, "org/os", o.Digest.String())
	for name, answer := range map[string]func(w http.ResponseWriter, blob []byte){
		"half": func(w http.ResponseWriter, blob []byte) {
			w.Header().Set("Content-Length", fmt.Sprint(len(blob)))
			_, _ = w.Write(blob[:len(blob)/2])
		},
		"other":   func(w http.ResponseWriter, blob []byte) { _, _ = w.Write(append([]byte("x"), blob[1:]...)) },
		"nothing": func(w http.ResponseWriter, _ []byte) { w.WriteHeader(http.StatusNotFound) },
	} {
		from.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
			blob, ok := o.Blobs[o.Layers[2].Digest]
			if !ok || !strings.HasSuffix(r.URL.Path, "/blobs/"+o.Layers[2].Digest.String()) {
				return false
			}
			answer(w, blob)
			return true
		})
		to := newServer(t)
		p := pushTo(t, "docker://"+to.at+"/org/os:1", host(t, o, original.Raw), options)
		assert.ErrorIs(t, p.err, push.ErrBlob, name)
		assert.Empty(t, to.digestOf(t, "org/os", "1"), name)
	}
}

// A registry that loses a blob between the question and the copy gets it from the
// origin, if there is one.
func TestRegistryThatLosesABlob(t *testing.T) {
	o, from := original.New(t, "hello"), newServer(t)
	o.Push(t, from.at, "org/os", o.Digest.String())
	lost := o.Layers[1].Digest.String()
	for name, fetch := range map[string]bool{"fetched": true, "not to be had": false} {
		s := newServer(t)
		for _, l := range o.Layers {
			if l.Digest.String() != lost {
				original.PushBlob(t, s.at, "org/os", l.Digest, o.Blobs[l.Digest])
			}
		}
		asked := 0
		s.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodHead || !strings.HasSuffix(r.URL.Path, lost) {
				return false
			}
			if asked++; asked > 1 {
				return false
			}
			w.Header().Set("Content-Length", fmt.Sprint(len(o.Blobs[o.Layers[1].Digest])))
			return true
		})
		p := pushTo(t, "docker://"+s.at+"/org/os:1", host(t, o, original.Raw), push.Options{FetchMissing: fetch, Origins: []reference.Named{from.named(t, "org/os:1")}})
		if fetch {
			require.NoError(t, p.err, name)
			assert.Equal(t, o.Digest, s.digestOf(t, "org/os", "1"))
			continue
		}
		assert.ErrorIs(t, p.err, push.ErrMissing, name)
		assert.Empty(t, s.digestOf(t, "org/os", "1"))
	}
	// And one that says so only of the manifest.
	s := newServer(t)
	for _, l := range o.Layers {
		original.PushBlob(t, s.at, "org/os", l.Digest, o.Blobs[l.Digest])
	}
	s.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut || !strings.Contains(r.URL.Path, "/manifests/") {
			return false
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write([]byte(`{"errors": [{"code": "MANIFEST_BLOB_UNKNOWN", "message": "blob unknown to registry"}]}`))
		return true
	})
	p := pushTo(t, "docker://"+s.at+"/org/os:1", host(t, o, original.Raw), push.Options{})
	assert.ErrorIs(t, p.err, push.ErrLost)
}
