package keepannotations_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/containers/image/v5/copy"
	"github.com/containers/image/v5/docker/reference"
	"github.com/containers/image/v5/pkg/compression"
	"github.com/containers/image/v5/signature"
	"github.com/containers/image/v5/signature/sigstore"
	"github.com/containers/image/v5/transports/alltransports"
	"github.com/containers/image/v5/types"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/damaged"
	"github.com/skopeo-cfs/skopeo-cfs/internal/keepannotations"
	"github.com/skopeo-cfs/skopeo-cfs/internal/needs"
	"github.com/skopeo-cfs/skopeo-cfs/internal/repomaker"
	_ "github.com/skopeo-cfs/skopeo-cfs/transport"
)

// kept are the annotations of the images' layers that are to be kept.
var kept = []map[string]string{{"org.example.a": "1", "org.example.b": ""}, nil, {"org.example.a": "\u2603"}}

// newImage makes a repository with an image whose layers have the annotations, and,
// where they were compressed, one that speaks of the compressed blob.
func newImage(t testing.TB, listing repomaker.Listing) types.ImageReference {
	t.Helper()
	path := t.TempDir()
	damaged.Add(t, path, fsverity.SHA256, repomaker.Options{}, "hello", func(image *repomaker.Image) {
		require.Len(t, image.Layers, len(kept))
		image.Listing = listing
		for i := range image.Layers {
			image.Layers[i].Annotations = maps.Clone(kept[i])
		}
		if listing != repomaker.Uncompressed {
			image.Layers[0].Annotations["io.github.containers.zstd-chunked.manifest-checksum"] = "sha256:0"
		}
	})
	return parse(t, "composefs:["+path+"]hello")
}

func parse(t testing.TB, name string) types.ImageReference {
	t.Helper()
	ref, err := alltransports.ParseImageName(name)
	require.NoError(t, err)
	return ref
}

func acceptAll(t testing.TB) *signature.PolicyContext {
	t.Helper()
	policy, err := signature.NewPolicyContext(&signature.Policy{Default: []signature.PolicyRequirement{signature.NewPRInsecureAcceptAnything()}})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, policy.Destroy()) })
	return policy
}

// newSystem returns a context that nothing outside of the test has a part in.
func newSystem(t testing.TB) *types.SystemContext {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "default.yaml"), []byte("default-docker:\n  use-sigstore-attachments: true\n"), 0o644))
	return &types.SystemContext{
		BlobInfoCacheDir: t.TempDir(), BigFilesTemporaryDir: t.TempDir(), RegistriesDirPath: dir,
		SystemRegistriesConfPath: "/dev/null", SystemRegistriesConfDirPath: dir,
		DockerInsecureSkipTLSVerify: types.OptionalBoolTrue,
	}
}

// newRegistry starts a registry on loopback and returns where it is.
func newRegistry(t testing.TB) string {
	t.Helper()
	needs.Tool(t, "docker-registry")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	at := listener.Addr().String()
	require.NoError(t, listener.Close())
	dir := t.TempDir()
	config := filepath.Join(dir, "config.yml")
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, "version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s/data}}\nhttp: {addr: %q}\n", dir, at), 0o644))
	registry := exec.Command("docker-registry", "serve", config)
	require.NoError(t, registry.Start())
	t.Cleanup(func() {
		_ = registry.Process.Kill()
		_ = registry.Wait()
	})
	for start := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		conn, err := net.Dial("tcp", at)
		if err == nil {
			require.NoError(t, conn.Close())
			return at
		}
		require.Less(t, time.Since(start), time.Minute, "the registry does not answer: %v", err)
	}
}

// manifestAt returns the manifest at a destination.
func manifestAt(t testing.TB, ref types.ImageReference, sys *types.SystemContext) []byte {
	t.Helper()
	src, err := ref.NewImageSource(t.Context(), sys)
	require.NoError(t, err)
	defer src.Close()
	raw, _, err := src.GetManifest(t.Context(), nil)
	require.NoError(t, err)
	return raw
}

func annotationsIn(t testing.TB, raw []byte) (all []map[string]string) {
	t.Helper()
	var m imgspecv1.Manifest
	require.NoError(t, json.Unmarshal(raw, &m))
	for _, l := range m.Layers {
		if len(l.Annotations) == 0 {
			l.Annotations = nil
		}
		all = append(all, l.Annotations)
	}
	return all
}

// copyTo copies an image to where it keeps its annotations.
func copyTo(t testing.TB, dest, src types.ImageReference, options *copy.Options) ([]byte, error) {
	t.Helper()
	opened, err := src.NewImageSource(t.Context(), nil)
	require.NoError(t, err)
	defer opened.Close()
	annotations, err := keepannotations.Of(t.Context(), opened)
	require.NoError(t, err)
	assert.Equal(t, kept, annotations)
	return keepannotations.Image(t.Context(), acceptAll(t), dest, src, options, annotations)
}

// Wherever an image is copied to, and however often, its layers have their
// annotations there, and its digest is the one that is returned, each time the same.
func TestAnnotationsAreKept(t *testing.T) {
	registry := newRegistry(t)
	for listingName, listing := range map[string]repomaker.Listing{"gzip": repomaker.Gzip, "tars": repomaker.Uncompressed} {
		for formatName, format := range map[string]*compression.Algorithm{"default": nil, "zstd": &compression.Zstd, "zstd-chunked": &compression.ZstdChunked} {
			src := newImage(t, listing)
			dir := t.TempDir()
			for transport, to := range map[string]string{
				"oci":         "oci:" + dir + "/layout:x",
				"oci-archive": "oci-archive:" + dir + "/archive:x",
				"dir":         "dir:" + dir + "/dir",
				"compressed":  "dir:" + dir + "/compressed",
				"docker":      "docker://" + registry + "/" + listingName + "/" + formatName,
			} {
				t.Run(listingName+"/"+formatName+"/"+transport, func(t *testing.T) {
					sys := newSystem(t)
					sys.CompressionFormat, sys.DirForceCompress = format, transport == "compressed"
					var first []byte
					for range 2 {
						copied, err := copyTo(t, parse(t, to), src, &copy.Options{DestinationCtx: sys, SourceCtx: sys})
						require.NoError(t, err)
						assert.Equal(t, string(copied), string(manifestAt(t, parse(t, to), sys)))
						if first == nil {
							first = copied
						}
						assert.Equal(t, string(first), string(copied))
						for i, got := range annotationsIn(t, copied) {
							for key, value := range kept[i] {
								assert.Equal(t, value, got[key], "layer %d: %s", i, key)
							}
						}
					}
					if formatName != "zstd-chunked" {
						assert.Equal(t, kept, annotationsIn(t, first))
					}
				})
			}
		}
	}
}

// What is signed is the image with its annotations, as it is stored.
func TestSignedCopiesKeepAnnotations(t *testing.T) {
	to, sys, src := parse(t, "docker://"+newRegistry(t)+"/signed:1"), newSystem(t), newImage(t, repomaker.Gzip)
	keys, err := sigstore.GenerateKeyPair([]byte("secret"))
	require.NoError(t, err)
	dir := t.TempDir()
	private, public := filepath.Join(dir, "private"), filepath.Join(dir, "public")
	require.NoError(t, os.WriteFile(private, keys.PrivateKey, 0o600))
	require.NoError(t, os.WriteFile(public, keys.PublicKey, 0o644))
	requirement, err := signature.NewPRSigstoreSignedKeyPath(public, signature.NewPRMMatchRepoDigestOrExact())
	require.NoError(t, err)
	policy, err := signature.NewPolicyContext(&signature.Policy{Default: []signature.PolicyRequirement{requirement}})
	require.NoError(t, err)
	defer policy.Destroy()

	options := &copy.Options{
		DestinationCtx: sys, SourceCtx: sys,
		SignBySigstorePrivateKeyFile: private, SignSigstorePrivateKeyPassphrase: []byte("secret"),
	}
	for range 2 {
		copied, err := copyTo(t, to, src, options)
		require.NoError(t, err)
		assert.Equal(t, kept, annotationsIn(t, copied))
		assert.Equal(t, string(copied), string(manifestAt(t, to, sys)))
		pulled, err := copy.Image(t.Context(), policy, parse(t, "dir:"+dir+"/pulled"), to, &copy.Options{SourceCtx: sys, DestinationCtx: sys})
		require.NoError(t, err)
		assert.Equal(t, string(copied), string(pulled))
	}
	_, err = copyTo(t, parse(t, "docker://"+reference.Domain(to.DockerReference())+"/unsigned:1"), src, &copy.Options{DestinationCtx: sys, SourceCtx: sys})
	require.NoError(t, err)
	_, err = copy.Image(t.Context(), policy, parse(t, "dir:"+dir+"/refused"), parse(t, "docker://"+reference.Domain(to.DockerReference())+"/unsigned:1"), &copy.Options{SourceCtx: sys, DestinationCtx: sys})
	assert.Error(t, err, "the policy takes what is not signed")
}

// What can't be served is refused before anything is copied.
func TestUnsupportedOptions(t *testing.T) {
	src, sys, dir := newImage(t, repomaker.Gzip), newSystem(t), t.TempDir()
	now := time.Now()
	_, err := copyTo(t, parse(t, "oci-archive:"+dir+"/archive"), src, &copy.Options{DestinationCtx: sys, DestinationTimestamp: &now})
	assert.ErrorIs(t, err, keepannotations.ErrUnsupported)
	sys.DirForceCompress = true
	_, err = copyTo(t, parse(t, "dir:"+dir+"/dir"), src, &copy.Options{DestinationCtx: sys, SignBy: "key"})
	assert.ErrorIs(t, err, keepannotations.ErrUnsupported)
	names, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Empty(t, names)
}
