package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/opencontainers/go-digest"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/internal/original"
)

// origin is a registry on loopback that images came from.
type origin struct {
	at    string
	down  atomic.Bool
	blobs atomic.Int64           // how many were sent
	other atomic.Pointer[[]byte] // is sent in place of layers of its size
}

func newOrigin(t testing.TB) *origin {
	t.Helper()
	o, inner := &origin{}, registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if o.down.Load() {
			http.Error(w, "down", http.StatusBadGateway)
			return
		}
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
			o.blobs.Add(1)
			if other := o.other.Load(); other != nil {
				_, _ = w.Write(*other)
				return
			}
		}
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	o.at = strings.TrimPrefix(server.URL, "http://")
	return o
}

// pull has skopeo copy an image from a server to a directory, and returns the digest of
// its manifest.
func pull(t testing.TB, url, name string) (digest.Digest, error) {
	t.Helper()
	needTool(t, "skopeo")
	dir := filepath.Join(t.TempDir(), "image")
	out, err := exec.Command("skopeo", "copy", "--insecure-policy", "--src-tls-verify=false",
		"docker://"+strings.TrimPrefix(url, "http://")+"/"+name, "dir:"+dir).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	return digest.FromBytes(raw), err
}

// With --identity origin, clients get the image as the registry has it, whichever way
// the host came by it; without, and while the registry is down, as the repository has.
func TestServeOriginals(t *testing.T) {
	o, from := original.New(t, "hello"), newOrigin(t)
	o.Push(t, from.at, "org/os", "1")
	for way, how := range map[string]original.How{"pulled": original.Pulled, "raw": original.Raw} {
		t.Run(way, func(t *testing.T) {
			repo := filepath.Join(t.TempDir(), "repository")
			o.AddTo(t, repo, from.at+"/org/os:1", how)

			_, url := startServe(t, repo)
			uncompressed, err := pull(t, url, "org/os:1")
			require.NoError(t, err)
			assert.NotEqual(t, o.Digest, uncompressed)

			c, url := startServe(t, repo, "--identity", "origin", "--origin-tls-verify=false")
			before := from.blobs.Load()
			for range 2 { // the second is not checked beside
				kept, err := pull(t, url, "org/os:1")
				require.NoError(t, err)
				assert.Equal(t, o.Digest, kept)
			}
			assert.EqualValues(t, 2*len(o.Layers), from.blobs.Load()-before)
			kept, err := pull(t, url, "org/os@"+o.Digest.String())
			require.NoError(t, err)
			assert.Equal(t, o.Digest, kept)
			require.NoError(t, c.Process.Signal(unix.SIGTERM))
			assert.Empty(t, c.wait(t).stderr)

			from.down.Store(true)
			defer from.down.Store(false)
			c, url = startServe(t, repo, "--identity", "origin", "--origin-tls-verify=false")
			made, err := pull(t, url, "org/os:1")
			require.NoError(t, err)
			assert.Equal(t, uncompressed, made)
			require.NoError(t, c.Process.Signal(unix.SIGTERM))
			assert.Contains(t, c.wait(t).stderr, "org/os:1 is served with uncompressed layers")
		})
	}
}

// Where the registry has lost a layer, the image is served with uncompressed ones.
func TestServeOriginalsLost(t *testing.T) {
	o, from := original.New(t, "hello"), newOrigin(t)
	for d, blob := range o.Blobs {
		if d != o.Layers[1].Digest {
			original.PushBlob(t, from.at, "org/os", d, blob)
		}
	}
	repo := filepath.Join(t.TempDir(), "repository")
	o.AddTo(t, repo, "localhost/os:1", original.Pulled)
	c, url := startServe(t, repo, "--origin", from.at+"/org/os:1", "--origin-tls-verify=false")
	made, err := pull(t, url, "os:1")
	require.NoError(t, err)
	assert.NotEqual(t, o.Digest, made)
	require.NoError(t, c.Process.Signal(unix.SIGTERM))
	assert.Contains(t, c.wait(t).stderr, "not all compressed layers are available: 1 are missing")
	assert.Zero(t, from.blobs.Load())
}

// A layout needs no registry.
func TestServeOriginalsOfLayout(t *testing.T) {
	o := original.New(t, "hello")
	layout, repo := t.TempDir(), filepath.Join(t.TempDir(), "repository")
	o.Layout(t, layout, nil)
	o.AddTo(t, repo, "localhost/os:1", original.Raw)
	_, url := startServe(t, repo, "--identity", "local", "--origin", "oci:"+layout)
	kept, err := pull(t, url, "os:1")
	require.NoError(t, err)
	assert.Equal(t, o.Digest, kept)
}

// No client gets the whole of a blob that the registry has altered.
func TestServeOriginalsAltered(t *testing.T) {
	o, from := original.New(t, "hello"), newOrigin(t)
	o.Push(t, from.at, "org/os", "1")
	repo := filepath.Join(t.TempDir(), "repository")
	o.AddTo(t, repo, from.at+"/org/os:1", original.Pulled)
	c, url := startServe(t, repo, "--identity", "origin", "--origin-tls-verify=false")
	require.Equal(t, 200, getStatus(t, url+"/v2/org/os/manifests/1"))
	layer := o.Layers[0].Digest
	altered := append([]byte{}, o.Blobs[layer]...)
	altered[len(altered)/2] ^= 1
	from.other.Store(&altered)
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // which asks once
	_, err := client.Get(url + "/v2/org/os/blobs/" + layer.String())
	assert.Error(t, err, "not a byte is sent of a small one")
	assert.Equal(t, 404, getStatus(t, url+"/v2/org/os/blobs/"+layer.String()))
	made, err := pull(t, url, "org/os:1")
	require.NoError(t, err)
	assert.NotEqual(t, o.Digest, made, "from then on the layers are the repository's")
	require.NoError(t, c.Process.Signal(unix.SIGTERM))
	assert.Contains(t, c.wait(t).stderr, composefsrepo.ErrDigestMismatch.Error())
}

// A manifest that has the config, but layers that decompress to others, is found out by
// the first client, and is not served again.
func TestServeOriginalsOfOtherLayers(t *testing.T) {
	o, from := original.New(t, "hello"), newOrigin(t)
	o.Push(t, from.at, "org/os", "good")
	forged := o.ManifestOf(t, func(m *imgspecv1.Manifest) { m.Layers[0], m.Layers[1] = m.Layers[1], m.Layers[0] })
	original.PushManifest(t, from.at, "org/os", "1", imgspecv1.MediaTypeImageManifest, forged)
	repo := filepath.Join(t.TempDir(), "repository")
	o.AddTo(t, repo, from.at+"/org/os:1", original.Raw)
	sys := (&globalOptions{}).systemContext()
	var options originalsOptions
	flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	options.addFlags(flags)
	require.NoError(t, flags.Parse([]string{"--identity=origin", "--origin-tls-verify=false"}))
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	originals, err := options.open(sys, repo)
	require.NoError(t, err)
	opened, err := composefsrepo.Open(t.Context(), repo, nil)
	require.NoError(t, err)
	defer opened.Close()
	image, err := opened.ImageByDigest(t.Context(), o.ID)
	require.NoError(t, err)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err = originals.Manifest(ctx, "org/os:1", image)
	assert.ErrorIs(t, err, context.Canceled)
	raw, _, err := originals.Manifest(t.Context(), "org/os:1", image)
	require.NoError(t, err)
	assert.Equal(t, forged, raw)
	blob := o.Layers[0]
	content, err := originals.Blob(t.Context(), digest.FromBytes(raw), blob)
	require.NoError(t, err)
	sent, err := io.ReadAll(content)
	assert.ErrorIs(t, err, composefsrepo.ErrDigestMismatch)
	assert.Less(t, int64(len(sent)), blob.Size)
	require.NoError(t, content.Close())
	_, err = originals.Blob(t.Context(), digest.FromBytes(raw), blob)
	assert.ErrorContains(t, err, "was wrong")
	_, _, err = originals.Manifest(t.Context(), "org/os:1", image)
	assert.ErrorContains(t, err, "was wrong")
}

func TestServeOriginalsRefuses(t *testing.T) {
	repo := filepath.Join(t.TempDir(), "repository")
	original.New(t, "hello").AddTo(t, repo, "localhost/os:1", original.Pulled)
	runCommand(t, "serve", repo, "--identity", "x").assertFailure(t, "--identity", "stored, local or origin")
	runCommand(t, "serve", repo, "--origin", "A B").assertFailure(t, "--origin", "A B")
}
