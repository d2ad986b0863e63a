package attached_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containers/image/v5/docker/reference"
	"github.com/containers/image/v5/manifest"
	"github.com/containers/image/v5/types"
	"github.com/containers/storage"
	"github.com/containers/storage/pkg/reexec"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/attached"
	"github.com/skopeo-cfs/skopeo-cfs/internal/needs"
	"github.com/skopeo-cfs/skopeo-cfs/internal/original"
)

func TestMain(m *testing.M) {
	if reexec.Init() {
		return
	}
	os.Exit(m.Run())
}

// serve starts a registry on loopback, with or without the interface for referrers.
func serve(t testing.TB, referrers bool) string {
	t.Helper()
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(referrers)))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

func named(t testing.TB, text string) reference.Named {
	t.Helper()
	n, err := reference.ParseNormalizedNamed(text)
	require.NoError(t, err)
	return n
}

func system(t testing.TB) *types.SystemContext {
	t.Helper()
	dir := t.TempDir()
	return &types.SystemContext{
		DockerInsecureSkipTLSVerify: types.OptionalBoolTrue, SystemRegistriesConfPath: "/dev/null",
		SystemRegistriesConfDirPath: dir, AuthFilePath: filepath.Join(dir, "auth.json"),
	}
}

// sign returns something in the form of a sigstore signature.
func sign(payload string) attached.Signature {
	raw, err := json.Marshal(struct {
		MIMEType    string            `json:"mimeType"`
		Payload     []byte            `json:"payload"`
		Annotations map[string]string `json:"annotations"`
	}{"application/vnd.dev.cosign.simplesigning.v1+json", []byte(payload), map[string]string{"dev.cosignproject.cosign/signature": "of " + payload}})
	if err != nil {
		panic(err)
	}
	return append([]byte("\x00sigstore-json\n"), raw...)
}

// Signatures are added to those that a registry has, once, and come out as they were.
func TestRegistry(t *testing.T) {
	at, sys, d := serve(t, true), system(t), digest.FromString("a manifest")
	to := named(t, at+"/org/os:1")
	none, err := attached.FromRegistry(t.Context(), sys, to, d)
	require.NoError(t, err)
	assert.Empty(t, none)
	one, two := sign("one"), sign("two")
	pgp := attached.Signature("\xc2 OpenPGP")
	for _, c := range []struct {
		send []attached.Signature
		want int
	}{{[]attached.Signature{one}, 1}, {[]attached.Signature{one}, 0}, {[]attached.Signature{pgp}, 0}, {[]attached.Signature{one, pgp, two}, 1}, {nil, 0}} {
		added, err := attached.ToRegistry(t.Context(), sys, to, d, c.send)
		require.NoError(t, err)
		assert.Equal(t, c.want, added)
	}
	got, err := attached.FromRegistry(t.Context(), sys, to, d)
	require.NoError(t, err)
	assert.Equal(t, []attached.Signature{one, two}, got)
	assert.Empty(t, must(attached.FromRegistry(t.Context(), sys, to, digest.FromString("another"))))
	_, err = attached.FromRegistry(t.Context(), sys, named(t, "127.0.0.1:1/org/os:1"), d)
	assert.Error(t, err)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// artifact pushes something that refers to a manifest, and returns it.
func artifact(t testing.TB, at, content string, subject imgspecv1.Descriptor) imgspecv1.Descriptor {
	t.Helper()
	original.PushBlob(t, at, "org/os", digest.FromString(content), []byte(content))
	original.PushBlob(t, at, "org/os", digest.FromString("{}"), []byte("{}"))
	raw := must(json.Marshal(imgspecv1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: imgspecv1.MediaTypeImageManifest, ArtifactType: "text/x",
		Config:  imgspecv1.Descriptor{MediaType: imgspecv1.MediaTypeEmptyJSON, Digest: digest.FromString("{}"), Size: 2},
		Layers:  []imgspecv1.Descriptor{{MediaType: "text/x", Digest: digest.FromString(content), Size: int64(len(content))}},
		Subject: &subject,
	}))
	d := imgspecv1.Descriptor{MediaType: imgspecv1.MediaTypeImageManifest, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	original.PushManifest(t, at, "org/os", d.Digest.String(), d.MediaType, raw)
	return d
}

// What refers to an image goes along, and what refers to that; also between registries
// with and without the interface for it.
func TestReferrers(t *testing.T) {
	o, sys := original.New(t, "hello"), system(t)
	from := serve(t, true)
	o.Push(t, from, "org/os", "1")
	image := imgspecv1.Descriptor{MediaType: imgspecv1.MediaTypeImageManifest, Digest: o.Digest, Size: int64(len(o.Manifest))}
	sbom := artifact(t, from, "an SBOM", image)
	signature := artifact(t, from, "a signature of it", sbom)
	original.PushManifest(t, from, "org/os", "sha256-"+o.Digest.Encoded()+".att", imgspecv1.MediaTypeImageManifest, o.Manifest)
	for _, referrers := range []bool{true, false} {
		to := serve(t, referrers)
		o.Push(t, to, "mirror/os", "1")
		for _, want := range []int{3, 0} {
			copied, err := attached.CopyReferrers(t.Context(), sys, named(t, from+"/org/os:1"), sys, named(t, to+"/mirror/os:1"), o.Digest)
			require.NoError(t, err)
			assert.Equal(t, want, copied)
		}
		for _, d := range []digest.Digest{sbom.Digest, signature.Digest} {
			response, err := http.Get("http://" + to + "/v2/mirror/os/manifests/" + d.String())
			require.NoError(t, err)
			response.Body.Close()
			assert.Equal(t, http.StatusOK, response.StatusCode)
		}
		// And on from there.
		further := serve(t, true)
		o.Push(t, further, "org/os", "1")
		copied, err := attached.CopyReferrers(t.Context(), sys, named(t, to+"/mirror/os:1"), sys, named(t, further+"/org/os:1"), o.Digest)
		require.NoError(t, err)
		assert.Equal(t, 3, copied)
	}
	copied, err := attached.CopyReferrers(t.Context(), sys, named(t, serve(t, true)+"/org/os:1"), sys, named(t, from+"/org/os:1"), o.Digest)
	require.NoError(t, err)
	assert.Zero(t, copied, "of an image that is not there")
}

// A registry that lists referrers without end is refused.
func TestEndlessReferrers(t *testing.T) {
	o, sys := original.New(t, "hello"), system(t)
	handler := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	page := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.URL.Path, "/referrers/") {
			handler.ServeHTTP(w, r)
			return
		}
		var list []imgspecv1.Descriptor
		for i := range 50 {
			list = append(list, imgspecv1.Descriptor{MediaType: imgspecv1.MediaTypeImageManifest, Digest: digest.FromString(fmt.Sprint(page, i)), Size: 1})
		}
		page++
		w.Header().Set("Content-Type", imgspecv1.MediaTypeImageIndex)
		w.Header().Set("Link", fmt.Sprintf(`<%s?page=%d>; rel="next"`, r.URL.Path, page))
		_ = json.NewEncoder(w).Encode(imgspecv1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: imgspecv1.MediaTypeImageIndex, Manifests: list})
	}))
	defer server.Close()
	at, to := strings.TrimPrefix(server.URL, "http://"), serve(t, true)
	o.Push(t, at, "org/os", "1")
	_, err := attached.CopyReferrers(t.Context(), sys, named(t, at+"/org/os:1"), sys, named(t, to+"/org/os:1"), o.Digest)
	assert.ErrorContains(t, err, "too many")
	assert.Less(t, page, 10)
}

// Signatures are added to those that an image in a store has, and come out as they were,
// with the store's locks and without.
func TestStore(t *testing.T) {
	needs.Root(t)
	dir := t.TempDir()
	store, err := storage.GetStore(storage.StoreOptions{GraphRoot: filepath.Join(dir, "root"), RunRoot: filepath.Join(dir, "run"), GraphDriverName: "vfs"})
	require.NoError(t, err)
	defer func() { _, err := store.Shutdown(true); assert.NoError(t, err) }()
	o := original.New(t, "hello")
	img, err := store.CreateImage(o.ID.Encoded(), []string{"localhost/x"}, "", `{"other": [1, 2]}`, &storage.ImageOptions{Digest: o.Digest})
	require.NoError(t, err)
	require.NoError(t, store.SetImageBigData(img.ID, "manifest", o.Manifest, manifest.Digest))
	root := store.GraphRoot()
	assert.Empty(t, must(attached.FromStore(root, img.ID, o.Digest)))
	one, two, pgp := sign("one"), sign("two"), attached.Signature("\xc2 OpenPGP")
	for _, c := range []struct {
		send []attached.Signature
		want int
	}{{[]attached.Signature{one}, 1}, {[]attached.Signature{one}, 0}, {[]attached.Signature{one, pgp, two}, 2}} {
		added, err := attached.ToStore(store, img.ID, o.Digest, c.send)
		require.NoError(t, err)
		assert.Equal(t, c.want, added)
	}
	got, err := attached.FromStore(root, img.ID, o.Digest)
	require.NoError(t, err)
	assert.Equal(t, []attached.Signature{one, pgp, two}, got)
	assert.Empty(t, must(attached.FromStore(root, img.ID, digest.FromString("another"))))
	assert.Empty(t, must(attached.FromStore("/does/not/exist", img.ID, o.Digest)))
	metadata, err := store.Metadata(img.ID)
	require.NoError(t, err)
	assert.Contains(t, metadata, `"other":[1,2]`)
	_, err = attached.ToStore(store, "unknown", o.Digest, got)
	assert.Error(t, err)

	for _, bad := range []string{`{"signatures-sizes": {%q: [1000000]}}`, `{"signatures-sizes": {%q: [-1]}}`, `{"signatures-sizes": {%q: [1]}}`, `{"signatures-sizes": {%q: "x"}}`} {
		require.NoError(t, store.SetMetadata(img.ID, fmt.Sprintf(bad, o.Digest)))
		_, err = attached.FromStore(root, img.ID, o.Digest)
		assert.ErrorIs(t, err, attached.ErrInvalid, bad)
		_, err = attached.ToStore(store, img.ID, o.Digest, got)
		assert.ErrorIs(t, err, attached.ErrInvalid, bad)
	}
}

func TestUnion(t *testing.T) {
	one, two := sign("one"), sign("two")
	reordered := attached.Signature(bytes.Replace(one, []byte(`{"mimeType"`), []byte(`{ "mimeType"`), 1))
	require.NotEqual(t, one, reordered)
	assert.Equal(t, []attached.Signature{one, two}, attached.Union([]attached.Signature{one}, []attached.Signature{reordered, two, two}))
	assert.Empty(t, attached.Union(nil, nil))
	assert.True(t, one.IsSigstore())
	assert.False(t, attached.Signature("x").IsSigstore())
}

func FuzzUnion(f *testing.F) {
	f.Add([]byte(sign("one")), []byte(sign("two")))
	f.Add([]byte("\x00sigstore-json\n{}"), []byte("\x00sigstore-json\nx"))
	f.Add([]byte{}, []byte("x"))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		all := attached.Union([]attached.Signature{a}, []attached.Signature{b, a, b})
		assert.LessOrEqual(t, len(all), 2)
		assert.NotEmpty(t, all)
	})
}
