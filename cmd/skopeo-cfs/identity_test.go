package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/internal/bootchost"
	"github.com/skopeo-cfs/skopeo-cfs/internal/original"
)

// withCache gives a command a cache of its own.
func (c *command) withCache(dir string) *command {
	c.Env = append(c.Env, "XDG_CACHE_HOME="+dir)
	return c
}

// podmanImage is what podman says of an image.
type podmanImage struct {
	ID, Digest  string
	RepoTags    []string
	RepoDigests []string
}

func (s store) inspect(t testing.TB, name string) podmanImage {
	t.Helper()
	var images []podmanImage
	require.NoError(t, json.Unmarshal([]byte(s.podman(t, "image", "inspect", name)), &images))
	require.Len(t, images, 1)
	return images[0]
}

// An image from a host that has no manifest of a registry arrives in
// containers-storage as podman would have pulled it: with the names and digests that
// the registry has, online, and later offline from the cache.
func TestIdentityIntoStorage(t *testing.T) {
	needRoot(t)
	o, at := original.New(t, "hello"), newRegistry(t, "")
	index := original.IndexOf(t, map[string][]byte{"amd64": o.Manifest})
	o.Push(t, at, "org/os", o.Digest.String())
	original.PushManifest(t, at, "org/os", "1", imgspecv1.MediaTypeImageIndex, index)
	name, cache := at+"/org/os:1", t.TempDir()
	pulled := newStore(t, t.TempDir())
	pulled.podman(t, "pull", "--quiet", "--tls-verify=false", name)
	want := pulled.inspect(t, name)
	assert.Contains(t, want.RepoDigests, at+"/org/os@"+o.Digest.String())
	for way, how := range map[string]original.How{"raw": original.Raw, "collected": original.Collected} {
		repo := filepath.Join(t.TempDir(), "repository")
		o.AddTo(t, repo, "localhost/os:latest", how)
		from := "composefs:[" + repo + "]@" + o.ID.String()
		for _, flags := range [][]string{{"--origin", name, "--src-tls-verify=false"}, nil} { // the second has the cache
			s := newStore(t, t.TempDir())
			to := "containers-storage:[overlay@" + s.root + "+" + s.run + "]" + name
			got := newCommand(t, append([]string{"copy", "--insecure-policy", from, to}, flags...)...).withCache(cache).run(t)
			require.Zero(t, got.code, got.stderr)
			assert.Contains(t, got.stderr, "Manifest "+o.Digest.String()+": the registry's, from the registry, "+name, way)
			assert.Equal(t, flags == nil, strings.Contains(got.stderr, "cache"))
			image := s.inspect(t, name)
			slices.Sort(image.RepoDigests)
			slices.Sort(want.RepoDigests)
			assert.Equal(t, want, image, way)
		}
		require.NoError(t, os.RemoveAll(cache))
	}
}

// A store that podman has pulled into is enough, without a registry.
func TestIdentityFromStore(t *testing.T) {
	needRoot(t)
	o, at := original.New(t, "hello"), newRegistry(t, "")
	o.Push(t, at, "org/os", "1")
	s := newStore(t, t.TempDir())
	s.podman(t, "pull", "--quiet", "--tls-verify=false", at+"/org/os:1")
	repo := filepath.Join(t.TempDir(), "repository")
	o.AddTo(t, repo, "localhost/os:latest", original.Raw)
	got := newCommand(t, "copy", "--insecure-policy", "composefs:["+repo+"]os", s.image("os")).withCache(t.TempDir()).run(t)
	require.Zero(t, got.code, got.stderr)
	assert.Contains(t, got.stderr, "Manifest "+o.Digest.String()+": the registry's, from the store "+s.root)
	assert.Contains(t, s.inspect(t, "localhost/os").RepoDigests, "localhost/os@"+o.Digest.String())

	got = newCommand(t, "copy", "--insecure-policy", "--identity", "stored", "composefs:["+repo+"]os", s.image("other")).withCache(t.TempDir()).run(t)
	require.Zero(t, got.code, got.stderr)
	assert.NotContains(t, got.stderr, o.Digest.String())
}

// A push keeps the digest where that can be, and says where it can't.
func TestPushKeepsTheDigest(t *testing.T) {
	o, from, to := original.New(t, "hello"), newRegistry(t, ""), newRegistry(t, "")
	o.Push(t, from, "org/os", "1")
	repo := filepath.Join(t.TempDir(), "repository")
	o.AddTo(t, repo, "localhost/os:latest", original.Raw)
	image, cache := "composefs:["+repo+"]os", t.TempDir()
	run := func(name string, flags ...string) (outcome, digest.Digest) {
		t.Helper()
		file := filepath.Join(t.TempDir(), "digest")
		args := append([]string{"copy", "--insecure-policy", "--dest-tls-verify=false", "--src-tls-verify=false", "--digestfile", file, "--origin", from + "/org/os:1", image, "docker://" + to + "/" + name}, flags...)
		got := newCommand(t, args...).withCache(cache).run(t)
		written, err := os.ReadFile(file)
		if got.code == 0 {
			require.NoError(t, err)
		}
		return got, digest.Digest(written)
	}
	got, _ := run("org/os:1", "--preserve-digests")
	assert.Equal(t, 1, got.code)
	assert.Contains(t, got.stderr, "the destination lacks compressed layers: 3 of 3")
	assert.Contains(t, got.stderr, "--fetch-missing gets them from "+from+"/org/os")
	got, made := run("org/os:1")
	require.Zero(t, got.code, got.stderr)
	assert.Contains(t, got.stderr, "The image gets a new manifest, with another digest: the destination lacks compressed layers")
	assert.NotEqual(t, o.Digest, made)
	got, fetched := run("org/other:1", "--preserve-digests", "--fetch-missing")
	require.Zero(t, got.code, got.stderr)
	assert.Equal(t, o.Digest, fetched)
	assert.Contains(t, got.stderr, "3 compressed layers")
	got, reused := run("org/other@"+o.Digest.String(), "--quiet")
	require.Zero(t, got.code, got.stderr)
	assert.Equal(t, o.Digest, reused)
	assert.Empty(t, got.stderr)
}

// inspect and deployments show both digests, and why one is not known.
func TestIdentityIsShown(t *testing.T) {
	at := newRegistry(t, "")
	h := bootchost.New(t, "sha512", bootchost.Deployment{Layout: "raw", Name: at + "/org/raw:1"}, bootchost.Deployment{Layout: "hello"})
	h.Boot(t, 0)
	c := newCommand(t, "inspect", "--raw", "composefs:["+h.Repository+"]@"+h.Images[0].Manifest.String()).run(t)
	c.requireSuccess(t)
	var m imgspecv1.Manifest
	require.NoError(t, json.Unmarshal([]byte(c.stdout), &m))
	for i := range m.Layers {
		m.Layers[i].MediaType, m.Layers[i].Digest = imgspecv1.MediaTypeImageLayerGzip, digest.FromString("compressed "+m.Layers[i].Digest.String())
	}
	raw, err := json.Marshal(m)
	require.NoError(t, err)
	original.PushManifest(t, at, "org/raw", digest.FromBytes(raw).String(), imgspecv1.MediaTypeImageManifest, raw)
	index := original.IndexOf(t, map[string][]byte{"amd64": raw})
	original.PushManifest(t, at, "org/raw", "1", imgspecv1.MediaTypeImageIndex, index)

	cache := t.TempDir()
	list := func(flags ...string) []deployed {
		t.Helper()
		got := newCommand(t, append([]string{"deployments", "--json", "--sysroot", h.Sysroot, "--tls-verify=false"}, flags...)...).withCache(cache).run(t)
		require.Zero(t, got.code, got.stderr)
		var list []deployed
		require.NoError(t, json.Unmarshal([]byte(got.stdout), &list))
		require.Len(t, list, 2)
		slices.SortFunc(list, func(a, b deployed) int { return strings.Compare(b.Image, a.Image) })
		return list
	}
	hello := list()[slices.IndexFunc(list(), func(d deployed) bool { return strings.Contains(d.Image, "hello") })]
	assert.Equal(t, h.Images[1].Manifest, hello.RegistryDigest)
	of := func(list []deployed) deployed {
		return list[slices.IndexFunc(list, func(d deployed) bool { return strings.Contains(d.Image, "raw") })]
	}
	assert.Empty(t, of(list()).RegistryDigest)
	d := of(list("--identity", "origin"))
	assert.Equal(t, digest.FromBytes(raw), d.RegistryDigest)
	assert.Equal(t, digest.FromBytes(index), d.RegistryIndexDigest)
	assert.Equal(t, h.Images[0].Manifest, d.ManifestDigest)
	assert.Contains(t, of(list()).RegistrySource, "cache")
	table := newCommand(t, "deployments", "--sysroot", h.Sysroot).withCache(cache).run(t)
	table.requireSuccess(t)
	assert.Contains(t, table.stdout, "REGISTRY DIGEST")
	assert.Contains(t, table.stdout, d.RegistryDigest.String())

	to := filepath.Join(t.TempDir(), "layout")
	copied := newCommand(t, "copy-to-storage", "--insecure-policy", "--sysroot", h.Sysroot, "--source", "@"+h.IDs[0], "--target", "oci:"+to, "--identity", "origin", "--src-tls-verify=false").withCache(t.TempDir()).run(t)
	require.Zero(t, copied.code, copied.stderr)
	assert.Contains(t, copied.stderr, "Manifest "+d.RegistryDigest.String()+": the registry's, from the registry, "+at+"/org/raw:1")

	got := newCommand(t, "inspect", "composefs:["+h.Repository+"]@"+h.Images[0].Config.String()).withCache(cache).run(t)
	got.requireSuccess(t)
	var shown struct{ Digest, RegistryDigest, RegistryIndexDigest digest.Digest }
	require.NoError(t, json.Unmarshal([]byte(got.stdout), &shown))
	assert.Equal(t, h.Images[0].Manifest, shown.Digest)
	assert.Equal(t, d.RegistryDigest, shown.RegistryDigest)
	assert.Equal(t, digest.FromBytes(index), shown.RegistryIndexDigest)

	got = newCommand(t, "inspect", "--origin", "127.0.0.1:1/x:1", "composefs:["+h.Repository+"]@"+h.Images[0].Config.String()).withCache(t.TempDir()).run(t)
	got.requireSuccess(t)
	assert.Contains(t, got.stdout, "connection refused")
	runCommand(t, "inspect", "--identity", "x", "composefs:["+h.Repository+"]hello").assertFailure(t, "--identity", "stored, local or origin")
	runCommand(t, "inspect", "--origin", "A B", "composefs:["+h.Repository+"]hello").assertFailure(t, "--origin", "A B")
}
