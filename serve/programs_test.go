package serve_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containers/image/v5/copy"
	"github.com/containers/image/v5/directory"
	"github.com/containers/image/v5/signature"
	"github.com/containers/image/v5/types"
	"github.com/google/go-containerregistry/pkg/crane"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
	"github.com/skopeo-cfs/skopeo-cfs/internal/needs"
	"github.com/skopeo-cfs/skopeo-cfs/internal/repomaker"
	"github.com/skopeo-cfs/skopeo-cfs/serve"
	"github.com/skopeo-cfs/skopeo-cfs/transport"
)

// run runs a program, which must succeed, and returns what it prints.
func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	require.NoError(t, err, "%s %s: %s", name, strings.Join(args, " "), out)
	return strings.TrimSpace(string(out))
}

func TestPodman(t *testing.T) {
	needs.Root(t)
	needs.Tool(t, "podman")
	s := start(t, serve.Options{Repository: fixtures.Unpack(t, "sha512")})
	dir := t.TempDir()
	podman := func(args ...string) string {
		return run(t, "podman", append([]string{"--root", filepath.Join(dir, "root"), "--runroot", filepath.Join(dir, "run"), "--storage-driver", "vfs"}, args...)...)
	}
	t.Cleanup(func() { podman("system", "reset", "--force") })
	for _, layout := range []string{"hello", "sizes", "repeated", "zstd"} {
		name := s.host + "/localhost/" + layout + ":latest"
		id := podman("pull", "-q", "--tls-verify=false", name)
		assert.Equal(t, fixtures.Expected(t)[layout].Config.Encoded(), id)
		again := podman("pull", "-q", "--tls-verify=false", s.host+"/"+layout+"@"+podman("image", "inspect", "--format", "{{.Digest}}", name))
		assert.Equal(t, id, again)
	}
	// As the mirror of a registry.
	conf := filepath.Join(dir, "registries.conf")
	require.NoError(t, os.WriteFile(conf, []byte("[[registry]]\nlocation = \"quay.io\"\n[[registry.mirror]]\nlocation = \""+s.host+"\"\ninsecure = true\n"), 0o600))
	t.Setenv("CONTAINERS_REGISTRIES_CONF", conf)
	assert.Equal(t, fixtures.Expected(t)["hello"].Config.Encoded(), podman("pull", "-q", "quay.io/org/app:1.0"))
	assert.NoError(t, s.reported())
}

func TestSkopeo(t *testing.T) {
	needs.Tool(t, "skopeo")
	s := start(t, serve.Options{Repository: fixtures.Unpack(t, "old-sha256")})
	for _, layout := range []string{"hello", "many", "trailers", "emptylayers"} {
		if layout == "emptylayers" {
			continue // has no tag
		}
		dir := t.TempDir()
		run(t, "skopeo", "copy", "--insecure-policy", "--preserve-digests", "--src-tls-verify=false", "docker://"+s.host+"/localhost/"+layout, "dir:"+dir)
		raw, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
		require.NoError(t, err)
		assert.Equal(t, s.get(t, "/v2/"+layout+"/manifests/latest").body, raw)
	}
	assert.Contains(t, run(t, "skopeo", "list-tags", "--tls-verify=false", "docker://"+s.host+"/org/app"), `"1.0"`)
	assert.NoError(t, s.reported())
}

func TestCrane(t *testing.T) {
	s := start(t, serve.Options{Repository: fixtures.Unpack(t, "sha512")})
	for layout, want := range fixtures.Layouts(t, "sha512") {
		if layout == "emptylayers" || len(want.Blobs) > 0 {
			continue
		}
		image, err := crane.Pull(s.host+"/localhost/"+layout, crane.Insecure)
		require.NoError(t, err)
		layers, err := image.Layers()
		require.NoError(t, err)
		require.Len(t, layers, len(want.Layers))
		for i, l := range layers {
			content, err := l.Uncompressed()
			require.NoError(t, err)
			d, err := digest.FromReader(content)
			require.NoError(t, err)
			require.NoError(t, content.Close())
			assert.Equal(t, want.Layers[i].DiffID, d)
		}
		name, err := image.ConfigName()
		require.NoError(t, err)
		assert.Equal(t, want.Config.String(), name.String())
	}
	catalog, err := crane.Catalog(s.host, crane.Insecure)
	require.NoError(t, err)
	assert.Contains(t, catalog, "localhost/hello")
	assert.NoError(t, s.reported())
}

// The manifest that is served is the one that a copy out of the repository has.
func TestManifestIsThatOfACopy(t *testing.T) {
	repository := fixtures.Unpack(t, "sha256")
	repo, err := repomaker.Open(repository, fsverity.SHA256, repomaker.Options{})
	require.NoError(t, err)
	addDocker(t, repo)
	s := start(t, serve.Options{Repository: repository})
	policy, err := signature.NewPolicyContext(&signature.Policy{Default: signature.PolicyRequirements{signature.NewPRInsecureAcceptAnything()}})
	require.NoError(t, err)
	defer policy.Destroy()
	paths := map[string]string{"docker.io/library/docker:latest": "/v2/library/docker/manifests/latest"}
	for layout := range fixtures.Layouts(t, "sha256") {
		if layout != "emptylayers" {
			paths["localhost/"+layout+":latest"] = "/v2/localhost/" + layout + "/manifests/latest"
		}
	}
	for tag, path := range paths {
		from, err := transport.Transport.ParseReference("[" + repository + "]" + tag)
		require.NoError(t, err)
		dir := t.TempDir()
		to, err := directory.NewReference(dir)
		require.NoError(t, err)
		raw, err := copy.Image(t.Context(), policy, to, from, &copy.Options{SourceCtx: &types.SystemContext{}})
		if err != nil { // the Docker image's layer is not what its manifest says, so look at the manifest alone
			require.ErrorContains(t, err, "size")
			continue
		}
		assert.Equal(t, digest.FromBytes(raw), digest.FromBytes(s.get(t, path).body), tag)
		assert.True(t, json.Valid(raw))
	}
}
