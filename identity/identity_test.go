package identity_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containers/image/v5/docker/reference"
	"github.com/containers/image/v5/types"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/opencontainers/go-digest"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/identity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/needs"
	"github.com/skopeo-cfs/skopeo-cfs/internal/original"
)

// system returns a context of registries on loopback that takes nothing from the
// machine.
func system(t testing.TB) *types.SystemContext {
	t.Helper()
	dir := t.TempDir()
	return &types.SystemContext{
		DockerInsecureSkipTLSVerify: types.OptionalBoolTrue, RegistriesDirPath: dir,
		SystemRegistriesConfPath: "/dev/null", SystemRegistriesConfDirPath: dir,
		BlobInfoCacheDir: dir, AuthFilePath: filepath.Join(dir, "auth.json"),
	}
}

// serve starts a registry on loopback behind what wrap makes of it, and returns
// where it is.
func serve(t testing.TB, wrap func(http.Handler) http.Handler) string {
	t.Helper()
	handler := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	if wrap != nil {
		handler = wrap(handler)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

func named(t testing.TB, text string) reference.Named {
	t.Helper()
	n, err := reference.ParseNormalizedNamed(text)
	require.NoError(t, err)
	return n
}

// reasons returns the refusals as text.
func reasons(refusals []identity.Refusal) string {
	var all []string
	for _, r := range refusals {
		all = append(all, r.Error())
	}
	return strings.Join(all, "; ")
}

// A manifest from a registry is taken as it is stored, and nothing else is looked at.
func TestStoredManifest(t *testing.T) {
	o := original.New(t, "hello")
	image := o.Open(t, original.Pulled)
	for _, level := range []identity.Level{identity.LevelStored, identity.LevelLocal, identity.LevelOrigin} {
		found, refusals, err := identity.Find(t.Context(), image, identity.Options{Level: level, Stores: []string{"/dev/null"}, Cache: t.TempDir()})
		require.NoError(t, err)
		assert.Empty(t, refusals)
		assert.Equal(t, identity.Stored, found.Source.Kind)
		assert.Equal(t, o.Digest, found.Digest())
		assert.True(t, found.Original)
		assert.False(t, found.Recovered())
	}
}

// Where nothing else is known, the repository's manifest is what is found, and it is
// said that it is not a registry's.
func TestNothingIsKnown(t *testing.T) {
	o := original.New(t, "hello")
	for way, kind := range map[original.How]identity.Kind{original.Raw: identity.Stored, original.Collected: identity.Made} {
		image := o.Open(t, way)
		found, refusals, err := identity.Find(t.Context(), image, identity.Options{
			Level: identity.LevelOrigin, Stores: []string{"/does/not/exist"}, Layouts: []string{"/does/not/exist"},
			Origins: []reference.Named{named(t, "127.0.0.1:1/org/hello:1")}, System: system(t),
		})
		require.NoError(t, err)
		assert.Equal(t, kind, found.Source.Kind)
		assert.False(t, found.Original)
		assert.Same(t, image, found.Image)
		require.Len(t, refusals, 1)
		assert.ErrorContains(t, refusals[0], "127.0.0.1:1/org/hello:1")
		assert.ErrorContains(t, refusals[0], "refused")
	}
}

// podman's store, offline: the manifest as it was pulled, and the index that it was
// pulled by.
func TestLocalStore(t *testing.T) {
	needs.Root(t)
	needs.Tool(t, "podman")
	o, at := original.New(t, "hello"), serve(t, nil)
	o.Push(t, at, "org/hello", o.Digest.String())
	index := original.IndexOf(t, map[string][]byte{"amd64": o.Manifest})
	original.PushManifest(t, at, "org/hello", "1", imgspecv1.MediaTypeImageIndex, index)
	root, run := t.TempDir(), t.TempDir()
	for _, driver := range []string{"overlay", "vfs"} {
		store := filepath.Join(root, driver)
		pull := exec.Command("podman", "--root", store, "--runroot", run, "--storage-driver", driver, "pull", "--tls-verify=false", "docker://"+at+"/org/hello:1")
		out, err := pull.CombinedOutput()
		require.NoError(t, err, "%s", out)
		before := namesBelow(t, store)
		for _, way := range []original.How{original.Raw, original.Collected} {
			found, refusals, err := identity.Find(t.Context(), o.Open(t, way), identity.Options{Level: identity.LevelLocal, Stores: []string{"/does/not/exist", store}})
			require.NoError(t, err)
			assert.Empty(t, refusals)
			assert.Equal(t, o.Digest, found.Digest())
			assert.Equal(t, string(o.Manifest), string(found.Image.Manifest))
			assert.Equal(t, identity.Source{Kind: identity.Store, Where: store}, found.Source)
			assert.Equal(t, digest.FromBytes(index), found.IndexDigest())
			assert.Equal(t, at+"/org/hello:1", found.Reference.String())
			assert.True(t, found.Recovered() && found.Original)
		}
		assert.Equal(t, before, namesBelow(t, store), "the store was written to")
		other := original.New(t, "trailers")
		_, refusals, err := identity.Find(t.Context(), other.Open(t, original.Raw), identity.Options{Level: identity.LevelLocal, Stores: []string{store}})
		require.NoError(t, err)
		require.Len(t, refusals, 1)
		assert.ErrorIs(t, refusals[0], identity.ErrNotThere)
	}
}

// namesBelow returns the names below a directory.
func namesBelow(t testing.TB, dir string) (names []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		names = append(names, path)
		return err
	}))
	return names
}

func TestLayout(t *testing.T) {
	o := original.New(t, "hello")
	index := original.IndexOf(t, map[string][]byte{"amd64": o.Manifest, "arm64": []byte("{}")})
	for name, listed := range map[string][]byte{"plain": nil, "by an index": index} {
		dir := t.TempDir()
		o.Layout(t, dir, listed)
		found, _, err := identity.Find(t.Context(), o.Open(t, original.Raw), identity.Options{Level: identity.LevelLocal, Layouts: []string{dir}})
		require.NoError(t, err)
		assert.Equal(t, o.Digest, found.Digest(), name)
		assert.Equal(t, string(listed), string(found.Index))
		assert.Equal(t, "the layout "+dir, found.Source.String())
	}
}

// A registry is asked only where that is asked for, for kilobytes; later the cache
// has the answer.
func TestRegistryAndCache(t *testing.T) {
	o := original.New(t, "hello")
	var bytesSent int64
	at := serve(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(&counting{w, &bytesSent}, r) })
	})
	o.Push(t, at, "org/hello", o.Digest.String())
	foreign := o.ManifestOf(t, func(m *imgspecv1.Manifest) { m.Annotations = map[string]string{"another": "platform's"} })
	original.PushManifest(t, at, "org/hello", digest.FromBytes(foreign).String(), imgspecv1.MediaTypeImageManifest, foreign)
	index := original.IndexOf(t, map[string][]byte{"amd64": o.Manifest, "s390x": foreign})
	original.PushManifest(t, at, "org/hello", "1", imgspecv1.MediaTypeImageIndex, index)
	image := o.Open(t, original.Raw)
	options := identity.Options{
		Level: identity.LevelLocal, Cache: filepath.Join(t.TempDir(), "a", "cache"), System: system(t),
		Origins: []reference.Named{named(t, at+"/org/hello:1")},
	}
	bytesSent = 0
	found, _, err := identity.Find(t.Context(), image, options)
	require.NoError(t, err)
	assert.False(t, found.Recovered())
	assert.Zero(t, bytesSent)

	options.Level = identity.LevelOrigin
	found, refusals, err := identity.Find(t.Context(), image, options)
	require.NoError(t, err)
	assert.Empty(t, refusals)
	assert.Equal(t, o.Digest, found.Digest())
	assert.Equal(t, string(index), string(found.Index))
	assert.Equal(t, at+"/org/hello:1", found.Reference.String())
	assert.Equal(t, "the registry, "+at+"/org/hello:1", found.Source.String())
	assert.Less(t, bytesSent, int64(20e3))

	bytesSent = 0
	options.Level = identity.LevelLocal
	cached, _, err := identity.Find(t.Context(), image, options)
	require.NoError(t, err)
	assert.Zero(t, bytesSent)
	assert.Equal(t, found.Digest(), cached.Digest())
	assert.Equal(t, found.Index, cached.Index)
	assert.Equal(t, found.Reference.String(), cached.Reference.String())
	assert.True(t, cached.Source.Cached)
	assert.Contains(t, cached.Source.String(), "cache")

	// What is in the cache is checked like everything else.
	files, err := filepath.Glob(filepath.Join(options.Cache, "*.json"))
	require.NoError(t, err)
	require.Len(t, files, 1)
	record, err := os.ReadFile(files[0])
	require.NoError(t, err)
	other := original.New(t, "trailers")
	var fields map[string]any
	require.NoError(t, json.Unmarshal(record, &fields))
	fields["manifest"] = other.Manifest
	altered, err := json.Marshal(fields)
	require.NoError(t, err)
	for _, bad := range [][]byte{altered, []byte("no JSON"), nil} {
		require.NoError(t, os.WriteFile(files[0], bad, 0o600))
		found, refusals, err := identity.Find(t.Context(), image, options)
		require.NoError(t, err)
		assert.False(t, found.Recovered())
		assert.Contains(t, reasons(refusals), options.Cache)
	}
}

// counting counts the bytes of bodies.
type counting struct {
	http.ResponseWriter
	n *int64
}

func (c *counting) Write(p []byte) (int, error) {
	*c.n += int64(len(p))
	return c.ResponseWriter.Write(p)
}

// The digest that a deployment was made from leads to its manifest, also after the
// name has moved on.
func TestNameThatMovedOn(t *testing.T) {
	o, newer, at := original.New(t, "hello"), original.New(t, "trailers"), serve(t, nil)
	o.Push(t, at, "org/os", o.Digest.String())
	newer.Push(t, at, "org/os", "1")
	options := identity.Options{Level: identity.LevelOrigin, System: system(t), Origins: []reference.Named{named(t, at+"/org/os:1")}}
	found, refusals, err := identity.Find(t.Context(), o.Open(t, original.Collected), options)
	require.NoError(t, err)
	assert.False(t, found.Recovered())
	require.Len(t, refusals, 1)
	assert.ErrorIs(t, refusals[0], identity.ErrOtherConfig)

	options.Digests = []digest.Digest{digest.FromString("unknown there"), o.Digest}
	found, _, err = identity.Find(t.Context(), o.Open(t, original.Collected), options)
	require.NoError(t, err)
	assert.Equal(t, o.Digest, found.Digest())
	assert.Equal(t, at+"/org/os@"+o.Digest.String(), found.Reference.String())
}

// Accept takes manifests of the image, and no others.
func TestAccept(t *testing.T) {
	o := original.New(t, "hello")
	image := o.Open(t, original.Raw)
	layer := func(change func(*imgspecv1.Descriptor)) []byte {
		return o.ManifestOf(t, func(m *imgspecv1.Manifest) { change(&m.Layers[1]) })
	}
	diffID := image.Layers[1].DiffID.String()
	for name, raw := range map[string][]byte{
		"the original":          o.Manifest,
		"the stored one":        image.Manifest,
		"a claim that is right": layer(func(d *imgspecv1.Descriptor) { d.Annotations = map[string]string{"containerd.io/uncompressed": diffID} }),
		"zstd":                  layer(func(d *imgspecv1.Descriptor) { d.MediaType = imgspecv1.MediaTypeImageLayerZstd }),
	} {
		accepted, err := identity.Accept(image, raw, digest.FromBytes(raw))
		require.NoError(t, err, name)
		assert.Equal(t, digest.FromBytes(raw), accepted.ManifestDigest)
		assert.Equal(t, image.ConfigDescriptor.Digest, accepted.ConfigDescriptor.Digest)
	}
	for name, c := range map[string]struct {
		raw  []byte
		want error
	}{
		"another config":      {o.ManifestOf(t, func(m *imgspecv1.Manifest) { m.Config.Digest = digest.FromString("x") }), identity.ErrOtherConfig},
		"another config size": {o.ManifestOf(t, func(m *imgspecv1.Manifest) { m.Config.Size++ }), identity.ErrInvalid},
		"another config type": {o.ManifestOf(t, func(m *imgspecv1.Manifest) { m.Config.MediaType = "x/y" }), identity.ErrInvalid},
		"one layer more":      {o.ManifestOf(t, func(m *imgspecv1.Manifest) { m.Layers = append(m.Layers, m.Layers[0]) }), identity.ErrLayers},
		"one layer less":      {o.ManifestOf(t, func(m *imgspecv1.Manifest) { m.Layers = m.Layers[1:] }), identity.ErrLayers},
		"one layer twice":     {o.ManifestOf(t, func(m *imgspecv1.Manifest) { m.Layers[0] = m.Layers[1] }), identity.ErrInvalid},
		"no manifest":         {[]byte("{}"), identity.ErrInvalid},
		"no JSON":             {[]byte("<html>"), identity.ErrInvalid},
		"nothing":             {nil, identity.ErrInvalid},
		"an index":            {original.IndexOf(t, map[string][]byte{"amd64": o.Manifest}), identity.ErrInvalid},
		"too much":            {append(o.Manifest[:len(o.Manifest):len(o.Manifest)], bytes.Repeat([]byte(" "), identity.MaxManifest)...), identity.ErrTooLarge},
		"encrypted":           {layer(func(d *imgspecv1.Descriptor) { d.MediaType += "+encrypted" }), identity.ErrInvalid},
		"a negative size":     {layer(func(d *imgspecv1.Descriptor) { d.Size = -1 }), identity.ErrInvalid},
		"no digest":           {layer(func(d *imgspecv1.Descriptor) { d.Digest = "sha256:x" }), identity.ErrInvalid},
		"another tar":         {layer(func(d *imgspecv1.Descriptor) { d.MediaType = imgspecv1.MediaTypeImageLayer }), identity.ErrDiffID},
		"another diff ID": {layer(func(d *imgspecv1.Descriptor) {
			d.Annotations = map[string]string{"containerd.io/uncompressed": "sha256:0"}
		}), identity.ErrDiffID},
	} {
		_, err := identity.Accept(image, c.raw, "")
		assert.ErrorIs(t, err, c.want, name)
	}
	_, err := identity.Accept(image, o.Manifest, digest.FromString("x"))
	assert.ErrorIs(t, err, identity.ErrDigest)
	_, err = identity.Accept(image, o.Manifest, "sha256:../..")
	assert.ErrorIs(t, err, identity.ErrDigest)
}

// A registry that lies is refused, whatever it lies about, and never holds anything
// up for long.
func TestLiars(t *testing.T) {
	o, other := original.New(t, "hello"), original.New(t, "trailers")
	image := o.Open(t, original.Raw)
	elsewhere := serve(t, nil)
	other.Push(t, elsewhere, "org/hello", "1")
	answer := func(mediaType string, body []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", mediaType)
			_, _ = w.Write(body)
		}
	}
	manifest := imgspecv1.MediaTypeImageManifest
	more := o.ManifestOf(t, func(m *imgspecv1.Manifest) { m.Layers = append(m.Layers, m.Layers[0]) })
	altered := bytes.Replace(o.Manifest, []byte("a registry"), []byte("b registry"), 1)
	endless := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", manifest)
		for block := bytes.Repeat([]byte(" "), 1<<20); r.Context().Err() == nil; {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	}
	slow := func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	trickle := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", manifest)
		for r.Context().Err() == nil {
			_, _ = w.Write([]byte(" "))
			w.(http.Flusher).Flush()
			time.Sleep(10 * time.Millisecond)
		}
	}
	for name, c := range map[string]struct {
		handle http.HandlerFunc
		digest bool // asked for by the original's digest
		want   error
		text   string
	}{
		"another config":       {handle: answer(manifest, other.Manifest), want: identity.ErrOtherConfig},
		"more layers":          {handle: answer(manifest, more), want: identity.ErrLayers},
		"altered bytes":        {handle: answer(manifest, altered), digest: true, want: identity.ErrDigest},
		"another platform":     {handle: answer(imgspecv1.MediaTypeImageIndex, original.IndexOf(t, map[string][]byte{"riscv64": o.Manifest})), want: identity.ErrPlatform},
		"altered behind index": {handle: indexed(answer(imgspecv1.MediaTypeImageIndex, original.IndexOf(t, map[string][]byte{"amd64": o.Manifest})), answer(manifest, altered)), want: identity.ErrDigest},
		"a gigabyte":           {handle: endless, text: "exceed"},
		"a page":               {handle: answer("text/html", []byte("<html>")), want: identity.ErrInvalid},
		"redirect elsewhere": {handle: func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://"+elsewhere+r.URL.Path, http.StatusFound)
		}, want: identity.ErrOtherConfig},
		"redirects forever": {handle: func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) }, text: "redirect"},
		"no answer":         {handle: slow, want: identity.ErrTimeout},
		"a slow answer":     {handle: trickle, want: identity.ErrTimeout},
		"server error":      {handle: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }, text: "500"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at := serve(t, func(h http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if strings.Contains(r.URL.Path, "/manifests/") {
						c.handle(w, r)
						return
					}
					h.ServeHTTP(w, r)
				})
			})
			origin := at + "/org/hello:1"
			if c.digest {
				origin = at + "/org/hello@" + o.Digest.String()
			}
			cache := t.TempDir()
			start := time.Now()
			found, refusals, err := identity.Find(t.Context(), image, identity.Options{
				Level: identity.LevelOrigin, Origins: []reference.Named{named(t, origin)}, System: system(t), Cache: cache, Timeout: time.Second,
			})
			require.NoError(t, err)
			assert.Less(t, time.Since(start), time.Minute)
			assert.False(t, found.Recovered())
			require.Len(t, refusals, 1)
			assert.ErrorContains(t, refusals[0], origin)
			if c.want != nil {
				assert.ErrorIs(t, refusals[0], c.want)
			}
			assert.ErrorContains(t, refusals[0], c.text)
			assert.Empty(t, namesBelow(t, cache)[1:], "kept in the cache")
		})
	}
}

// indexed answers for a tag with the one and for a digest with the other.
func indexed(index, manifest http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "sha256:") {
			manifest(w, r)
			return
		}
		index(w, r)
	}
}

// Stores and layouts are as little to be trusted.
func TestHostileFiles(t *testing.T) {
	o, other := original.New(t, "hello"), original.New(t, "trailers")
	image := o.Open(t, original.Raw)
	for name, c := range map[string]struct {
		lay  func(t testing.TB, dir string) // the files of the image
		want error
	}{
		"another image": {func(t testing.TB, dir string) { write(t, dir+"/manifest", other.Manifest) }, identity.ErrOtherConfig},
		"no JSON":       {func(t testing.TB, dir string) { write(t, dir+"/manifest", []byte("x")) }, identity.ErrInvalid},
		"altered": {func(t testing.TB, dir string) {
			write(t, dir+"/"+item("manifest-"+digest.FromString("x").String()), o.Manifest)
		}, identity.ErrDigest},
		"its own":   {func(t testing.TB, dir string) { write(t, dir+"/manifest", image.Manifest) }, identity.ErrUncompressed},
		"too large": {func(t testing.TB, dir string) { require.NoError(t, os.Truncate(touch(t, dir+"/manifest"), 1<<30)) }, identity.ErrTooLarge},
		"a symlink": {func(t testing.TB, dir string) {
			write(t, dir+"/../x", o.Manifest)
			require.NoError(t, os.Symlink("../x", dir+"/manifest"))
		}, nil},
		"a fifo":  {func(t testing.TB, dir string) { require.NoError(t, exec.Command("mkfifo", dir+"/manifest").Run()) }, nil},
		"nothing": {func(testing.TB, string) {}, identity.ErrNotThere},
		"names of others": {func(t testing.TB, dir string) {
			write(t, dir+"/manifesto", o.Manifest)
			write(t, dir+"/=x", o.Manifest)
		}, identity.ErrNotThere},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			dir := filepath.Join(root, "overlay-images", o.ID.Encoded())
			require.NoError(t, os.MkdirAll(dir, 0o755))
			c.lay(t, dir)
			found, refusals, err := identity.Find(t.Context(), image, identity.Options{Level: identity.LevelLocal, Stores: []string{root}})
			require.NoError(t, err)
			assert.False(t, found.Recovered())
			require.Len(t, refusals, 1)
			assert.ErrorContains(t, refusals[0], root)
			if c.want != nil {
				assert.ErrorIs(t, refusals[0], c.want)
			}
		})
	}
	for name, lay := range map[string]func(t testing.TB, dir string){
		"not an index": func(t testing.TB, dir string) { require.NoError(t, os.Remove(dir+"/index.json")) },
		"no JSON":      func(t testing.TB, dir string) { write(t, dir+"/index.json", []byte("x")) },
		"too large":    func(t testing.TB, dir string) { require.NoError(t, os.Truncate(dir+"/index.json", 1<<30)) },
		"altered":      func(t testing.TB, dir string) { write(t, dir+"/blobs/sha256/"+o.Digest.Encoded(), []byte("{}")) },
		"bad digest": func(t testing.TB, dir string) {
			write(t, dir+"/index.json", []byte(`{"manifests": [{"digest": "sha256:../../x"}]}`))
		},
		"a loop": func(t testing.TB, dir string) { loop(t, dir) },
	} {
		t.Run("layout/"+name, func(t *testing.T) {
			dir := t.TempDir()
			o.Layout(t, dir, nil)
			lay(t, dir)
			found, refusals, err := identity.Find(t.Context(), image, identity.Options{Level: identity.LevelLocal, Layouts: []string{dir}})
			require.NoError(t, err)
			assert.False(t, found.Recovered())
			assert.Len(t, refusals, 1)
		})
	}
}

// loop makes a layout's index list thousands of documents again and again.
func loop(t testing.TB, dir string) {
	t.Helper()
	var list []string
	for i := range 5000 {
		list = append(list, fmt.Sprintf(`{"digest": %q}`, digest.FromString(fmt.Sprint(i%2000))))
	}
	raw := []byte(`{"manifests": [` + strings.Join(list, ",") + `]}`)
	write(t, dir+"/index.json", raw)
}

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, data, 0o644))
}

func touch(t testing.TB, path string) string {
	t.Helper()
	write(t, path, nil)
	return path
}

// item returns the name of a file with a key.
func item(key string) string {
	return "=" + base64.StdEncoding.EncodeToString([]byte(key))
}

// What is cached is bounded in number and size.
func TestCacheIsBounded(t *testing.T) {
	o, cache := original.New(t, "hello"), t.TempDir()
	old := time.Now().Add(-2 * time.Hour)
	for i := range 400 {
		path := filepath.Join(cache, fmt.Sprintf("sha256-%064x.json", i))
		write(t, path, nil)
		require.NoError(t, os.Truncate(path, int64(i)*1e3))
		require.NoError(t, os.Chtimes(path, old.Add(time.Duration(i)), old.Add(time.Duration(i))))
	}
	write(t, cache+"/.tmp-x", nil)
	require.NoError(t, os.Chtimes(cache+"/.tmp-x", old, old))
	write(t, cache+"/README", nil)
	layout := t.TempDir()
	o.Layout(t, layout, nil)
	_, refusals, err := identity.Find(t.Context(), o.Open(t, original.Raw), identity.Options{Level: identity.LevelLocal, Layouts: []string{layout}, Cache: cache})
	require.NoError(t, err)
	assert.Empty(t, refusals)
	entries, err := os.ReadDir(cache)
	require.NoError(t, err)
	var size int64
	for _, e := range entries {
		info, err := e.Info()
		require.NoError(t, err)
		size += info.Size()
	}
	assert.LessOrEqual(t, len(entries), 257)
	assert.LessOrEqual(t, size, int64(64<<20))
	assert.FileExists(t, cache+"/README")
	assert.NoFileExists(t, cache+"/.tmp-x")
	assert.FileExists(t, filepath.Join(cache, "sha256-"+o.ID.Encoded()+".json"))
}

// A cancelled search ends at once, with the context's error.
func TestCancelled(t *testing.T) {
	at := serve(t, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, _, err := identity.Find(ctx, original.New(t, "hello").Open(t, original.Raw), identity.Options{
		Level: identity.LevelOrigin, Origins: []reference.Named{named(t, at+"/org/hello:1")}, System: system(t), Timeout: time.Hour,
	})
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	assert.Less(t, time.Since(start), 30*time.Second)
}

func FuzzAccept(f *testing.F) {
	o := original.New(f, "hello")
	image := o.Open(f, original.Raw)
	f.Add(o.Manifest)
	f.Add(image.Manifest)
	f.Add(original.IndexOf(f, map[string][]byte{"amd64": o.Manifest}))
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		accepted, err := identity.Accept(image, raw, "")
		if err != nil {
			return
		}
		assert.Equal(t, o.ID, accepted.ConfigDescriptor.Digest)
		assert.Len(t, accepted.Layers, len(image.Layers))
		for i, l := range accepted.Layers {
			assert.Equal(t, image.Layers[i].DiffID, l.DiffID)
			assert.NoError(t, l.Descriptor.Digest.Validate())
		}
	})
}
