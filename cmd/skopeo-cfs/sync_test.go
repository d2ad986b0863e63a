package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/containers/image/v5/manifest"
	"github.com/containers/image/v5/transports/alltransports"
	"github.com/containers/image/v5/types"
	"github.com/docker/go-units"
	"github.com/opencontainers/go-digest"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/bootchost"
	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
	"github.com/skopeo-cfs/skopeo-cfs/internal/original"
	"github.com/skopeo-cfs/skopeo-cfs/internal/repomaker"
)

// startDockerRegistry starts Docker's registry and returns what reaches it, over HTTP:
// a socket, since nobody can say which port is free.
func startDockerRegistry(t testing.TB) *http.Transport {
	t.Helper()
	needTool(t, "docker-registry")
	dir, err := os.MkdirTemp("", "registry") // sockets take no path of more than 107 characters
	require.NoError(t, err)
	config, socket := filepath.Join(dir, "config.yml"), filepath.Join(dir, "socket")
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, "version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s/data}}\nhttp: {net: unix, addr: %q}\n", dir, socket), 0o644))
	registry := exec.Command("docker-registry", "serve", config)
	require.NoError(t, registry.Start())
	t.Cleanup(func() {
		_ = registry.Process.Kill()
		_ = registry.Wait()
		assert.NoError(t, os.RemoveAll(dir))
	})
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}
	for start := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		conn, err := dial(t.Context(), "", "")
		if err == nil {
			require.NoError(t, conn.Close())
			return &http.Transport{DialContext: dial}
		}
		require.Less(t, time.Since(start), time.Minute, "the registry does not answer: %v", err)
	}
}

// watchedRegistry is Docker's registry behind a server that watches what is sent.
type watchedRegistry struct {
	host   string
	before func(w http.ResponseWriter, r *http.Request) bool // false: it has answered

	mutex    sync.Mutex
	requests []string // all that are no GET and no HEAD
	uploaded int64    // bytes of blobs
}

func watchRegistry(t testing.TB) *watchedRegistry {
	t.Helper()
	w := &watchedRegistry{}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "http", "registry"
			r.Out.Host = r.In.Host // which locations in answers have
		},
		Transport: startDockerRegistry(t),
		ErrorLog:  log.New(io.Discard, "", 0), // of clients that go away
	}
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.note(r)
		if w.before == nil || w.before(rw, r) {
			proxy.ServeHTTP(rw, r)
		}
	}))
	t.Cleanup(server.Close)
	w.host = strings.TrimPrefix(server.URL, "http://")
	return w
}

func (w *watchedRegistry) note(r *http.Request) {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return
	}
	w.mutex.Lock()
	defer w.mutex.Unlock()
	w.requests = append(w.requests, r.Method+" "+r.URL.Path)
	if strings.Contains(r.URL.Path, "/blobs/") {
		r.Body = &countedBody{r.Body, w}
	}
}

// sent returns how many bytes of blobs were sent since the last call, and how many
// manifests.
func (w *watchedRegistry) sent() (blobs int64, manifests int) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	for _, r := range w.requests {
		if strings.HasPrefix(r, http.MethodPut) && strings.Contains(r, "/manifests/") {
			manifests++
		}
	}
	blobs = w.uploaded
	w.requests, w.uploaded = nil, 0
	return blobs, manifests
}

type countedBody struct {
	body interface {
		Read([]byte) (int, error)
		Close() error
	}
	registry *watchedRegistry
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	b.registry.mutex.Lock()
	defer b.registry.mutex.Unlock()
	b.registry.uploaded += int64(n)
	return n, err
}

func (b *countedBody) Close() error { return b.body.Close() }

// syncImages runs the command's sync, without a policy.
func syncImages(t testing.TB, from, to string, flags ...string) outcome {
	t.Helper()
	return runCommand(t, append([]string{"sync", "--insecure-policy", "--dest-tls-verify=false", from, to}, flags...)...)
}

// summaryOf returns the last line of what a sync has printed.
func (o outcome) summaryOf() string {
	lines := strings.Split(strings.TrimSpace(o.stdout), "\n")
	return lines[len(lines)-1]
}

// storeName is the name of a store as a destination.
func (s store) place() string { return "containers-storage:[overlay@" + s.root + "+" + s.run + "]" }

// syncable returns a repository of the fixtures' without the tag that no image
// elsewhere can have, and its images by their tags.
func syncable(t testing.TB) (string, map[string]fixtures.Image) {
	t.Helper()
	repo := fixtures.Unpack(t, "sha512")
	require.NoError(t, os.Remove(filepath.Join(repo, "streams/refs/oci/100%25%2Fodd name")))
	images := map[string]fixtures.Image{}
	for layout, image := range fixtures.Layouts(t, "sha512") {
		if layout != "emptylayers" {
			images["localhost/"+layout+":latest"] = image
		}
	}
	for _, tag := range []string{"localhost:5000/a/b/c:latest", "plain", "quay.io/org/app:1.0"} {
		images[tag] = images["localhost/hello:latest"]
	}
	return repo, images
}

// All images of a repository arrive at every destination, by the name that the manual
// gives them there, with the config and the layers that they had, and with the same
// manifest as copy makes. A second sync finds them all there and writes nothing.
func TestSyncOfARepository(t *testing.T) {
	t.Parallel()
	repo, images := syncable(t)
	registry, dir := watchRegistry(t), t.TempDir()
	scoped := func(prefix string) func(string) string {
		return func(tag string) string {
			switch tag {
			case "plain":
				tag = "localhost/plain:latest"
			case "localhost:5000/a/b/c:latest":
				tag = "localhost-5000/a/b/c:latest"
			}
			return prefix + tag
		}
	}
	whole := func(prefix string) func(string) string {
		return func(tag string) string {
			if tag == "plain" {
				tag = "localhost/plain:latest"
			}
			return prefix + tag
		}
	}
	last := func(prefix string) func(string) string {
		return func(tag string) string {
			if tag == "plain" {
				tag = "plain:latest"
			}
			return prefix + tag[strings.LastIndex(tag, "/")+1:]
		}
	}
	for name, test := range map[string]struct {
		to    string
		flags []string
		named func(tag string) string
	}{
		"registry":                  {"docker://" + registry.host, nil, last("docker://" + registry.host + "/")},
		"path in a registry":        {"docker://" + registry.host + "/mirror/", nil, last("docker://" + registry.host + "/mirror/")},
		"path in a registry scoped": {"docker://" + registry.host + "/mirror", []string{"--scoped"}, scoped("docker://" + registry.host + "/mirror/")},
		"directory":                 {"dir:" + dir + "/last", nil, last("dir:" + dir + "/last/")},
		"directory scoped":          {"dir:" + dir + "/scoped/", []string{"--scoped"}, scoped("dir:" + dir + "/scoped/")},
		"layout":                    {"oci:" + dir + "/new/layout", nil, whole("oci:" + dir + "/new/layout:")},
	} {
		t.Run(name, func(t *testing.T) {
			planned := syncImages(t, "composefs:["+repo+"]", test.to, append(test.flags, "--dry-run")...)
			planned.requireSuccess(t)
			got := syncImages(t, "composefs:["+repo+"]", test.to, test.flags...)
			got.requireSuccess(t)
			assert.Contains(t, got.summaryOf(), fmt.Sprintf("%d images: %d copied, 0 already there, 0 failed; ", len(images), len(images)))
			for tag, image := range images {
				to := test.named(tag)
				assert.Contains(t, planned.stdout, "Would copy "+tag+" to "+to+"\n")
				assert.Contains(t, got.stdout, "Copying "+tag+" to "+to+" (")
				arrived := readImage(t, to)
				arrived.assertIs(t, image)
				if tag == "localhost/raw:latest" && strings.HasPrefix(to, "dir:") {
					assert.Equal(t, image.Manifest, arrived.manifest)
				}
			}
			registry.sent()
			before := treeOf(t, dir)
			again := syncImages(t, "composefs:["+repo+"]", test.to, test.flags...)
			again.requireSuccess(t)
			assert.Equal(t, fmt.Sprintf("%d images: 0 copied, %d already there, 0 failed; 0B written", len(images), len(images)), again.summaryOf())
			assert.Equal(t, len(images), strings.Count(again.stdout, "Already there: "))
			blobs, manifests := registry.sent()
			assert.Zero(t, blobs)
			assert.Zero(t, manifests)
			assert.Equal(t, before, treeOf(t, dir))
		})
	}
}

// treeOf returns the files below a directory with their sizes and times.
func treeOf(t testing.TB, dir string) map[string]string {
	t.Helper()
	tree := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			tree[path] = fmt.Sprint(info.Mode(), info.Size(), info.ModTime())
		}
		return err
	}))
	return tree
}

// Images come into podman's storage under their names with their manifests, and what
// podman can't have is told at the end of a sync that keeps going.
func TestSyncIntoStorage(t *testing.T) {
	t.Parallel()
	repo, images := syncable(t)
	s := newStore(t, t.TempDir())
	stopped := syncImages(t, "composefs:["+repo+"]", s.place())
	stopped.assertFailure(t, "localhost/dup:latest", "twice")
	assert.Contains(t, stopped.summaryOf(), "0 copied, 0 already there, 1 failed, 16 not tried")
	s.assertNoImage(t)

	got := syncImages(t, "composefs:["+repo+"]", s.place(), "--keep-going")
	assert.Equal(t, 1, got.code)
	assert.Contains(t, got.stdout, "Failed: localhost/dup:latest\n")
	lines := strings.Split(strings.TrimSpace(got.stderr), "\n")
	require.Len(t, lines, 3, got.stderr)
	assert.Contains(t, lines[0], "Not copied: copying composefs:["+repo+"]localhost/dup:latest to ")
	assert.Contains(t, lines[1], "localhost/sbom:latest")
	assert.Equal(t, "skopeo-cfs: 2 of 17 images could not be copied", lines[2])
	assert.Contains(t, got.summaryOf(), "17 images: 15 copied, 0 already there, 2 failed; ")
	for tag, image := range images {
		if tag == "localhost/dup:latest" || tag == "localhost/sbom:latest" {
			continue
		}
		if tag == "plain" {
			tag = "localhost/plain:latest"
		}
		podmans := s.inspect(t, tag)
		assert.Equal(t, image.Config.Encoded(), podmans.ID, tag)
		assert.Equal(t, image.Manifest, readImage(t, s.place()+tag).manifest)
	}
	again := syncImages(t, "composefs:["+repo+"]", s.place(), "--keep-going")
	assert.Contains(t, again.summaryOf(), "17 images: 0 copied, 15 already there, 2 failed; 0B written")
	s.podman(t, "rmi", "localhost/many:latest")
	again = syncImages(t, "composefs:["+repo+"]many", s.place(), "--keep-going")
	again.requireSuccess(t)
	assert.Contains(t, again.summaryOf(), "1 image: 1 copied")
}

// newShared returns a repository with images of which each has the layers of the one
// before and one more.
func newShared(t testing.TB, names ...string) string {
	t.Helper()
	return newSharedListing(t, repomaker.Gzip, names...)
}

// newSharedListing is newShared with manifests that list the layers as listing says.
func newSharedListing(t testing.TB, listing repomaker.Listing, names ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "repository")
	maker, err := repomaker.Create(path, fsverity.SHA512, repomaker.Options{})
	require.NoError(t, err)
	var layers [][]byte
	for n, name := range names {
		content := make([]byte, 300_000)
		for i := range content {
			content[i] = byte(i*i>>7) ^ byte(i>>(n+3))
		}
		layers = append(layers, tarOf(t, strings.TrimSuffix(name[strings.LastIndex(name, "/")+1:], ":1"), content))
		image := repomaker.Image{Listing: listing}
		for _, l := range layers {
			image.Layers = append(image.Layers, repomaker.Layer{Tar: bytes.NewReader(l)})
		}
		_, err := maker.AddImage(name, image)
		require.NoError(t, err)
	}
	return path
}

// What several images share is compressed and sent once, whatever the repositories of
// a registry that the images come into, and also where an earlier sync has sent it: the
// contents are not even read again.
func TestSyncSendsWhatImagesShareOnce(t *testing.T) {
	t.Parallel()
	names := []string{"quay.io/org/a:1", "quay.io/org/b:1", "quay.io/org/c:1"}
	for name, listing := range map[string]repomaker.Listing{"docker": repomaker.Gzip, "oci": repomaker.Gzip, "docker, raw": repomaker.Uncompressed, "oci, raw": repomaker.Uncompressed} {
		t.Run(name, func(t *testing.T) {
			transport, _, _ := strings.Cut(name, ",")
			repo, registry := newSharedListing(t, listing, names...), watchRegistry(t)
			to, named := "docker://"+registry.host+"/mirror", "docker://"+registry.host+"/mirror/%s:1"
			if transport == "oci" {
				to = "oci:" + filepath.Join(t.TempDir(), "layout")
				named = to + ":quay.io/org/%s:1"
			}
			first := syncImages(t, "composefs:["+repo+"]*/*/[ab]", to)
			first.requireSuccess(t)
			assert.Contains(t, first.stdout, "2 images: 2 copied")
			a, b := manifestOf(t, fmt.Sprintf(named, "a")), manifestOf(t, fmt.Sprintf(named, "b"))
			require.Len(t, b.LayerInfos(), 2)
			assert.Equal(t, a.LayerInfos()[0], b.LayerInfos()[0])
			assert.Contains(t, b.LayerInfos()[0].MediaType, "gzip")
			once := a.LayerInfos()[0].Size + b.LayerInfos()[1].Size
			assert.Contains(t, first.summaryOf(), "; "+units.HumanSize(float64(once))+" written")
			if transport == "docker" {
				blobs, manifests := registry.sent()
				assert.Equal(t, once+a.ConfigInfo().Size+b.ConfigInfo().Size, blobs)
				assert.Equal(t, 2, manifests)
			}

			removeContents(t, repo, "a", "b")
			second := syncImages(t, "composefs:["+repo+"]", to)
			second.requireSuccess(t)
			assert.Contains(t, second.stdout, "3 images: 1 copied, 2 already there")
			c := manifestOf(t, fmt.Sprintf(named, "c")).LayerInfos()
			require.Len(t, c, 3)
			assert.Equal(t, b.LayerInfos(), c[:2])
			assert.Contains(t, second.summaryOf(), "; "+units.HumanSize(float64(c[2].Size))+" written")
		})
	}
}

// removeContents removes the objects that the files with these names are in.
func removeContents(t testing.TB, repo string, names ...string) {
	t.Helper()
	listed := runCommand(t, "files", "--json", "composefs:["+repo+"]quay.io/org/c:1")
	listed.requireSuccess(t)
	var files []struct{ Path, Object string }
	require.NoError(t, json.Unmarshal([]byte(listed.stdout), &files))
	removed := 0
	for _, f := range files {
		if slices.Contains(names, strings.TrimPrefix(f.Path, "/")) {
			require.NoError(t, os.Remove(filepath.Join(repo, "objects", f.Object[:2], f.Object[2:])))
			removed++
		}
	}
	require.Equal(t, len(names), removed)
}

// manifestOf returns the manifest of an image.
func manifestOf(t testing.TB, name string) manifest.Manifest {
	t.Helper()
	ref, err := alltransports.ParseImageName(name)
	require.NoError(t, err)
	src, err := ref.NewImageSource(t.Context(), &types.SystemContext{DockerInsecureSkipTLSVerify: types.OptionalBoolTrue})
	require.NoError(t, err)
	defer src.Close()
	raw, typ, err := src.GetManifest(t.Context(), nil)
	require.NoError(t, err)
	m, err := manifest.FromBlob(raw, typ)
	require.NoError(t, err)
	return m
}

// newUnending returns a repository with four images, of which the third comes to no
// end; once mended, it does.
func newUnending(t testing.TB) (repo string, mend func()) {
	t.Helper()
	f := newForge(t)
	f.tag("localhost%2Ffirst:1", f.image(tarOf(t, "first", []byte("first"))))
	f.tag("localhost%2Fsecond:1", f.image(tarOf(t, "second", []byte("second"))))
	i := f.image()
	f.largeLayer(i, endless, false)
	f.tag("localhost%2Fthird:1", i)
	f.tag("localhost%2Fzero:1", f.image(tarOf(t, "zero", []byte("zero"))))
	return f.repo, func() { f.tag("localhost%2Fthird:1", f.image(tarOf(t, "third", []byte("third")))) }
}

// interruption is a destination of a sync that is ended in its third image.
type interruption struct {
	to      string
	image   func(name string) string
	halfWay func() bool
	// left are the names of what is there of images.
	left func(t *testing.T) []string
}

func interruptions(t *testing.T) map[string]interruption {
	registry, s, dir := watchRegistry(t), newStore(t, t.TempDir()), t.TempDir()
	larger := func() bool { return sizeBelow(dir) > pieceSize }
	return map[string]interruption{
		"docker": {
			to: "docker://" + registry.host + "/x", image: func(name string) string { return "docker://" + registry.host + "/x/" + name + ":1" },
			halfWay: func() bool {
				registry.mutex.Lock()
				defer registry.mutex.Unlock()
				return registry.uploaded > pieceSize
			},
			left: func(t *testing.T) (names []string) {
				for _, name := range []string{"first", "second", "third", "zero"} {
					answer, err := http.Get("http://" + registry.host + "/v2/x/" + name + "/tags/list")
					require.NoError(t, err)
					body, err := io.ReadAll(answer.Body)
					answer.Body.Close()
					require.NoError(t, err)
					if strings.Contains(string(body), `"tags":["1"]`) {
						names = append(names, name)
					}
				}
				return names
			},
		},
		"oci": {
			to: "oci:" + dir + "/layout", image: func(name string) string { return "oci:" + dir + "/layout:localhost/" + name + ":1" },
			halfWay: larger,
			left: func(t *testing.T) (names []string) {
				assert.Equal(t, []string{"layout"}, namesIn(t, dir))
				data, err := os.ReadFile(filepath.Join(dir, "layout/index.json"))
				require.NoError(t, err)
				for _, name := range []string{"first", "second", "third", "zero"} {
					if strings.Contains(string(data), "localhost/"+name+":1") {
						names = append(names, name)
					}
				}
				return names
			},
		},
		"dir": {
			to: "dir:" + dir, image: func(name string) string { return "dir:" + dir + "/" + name + ":1" },
			halfWay: larger,
			left: func(t *testing.T) (names []string) {
				for _, name := range namesIn(t, dir) {
					names = append(names, strings.TrimSuffix(name, ":1"))
				}
				return names
			},
		},
		"containers-storage": {
			to: s.place(), image: func(name string) string { return s.place() + "localhost/" + name + ":1" },
			halfWay: func() bool { return s.hasFile(staged, pieceSize) },
			left: func(t *testing.T) (names []string) {
				for _, line := range strings.Fields(s.podman(t, "images", "--sort", "repository", "--format", "{{.Repository}}")) {
					names = append(names, strings.TrimPrefix(line, "localhost/"))
				}
				return names
			},
		},
	}
}

// A sync that is killed leaves whole images, and the next one goes on with those that
// have not arrived.
func TestSyncGoesOnAfterAKill(t *testing.T) {
	t.Parallel()
	needTool(t, "podman")
	for transport := range interruptions(t) {
		t.Run(transport, func(t *testing.T) {
			at := interruptions(t)[transport]
			repo, mend := newUnending(t)
			c := newCommand(t, "sync", "--insecure-policy", "--dest-tls-verify=false", "composefs:["+repo+"]", at.to)
			c.start(t)
			c.waitUntil(t, "half way", at.halfWay)
			require.NoError(t, c.Process.Kill())
			require.Error(t, c.Wait())
			want := []digest.Digest{readImage(t, at.image("first")).manifest, readImage(t, at.image("second")).manifest}

			mend()
			got := syncImages(t, "composefs:["+repo+"]", at.to)
			got.requireSuccess(t)
			assert.Contains(t, got.summaryOf(), "4 images: 2 copied, 2 already there, 0 failed; ")
			assert.Contains(t, got.stdout, "Already there: localhost/second:1 at "+at.image("second")+" (2 of 4)\n")
			assert.Equal(t, want, []digest.Digest{readImage(t, at.image("first")).manifest, readImage(t, at.image("second")).manifest})
			assert.Equal(t, []digest.Digest{digest.FromBytes(tarOf(t, "third", []byte("third")))}, readImage(t, at.image("third")).layers)
			assert.Equal(t, []string{"first", "second", "third", "zero"}, at.left(t))
		})
	}
}

// A sync that is interrupted ends, also if it keeps going otherwise, and leaves no half
// image.
func TestInterruptedSyncLeavesWholeImages(t *testing.T) {
	t.Parallel()
	needTool(t, "podman")
	for transport := range interruptions(t) {
		for _, keepGoing := range []bool{false, true} {
			t.Run(fmt.Sprint(transport, keepGoing), func(t *testing.T) {
				at := interruptions(t)[transport]
				repo, _ := newUnending(t)
				c := newCommand(t, "sync", "--insecure-policy", "--dest-tls-verify=false", fmt.Sprintf("--keep-going=%t", keepGoing), "composefs:["+repo+"]", at.to)
				c.start(t)
				c.waitUntil(t, "half way", at.halfWay)
				got := c.interrupt(t, unix.SIGINT)
				assert.Equal(t, 1, got.code)
				assert.Contains(t, got.stderr, "interrupted by SIGINT")
				assert.Contains(t, got.summaryOf(), "4 images: 2 copied, 0 already there, 1 failed, 1 not tried; ")
				assert.Equal(t, []string{"first", "second"}, at.left(t))
			})
		}
	}
}

// newHostile returns a repository with an image under a name that it can have elsewhere,
// and under others.
func newHostile(t testing.TB, tags ...string) string {
	t.Helper()
	f := newForge(t)
	for _, tag := range append(tags, "quay.io/org/good:1") {
		f.tag(strings.NewReplacer("%", "%25", "/", "%2F").Replace(tag), f.image(tarOf(t, "file", []byte("content"))))
	}
	return f.repo
}

// hostileTags are tags that a repository can have, and no image elsewhere.
var hostileTags = []string{
	"../../../etc/evil", "a/../../b", "/etc/passwd", "a//b", "a/..", "..:1", "\x1b[31mred", "two words", "line\nbreak", "localhost/Capitals",
	"[bracket]", "quay.io/org/app@sha256:" + strings.Repeat("0", 64), "quay.io/org/app:" + strings.Repeat("x", 129), "quay.io/org/app:", ":1", "~/x", "%2F", "\xff\xfe",
}

// Tags that are no names elsewhere are refused before anything is copied, and lead
// nowhere; where others are to be copied nevertheless, they are.
func TestSyncOfHostileTags(t *testing.T) {
	t.Parallel()
	repo := newHostile(t, hostileTags...)
	for _, transport := range []string{"dir", "oci"} {
		for _, scoped := range []string{"--scoped=false", "--scoped"} {
			t.Run(transport+scoped, func(t *testing.T) {
				base := t.TempDir()
				to := transport + ":" + base + "/below/here"
				refused := syncImages(t, "composefs:["+repo+"]", to, scoped)
				assert.Equal(t, 1, refused.code)
				assert.Empty(t, namesIn(t, base))
				assert.Empty(t, refused.stdout)
				assert.Contains(t, refused.stderr, fmt.Sprintf("; and %d more\n", len(hostileTags)-maxReasons))
				got := syncImages(t, "composefs:["+repo+"]", to, scoped, "--keep-going")
				assert.Equal(t, 1, got.code)
				assert.Contains(t, got.summaryOf(), fmt.Sprintf("%d images: 1 copied, 0 already there, %d failed; ", len(hostileTags)+1, len(hostileTags)))
				assert.Equal(t, []string{"below"}, namesIn(t, base))
				assert.Equal(t, []string{"here"}, namesIn(t, base+"/below"))
				for _, out := range []string{refused.stderr, got.stderr, got.stdout} {
					assert.NotContains(t, out, "\x1b")
					assert.True(t, utf8.ValidString(out))
				}
				assert.Equal(t, len(hostileTags), strings.Count(got.stderr, "Not copied: "))
			})
		}
	}
}

// Different images that would have the same name are refused before anything is
// written, also where others would be copied; the same image twice is one.
func TestSyncRefusesCollisions(t *testing.T) {
	t.Parallel()
	f, base := newForge(t), t.TempDir()
	one, other := f.image(tarOf(t, "one", nil)), f.image(tarOf(t, "other", nil))
	f.tag("quay.io%2Fa%2Fos:1", one)
	f.tag("quay.io%2Fb%2Fos:1", other)
	for _, flags := range [][]string{nil, {"--keep-going"}, {"--dry-run"}} {
		syncImages(t, "composefs:["+f.repo+"]", "dir:"+base+"/x", flags...).
			assertFailure(t, `"quay.io/a/os:1" and "quay.io/b/os:1" would both be dir:`+base+"/x/os:1", "--scoped")
	}
	assert.Empty(t, namesIn(t, base))
	syncImages(t, "composefs:["+f.repo+"]", "dir:"+base+"/x", "--scoped").requireSuccess(t)
	f.tag("os", one)
	f.tag("localhost%2Fos:latest", other)
	syncImages(t, "composefs:["+f.repo+"]*os", "oci:"+base+"/y").requireSuccess(t) // * matches no slash
	syncImages(t, "composefs:["+f.repo+"]", "oci:"+base+"/z").assertFailure(t, `"localhost/os:latest" and "os" would both be`)
	f.tag("localhost%2Fos:latest", one)
	got := syncImages(t, "composefs:["+f.repo+"]", "oci:"+base+"/y")
	got.requireSuccess(t)
	assert.Contains(t, got.summaryOf(), "3 images: 2 copied, 1 already there")
}

// A pattern is of tags with or without the version, and without a wildcard it may be
// short as with copy.
func TestSyncPatterns(t *testing.T) {
	tags := []string{"hello", "localhost/other:latest", "quay.io/org/app:1", "quay.io/org/app:2", "quay.io/org/db:1"}
	for pattern, want := range map[string][]string{
		"":                  tags,
		"quay.io/org/app":   {"quay.io/org/app:1", "quay.io/org/app:2"},
		"quay.io/org/app:2": {"quay.io/org/app:2"},
		"quay.io/org/*":     {"quay.io/org/app:1", "quay.io/org/app:2", "quay.io/org/db:1"},
		"*/*/*:1":           {"quay.io/org/app:1", "quay.io/org/db:1"},
		"*":                 {"hello"},
		"other":             {"localhost/other:latest"},
		"nothing*":          {},
	} {
		got, err := syncSource{pattern: pattern}.matches(tags)
		require.NoError(t, err, pattern)
		assert.Equal(t, want, got, pattern)
	}
	for _, pattern := range []string{"nothing", "app"} {
		_, err := syncSource{pattern: pattern}.matches(tags)
		assert.Error(t, err, pattern)
	}
}

// What can't be meant is refused by name, and nothing is made.
func TestSyncCommandLinesThatAreWrong(t *testing.T) {
	t.Parallel()
	repo, base := fixtures.Unpack(t, "sha256"), t.TempDir()
	from := "composefs:[" + repo + "]hello"
	for to, text := range map[string]string{
		"oci-archive:" + base + "/x":  "must be containers-storage:",
		base + "/x":                   "must be containers-storage:",
		"docker:registry":             "must be docker://REGISTRY",
		"docker://":                   "must be docker://REGISTRY",
		"docker://registry/x:1":       "must be docker://REGISTRY",
		"docker://registry/UPPER":     "must be docker://REGISTRY",
		"dir:":                        "must be dir:DIRECTORY",
		"oci:":                        "must be oci:DIRECTORY",
		"oci:" + base + "/x:y":        "with a colon",
		"containers-storage:prefix/x": "nothing more",
		"containers-storage:[x]y":     "nothing more",
	} {
		syncImages(t, from, to).assertFailure(t, "destination ", text)
	}
	for from, text := range map[string]string{
		"dir:" + base:                          "must be composefs:",
		repo:                                   "must be composefs:",
		"composefs:[" + repo:                   "in brackets",
		"composefs:[]x":                        "in brackets",
		"composefs:[" + repo + "]@booted":      "copy copies",
		"composefs:[/a:b]":                     "can't have a colon",
		"composefs:[" + repo + "]x[":           "syntax error in pattern",
		"composefs:[" + repo + "]none":         "no such tag",
		"composefs:[" + repo + "]none/*":       `no tag matches "none/*"`,
		"composefs:[" + base + "]":             "not a composefs repository",
		"composefs:[" + base + "/missing]":     "no such file",
		"composefs:[" + newForge(t).repo + "]": "has no tags",
	} {
		syncImages(t, from, "dir:"+base+"/x").assertFailure(t, text)
	}
	for flag, text := range map[string]string{
		"--append-suffix=/x": "no tag can end so", "--format=x": "--format", "--all-deployments": "looking for deployments",
		"--dest-compress-format=x": "must be gzip", "--digestfile=x": "unknown flag", "--sign-identity=x": "unknown flag",
	} {
		syncImages(t, from, "dir:"+base+"/x", flag).assertFailure(t, text)
	}
	assert.Empty(t, namesIn(t, base))
}

// A dry run writes nothing, not even a store, and tells what is there already.
func TestSyncDryRunWritesNothing(t *testing.T) {
	t.Parallel()
	repo := newShared(t, "quay.io/org/a:1", "quay.io/org/b:1")
	registry, s, dir := watchRegistry(t), newStore(t, t.TempDir()), t.TempDir()
	for _, to := range []string{"docker://" + registry.host, "dir:" + dir + "/x", "oci:" + dir + "/y", s.place()} {
		before := treeOf(t, repo)
		got := syncImages(t, "composefs:["+repo+"]", to, "--dry-run")
		got.requireSuccess(t)
		assert.Equal(t, "2 images: 2 to copy, 0 already there, 0 failed", got.summaryOf())
		assert.Empty(t, namesIn(t, dir))
		assert.NoDirExists(t, s.root)
		assert.Empty(t, registry.requests)
		assert.Equal(t, before, treeOf(t, repo))
	}
	for _, to := range []string{"docker://" + registry.host, "dir:" + dir + "/x", "oci:" + dir + "/y", s.place()} {
		syncImages(t, "composefs:["+repo+"]*/*/a", to).requireSuccess(t)
		registry.sent()
		before := treeOf(t, dir)
		got := syncImages(t, "composefs:["+repo+"]", to, "--dry-run")
		got.requireSuccess(t)
		assert.Equal(t, "2 images: 1 to copy, 1 already there, 0 failed", got.summaryOf())
		assert.Contains(t, got.stdout, "Already there: quay.io/org/a:1 at ")
		assert.Contains(t, got.stdout, "Would copy quay.io/org/b:1 to ")
		assert.Equal(t, before, treeOf(t, dir))
		assert.Empty(t, registry.requests)
	}
}

// A registry that drops connections fails one image, not the others; and none if it is
// asked again.
func TestSyncToARegistryThatDropsConnections(t *testing.T) {
	t.Parallel()
	repo := newShared(t, "quay.io/org/a:1", "quay.io/org/b:1", "quay.io/org/c:1")
	for name, test := range map[string]struct {
		flags   []string
		summary string
		code    int
	}{
		"the first error ends it": {nil, "3 images: 1 copied, 0 already there, 1 failed, 1 not tried; ", 1},
		"kept going":              {[]string{"--keep-going"}, "3 images: 2 copied, 0 already there, 1 failed; ", 1},
		"tried again":             {[]string{"--retry-times=1", "--retry-delay=1ms"}, "3 images: 3 copied, 0 already there, 0 failed; ", 0},
	} {
		t.Run(name, func(t *testing.T) {
			registry := watchRegistry(t)
			var dropped atomic.Bool
			registry.before = func(_ http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/b/manifests/") && !dropped.Swap(true) {
					panic(http.ErrAbortHandler)
				}
				return true
			}
			got := syncImages(t, "composefs:["+repo+"]", "docker://"+registry.host, test.flags...)
			assert.Equal(t, test.code, got.code, got.stderr)
			assert.Contains(t, got.summaryOf(), test.summary)
			if test.code != 0 {
				assert.Contains(t, got.stderr, "copying composefs:["+repo+"]quay.io/org/b:1 to docker://"+registry.host+"/b:1: ")
			}
			again := syncImages(t, "composefs:["+repo+"]", "docker://"+registry.host)
			again.requireSuccess(t)
			for _, image := range []string{"a:1", "b:1", "c:1"} {
				readImage(t, "docker://"+registry.host+"/"+image)
			}
		})
	}
}

// What is at the destination under an image's name and is another image, or not all
// of it, is copied over.
func TestSyncReplacesWhatIsNotTheImage(t *testing.T) {
	t.Parallel()
	repo, dir := newShared(t, "quay.io/org/a:1", "quay.io/org/b:1"), t.TempDir()
	s, registry := newStore(t, t.TempDir()), watchRegistry(t)
	for to, at := range map[string]string{
		"dir:" + dir + "/x":         "dir:" + dir + "/x/a:1",
		"oci:" + dir + "/y":         "oci:" + dir + "/y:quay.io/org/a:1",
		"docker://" + registry.host: "docker://" + registry.host + "/a:1",
		s.place():                   s.place() + "quay.io/org/a:1",
	} {
		syncImages(t, "composefs:["+repo+"]", to).requireSuccess(t)
		want := readImage(t, at)
		copyImage(t, "composefs:["+repo+"]quay.io/org/b:1", at, "--dest-tls-verify=false").requireSuccess(t)
		require.NotEqual(t, want, readImage(t, at))
		got := syncImages(t, "composefs:["+repo+"]", to)
		got.requireSuccess(t)
		assert.Contains(t, got.summaryOf(), "2 images: 1 copied, 1 already there", to)
		assert.Equal(t, want, readImage(t, at))
	}
	for to, pattern := range map[string]string{"dir:" + dir + "/x": dir + "/x/a:1/*", "oci:" + dir + "/y": dir + "/y/blobs/sha256/*"} {
		files, err := filepath.Glob(pattern)
		require.NoError(t, err)
		for _, file := range files {
			info, err := os.Stat(file)
			require.NoError(t, err)
			if info.Size() > 10_000 { // a layer
				require.NoError(t, os.Truncate(file, 100))
			}
		}
		got := syncImages(t, "composefs:["+repo+"]*/*/a", to)
		got.requireSuccess(t)
		assert.Contains(t, got.summaryOf(), "1 image: 1 copied, 0 already there", to)
	}
}

// Where a manifest's digest is to be kept, an image with another one is not there yet.
func TestSyncKeepsDigests(t *testing.T) {
	t.Parallel()
	o, at, origin := original.New(t, "hello"), watchRegistry(t), newRegistry(t, "")
	o.Push(t, origin, "org/os", "1")
	repo := filepath.Join(t.TempDir(), "repository")
	o.AddTo(t, repo, "quay.io/org/os:1", original.Raw)
	to, image := "docker://"+at.host, "docker://"+at.host+"/os:1"
	flags := []string{"--origin", origin + "/org/os:1", "--src-tls-verify=false", "--fetch-missing"}
	syncImages(t, "composefs:["+repo+"]", to).requireSuccess(t)
	assert.NotEqual(t, o.Digest, readImage(t, image).manifest)
	for _, summary := range []string{"1 copied, 0 already there", "0 copied, 1 already there"} {
		got := syncImages(t, "composefs:["+repo+"]", to, flags...)
		assert.Zero(t, got.code, got.stderr)
		assert.Contains(t, got.summaryOf(), summary)
		assert.Equal(t, o.Digest, readImage(t, image).manifest)
	}
	got := syncImages(t, "composefs:["+repo+"]", to, "--preserve-digests", "--append-suffix=-new")
	got.requireSuccess(t)
	assert.NotEqual(t, o.Digest, readImage(t, image+"-new").manifest, "that of the repository")
}

// Deployments come under the names of their images, those that a tag names or that
// another deployment has only once; of two images with one name the second has the
// beginning of its ID behind it.
func TestSyncOfAllDeployments(t *testing.T) {
	t.Parallel()
	h := bootchost.New(t, "sha512",
		bootchost.Deployment{Layout: "hello", Name: "quay.io/org/os:42"},
		bootchost.Deployment{Layout: "sizes", Name: "quay.io/org/os:42"},
		bootchost.Deployment{Layout: "many", Name: "/some/layout:tag", Form: "ostree-unverified-image:oci:%s"},
		bootchost.Deployment{Layout: "kinds", Name: "quay.io/org/kinds:1"},
	)
	h.Boot(t, 0)
	h.Tag(t, 1) // bootc's tag is no name
	dir := filepath.Join(h.Repository, "streams/refs/oci")
	for _, tag := range namesIn(t, dir) {
		if tag != "localhost%2Fkinds:latest" && !strings.Contains(tag, "bootc-") {
			require.NoError(t, os.Remove(filepath.Join(dir, tag)))
		}
	}
	layout := "oci:" + filepath.Join(t.TempDir(), "layout")
	options := syncOptions{copyOptions: copyOptions{global: &globalOptions{insecurePolicy: true, tmpDir: t.TempDir()}}, root: h.Root, allDeployments: true}
	options.addFlagsOfMany(pflag.NewFlagSet("", pflag.ContinueOnError))
	out, err := os.Create(filepath.Join(t.TempDir(), "output"))
	require.NoError(t, err)
	defer out.Close()
	require.NoError(t, options.run(t.Context(), "composefs:["+h.Repository+"]", layout, out))
	printed, err := os.ReadFile(out.Name())
	require.NoError(t, err)
	assert.Contains(t, string(printed), "4 images: 4 copied")
	for name, i := range map[string]int{
		"quay.io/org/os:42": 0, "quay.io/org/os:42-" + h.IDs[1][:12]: 1, "localhost/bootc:" + h.IDs[2][:12]: 2, "localhost/kinds:latest": 3,
	} {
		readImage(t, layout+":"+name).assertIs(t, h.Images[i])
	}

	other := "oci:" + filepath.Join(t.TempDir(), "layout")
	got := syncImages(t, "composefs:["+h.Repository+"]", other)
	got.requireSuccess(t)
	assert.Contains(t, got.stdout, "2 images: 2 copied", "tags alone, bootc's too")
	got = syncImages(t, "composefs:["+h.Repository+"]none", other, "--all-deployments")
	got.requireSuccess(t)
	assert.Contains(t, got.summaryOf(), "4 images: 4 copied", "all deployments, whatever the pattern is")
}

// The commands in docs/air-gap.md do what is said there, in the order in which they are
// there.
func TestTheCommandsAboutAnAirGap(t *testing.T) {
	t.Parallel()
	needRoot(t)
	needTool(t, "skopeo", "podman", "jq", "bash")
	g := newGap(t)
	printed := g.runAll(t, "../../"+airGap)
	want := fixtures.Expected(t)
	for name, image := range map[string]fixtures.Image{
		"docker://" + g.registry + "/mirror/os:42":                  want["hello"],
		"docker://" + g.registry + "/mirror/quay.io/org/os:42":      want["hello"],
		"docker://" + g.registry + "/mirror/quay.io/org/app:1.0":    want["many"],
		"docker://" + g.registry + "/scoped/quay.io/org/os:42":      want["hello"],
		"docker://" + g.registry + "/scoped/quay.io/org/app:1.0":    want["many"],
		"oci:" + g.dir + "/usb/host:quay.io/org/emptylayers:latest": want["emptylayers"],
		g.store.place() + "quay.io/org/os:42":                       want["hello"],
		g.store.place() + "quay.io/org/app:1.0":                     want["many"],
	} {
		readImage(t, name).assertIs(t, image)
	}
	carried := readImage(t, "oci:"+g.dir+"/usb/images:quay.io/org/os:42").manifest
	assert.Equal(t, carried, readImage(t, "docker://"+g.registry+"/mirror/os:42").manifest)
	assert.Equal(t, carried.String()+"\n", printed["skopeo inspect --format '{{.Digest}}' docker://registry.example.com/mirror/os:42"])
	assert.Equal(t, carried.String()+" quay.io/org/os:42\n", printed["grep quay.io/org/os:42 digests"])
	assert.Contains(t, printed["podman run --rm quay.io/org/os:42 /bin/hello"], helloText)
	assert.Contains(t, printed["podman images quay.io/org/app"], want["many"].Config.Encoded()[:12])
	assert.Contains(t, printed["skopeo-cfs sync --dry-run 'composefs:[repository]quay.io/org/*' oci:usb/images"], "2 images: 2 to copy")
	for _, line := range printed {
		assert.NotContains(t, line, "\x1b")
	}
}

// gap is a machine with a repository, and what is beyond.
type gap struct {
	dir      string
	registry string
	store    store
	env      []string
}

func newGap(t *testing.T) *gap {
	t.Helper()
	g := &gap{dir: t.TempDir(), registry: watchRegistry(t).host, store: newStore(t, t.TempDir())}
	repo := fixtures.Unpack(t, "sha512")
	tags := filepath.Join(repo, "streams/refs/oci")
	require.NoError(t, os.Rename(filepath.Join(tags, "localhost%2Fhello:latest"), filepath.Join(tags, "quay.io%2Forg%2Fos:42")))
	require.NoError(t, os.Rename(filepath.Join(tags, "localhost%2Fmany:latest"), filepath.Join(tags, "quay.io%2Forg%2Fapp:1.0")))
	h := bootchost.New(t, "sha512", bootchost.Deployment{Layout: "emptylayers"})
	require.NoError(t, os.Remove(filepath.Join(h.Repository, "streams/refs/oci/100%25%2Fodd name")))
	require.NoError(t, os.Symlink(repo, filepath.Join(g.dir, "repository")))
	require.NoError(t, os.Symlink(h.Sysroot, filepath.Join(g.dir, "sysroot")))
	require.NoError(t, os.Mkdir(filepath.Join(g.dir, "usb"), 0o755))

	bin, home := t.TempDir(), t.TempDir()
	binary, err := os.Executable()
	require.NoError(t, err)
	require.NoError(t, os.Symlink(binary, filepath.Join(bin, "skopeo-cfs")))
	conf := filepath.Join(home, ".config/containers")
	require.NoError(t, os.MkdirAll(conf, 0o755))
	for name, text := range map[string]string{
		"policy.json":     `{"default":[{"type":"insecureAcceptAnything"}]}`,
		"registries.conf": fmt.Sprintf("[[registry]]\nlocation = %q\ninsecure = true\n", g.registry),
		"storage.conf":    fmt.Sprintf("[storage]\ndriver = \"overlay\"\ngraphroot = %q\nrunroot = %q\n", g.store.root, g.store.run),
	} {
		require.NoError(t, os.WriteFile(filepath.Join(conf, name), []byte(text), 0o644))
	}
	g.env = append(os.Environ(), asCommand+"=1", "PATH="+bin+":"+os.Getenv("PATH"), "HOME="+home, "TMPDIR="+t.TempDir(),
		"CONTAINERS_STORAGE_CONF="+conf+"/storage.conf", "CONTAINERS_REGISTRIES_CONF="+conf+"/registries.conf", "XDG_CONFIG_HOME="+home+"/.config")
	return g
}

// runAll runs the commands in a document, with the registry in the place of the one that
// is an example, and returns what they have printed.
func (g *gap) runAll(t *testing.T, path string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	printed, inside := map[string]string{}, false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "```") {
			inside = line == "```console"
			continue
		}
		command, ok := strings.CutPrefix(line, "$ ")
		if !inside || !ok {
			continue
		}
		run := strings.ReplaceAll(command, "registry.example.com", g.registry)
		if strings.HasPrefix(run, "podman run ") {
			run = inNamespace(run)
		}
		cmd := exec.Command("bash", "-c", "set -o pipefail; "+run)
		cmd.Dir, cmd.Env = g.dir, g.env
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		require.NoError(t, cmd.Run(), "%s: %s", command, &stderr)
		printed[command] = stdout.String()
	}
	require.NotEmpty(t, printed)
	return printed
}

// inNamespace returns a command of podman's that runs a container, such that it does so
// within containers and virtual machines, too.
func inNamespace(command string) string {
	limits := "podman --cgroup-manager cgroupfs run --network none --cgroups disabled --ulimit nofile=512:512 --ulimit nproc=200:200 "
	return "unshare --mount sh -c 'umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup && exec " + strings.Replace(command, "podman run ", limits, 1) + "'"
}

// A registry with TLS and passwords is asked for what is there as it is sent to. An
// image that is to be signed is copied in any case.
func TestSyncSigns(t *testing.T) {
	t.Parallel()
	repo, keys, r := newShared(t, "quay.io/org/a:1"), signingKeys(t), newTLSRegistry(t, nil)
	policy, registriesDir := signaturePolicy(t, r.host, filepath.Join(keys, "public.key"))
	to, reach := "docker://"+r.host+"/mirror", []string{"--dest-cert-dir=" + r.certs, "--dest-creds=user:secret", "--registries.d=" + registriesDir}
	sync := func(flags ...string) string {
		got := runCommand(t, append(append([]string{"sync", "--insecure-policy", "composefs:[" + repo + "]", to}, reach...), flags...)...)
		got.requireSuccess(t)
		return got.summaryOf()
	}
	assert.Contains(t, sync(), "1 copied, 0 already there")
	assert.Contains(t, sync(), "0 copied, 1 already there")
	read := func() outcome {
		return runCommand(t, "copy", "--policy", policy, "--registries.d", registriesDir, "--src-cert-dir", r.certs, "--src-creds", "user:secret", "--remove-signatures",
			to+"/a:1", "dir:"+t.TempDir()+"/image")
	}
	read().assertFailure(t, "ource image rejected")
	assert.Contains(t, sync("--sign-by-sigstore-private-key="+keys+"/private.key", "--sign-passphrase-file="+keys+"/passphrase"), "1 copied, 0 already there")
	read().requireSuccess(t)
}

// An image is there only as the flags want it, in compression and type.
func TestSyncMakesWhatIsAskedFor(t *testing.T) {
	t.Parallel()
	repo, registry, dir := newShared(t, "quay.io/org/a:1", "quay.io/org/b:1"), watchRegistry(t), t.TempDir()
	for to, at := range map[string]string{"oci:" + dir + "/layout": "oci:" + dir + "/layout:quay.io/org/b:1", "docker://" + registry.host: "docker://" + registry.host + "/b:1"} {
		for _, step := range []struct{ flag, summary, layers string }{
			{"--dest-compress-format=gzip", "2 copied, 0 already there", "gzip"},
			{"--keep-going", "0 copied, 2 already there", "gzip"},
			{"--dest-compress-format=zstd", "2 copied, 0 already there", "zstd"},
			{"--dest-compress-format=zstd", "0 copied, 2 already there", "zstd"},
			{"--keep-going", "0 copied, 2 already there", "zstd"},
		} {
			got := syncImages(t, "composefs:["+repo+"]", to, step.flag)
			got.requireSuccess(t)
			assert.Contains(t, got.summaryOf(), step.summary, "%s %s", to, step.flag)
			layers := manifestOf(t, at).LayerInfos()
			for _, l := range layers {
				assert.Contains(t, l.MediaType, step.layers)
			}
			if strings.HasPrefix(step.summary, "2") { // b's first layer is a's
				a := manifestOf(t, strings.Replace(at, "b:1", "a:1", 1)).LayerInfos()
				assert.Equal(t, a[0].Digest, layers[0].Digest)
				assert.Contains(t, got.summaryOf(), "; "+units.HumanSize(float64(a[0].Size+layers[1].Size))+" written", "%s %s", to, step.flag)
			}
			readImage(t, at)
		}
	}
	to := "docker://" + registry.host
	for _, summary := range []string{"2 copied, 0 already there", "0 copied, 2 already there"} {
		got := syncImages(t, "composefs:["+repo+"]", to, "--format=v2s2")
		got.requireSuccess(t)
		assert.Contains(t, got.summaryOf(), summary)
		assert.Equal(t, manifest.DockerV2Schema2MediaType, readImage(t, to+"/b:1").typ)
	}
	syncImages(t, "composefs:["+repo+"]", to, "--format=oci").requireSuccess(t)
	assert.Equal(t, imgspecv1.MediaTypeImageManifest, readImage(t, to+"/b:1").typ)
}

// A user's repository and store need no name, as with copy.
func TestRootlessSync(t *testing.T) {
	u := newUser(t)
	require.NoError(t, os.MkdirAll(filepath.Join(u.Home, ".var/lib"), 0o755))
	require.NoError(t, fixtures.UnpackTo(filepath.Join(u.Home, ".var/lib"), "sha512"))
	require.NoError(t, os.Rename(filepath.Join(u.Home, ".var/lib/sha512"), filepath.Join(u.Home, ".var/lib/composefs")))
	t.Cleanup(func() { u.StopPodman(t) })
	for _, summary := range []string{"2 images: 2 copied", "2 images: 0 copied, 2 already there"} {
		got := u.command(t, "sync", "composefs:localhost/[hm]*[oy]", "containers-storage:").run(t)
		got.requireSuccess(t)
		assert.Contains(t, got.summaryOf(), summary)
	}
	assert.Equal(t, "localhost/hello\nlocalhost/many\n", u.podman(t, "images", "--sort", "repository", "--format", "{{.Repository}}"))
}

func TestCompletionOfSync(t *testing.T) {
	t.Parallel()
	repo := fixtures.Unpack(t, "sha256")
	assert.Equal(t, []string{"composefs:"}, complete(t, "sync", ""))
	assert.Equal(t, []string{"composefs:[" + repo + "]quay.io/org/app:1.0"}, complete(t, "sync", "composefs:["+repo+"]q"))
	assert.Equal(t, []string{"containers-storage:", "dir:", "docker://", "oci:"}, complete(t, "sync", "composefs:", ""))
	assert.Empty(t, complete(t, "sync", "composefs:", "dir:x", ""))
}

// The progress of a sync is that of each image, also of those that are there already.
func TestProgressOfSync(t *testing.T) {
	t.Parallel()
	repo, s := newShared(t, "quay.io/org/a:1", "quay.io/org/b:1"), newStore(t, t.TempDir())
	for _, to := range []string{"oci:" + t.TempDir() + "/layout", s.place()} {
		for _, again := range []bool{false, true} {
			lines := progressOf(t, newCommand(t, "sync", "--insecure-policy", "composefs:["+repo+"]", to))
			last := map[string]progressBytes{}
			for _, l := range lines {
				last[l.ID] = l
			}
			require.Len(t, last, 2)
			for id, l := range last {
				assert.True(t, strings.HasSuffix(id, "quay.io/org/a:1") || strings.HasSuffix(id, "quay.io/org/b:1"), id)
				assert.Positive(t, l.Bytes, id)
				assert.Equal(t, again, l.BytesCached == l.Bytes, "%s: %d of %d", id, l.BytesCached, l.Bytes)
			}
		}
	}
}
