package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containers/image/v5/copy"
	"github.com/containers/image/v5/signature"
	"github.com/containers/image/v5/signature/sigstore"
	"github.com/containers/image/v5/types"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/internal/original"
)

// signed is an image that is signed in a registry, and what it is verified with.
type signed struct {
	original.Image
	at            string // the registry
	name          string // of the image there, org/os
	public        string // path of the key
	registriesDir string
}

// newSigned pushes an image to a registry and signs it there, with sigstore.
func newSigned(t testing.TB, at string) signed {
	t.Helper()
	dir := t.TempDir()
	s := signed{original.New(t, "hello"), at, "org/os", filepath.Join(dir, "public"), filepath.Join(dir, "registries.d")}
	s.Push(t, at, s.name, "1")
	keys, err := sigstore.GenerateKeyPair([]byte("secret"))
	require.NoError(t, err)
	private := filepath.Join(dir, "private")
	require.NoError(t, os.WriteFile(private, keys.PrivateKey, 0o600))
	require.NoError(t, os.WriteFile(s.public, keys.PublicKey, 0o644))
	require.NoError(t, os.Mkdir(s.registriesDir, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(s.registriesDir, "default.yaml"), []byte("default-docker:\n  use-sigstore-attachments: true\n"), 0o644))
	sys := &types.SystemContext{
		DockerInsecureSkipTLSVerify: types.OptionalBoolTrue, RegistriesDirPath: s.registriesDir, BlobInfoCacheDir: dir,
		SystemRegistriesConfPath: "/dev/null", SystemRegistriesConfDirPath: dir,
	}
	ref, err := parseImageName(t.Context(), "docker://"+at+"/"+s.name+":1")
	require.NoError(t, err)
	policy, err := signature.NewPolicyContext(&signature.Policy{Default: []signature.PolicyRequirement{signature.NewPRInsecureAcceptAnything()}})
	require.NoError(t, err)
	defer policy.Destroy()
	_, err = copy.Image(t.Context(), policy, ref, ref, &copy.Options{
		SourceCtx: sys, DestinationCtx: sys, PreserveDigests: true,
		SignBySigstorePrivateKeyFile: private, SignSigstorePrivateKeyPassphrase: []byte("secret"),
	})
	require.NoError(t, err)
	return s
}

// policy writes a policy that demands a signature with the key on everything.
func (s signed) policy(t testing.TB) string {
	t.Helper()
	data, err := json.Marshal(map[string]any{"default": []any{map[string]any{
		"type": "sigstoreSigned", "keyPath": s.public,
		"signedIdentity": map[string]string{"type": "exactRepository", "dockerRepository": s.at + "/" + s.name},
	}}})
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "policy.json")
	require.NoError(t, os.WriteFile(path, data, 0o644))
	return path
}

// verify returns an error where the policy does not let the image with a name be
// copied. Debian's own programs have sigstore switched off.
func (s signed) verify(t testing.TB, name string) error {
	t.Helper()
	ref, err := parseImageName(t.Context(), name)
	require.NoError(t, err)
	to, err := parseImageName(t.Context(), "dir:"+filepath.Join(t.TempDir(), "verified"))
	require.NoError(t, err)
	parsed, err := signature.NewPolicyFromFile(s.policy(t))
	require.NoError(t, err)
	policy, err := signature.NewPolicyContext(parsed)
	require.NoError(t, err)
	defer policy.Destroy()
	dir := t.TempDir()
	sys := &types.SystemContext{
		DockerInsecureSkipTLSVerify: types.OptionalBoolTrue, RegistriesDirPath: s.registriesDir, BlobInfoCacheDir: dir,
		SystemRegistriesConfPath: "/dev/null", SystemRegistriesConfDirPath: dir,
	}
	_, err = copy.Image(t.Context(), policy, to, ref, &copy.Options{SourceCtx: sys, DestinationCtx: sys, RemoveSignatures: true})
	return err
}

// signatureTag is the tag of the image's signatures.
func (s signed) signatureTag() string { return "sha256-" + s.Digest.Encoded() + ".sig" }

func get(t testing.TB, url string) []byte {
	t.Helper()
	response, err := http.Get(url)
	require.NoError(t, err)
	defer response.Body.Close()
	require.Equal(t, http.StatusOK, response.StatusCode, url)
	var body bytes.Buffer
	_, err = body.ReadFrom(response.Body)
	require.NoError(t, err)
	return body.Bytes()
}

// refer pushes an SBOM that refers to the image, and returns its digest.
func (s signed) refer(t testing.TB) digest.Digest {
	t.Helper()
	sbom := []byte(`{"spdxVersion": "SPDX-2.3"}`)
	original.PushBlob(t, s.at, s.name, digest.FromBytes(sbom), sbom)
	original.PushBlob(t, s.at, s.name, digest.FromString("{}"), []byte("{}"))
	subject := imgspecv1.Descriptor{MediaType: imgspecv1.MediaTypeImageManifest, Digest: s.Digest, Size: int64(len(s.Manifest))}
	raw, err := json.Marshal(imgspecv1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: imgspecv1.MediaTypeImageManifest, ArtifactType: "application/spdx+json",
		Config:  imgspecv1.Descriptor{MediaType: imgspecv1.MediaTypeEmptyJSON, Digest: digest.FromString("{}"), Size: 2},
		Layers:  []imgspecv1.Descriptor{{MediaType: "application/spdx+json", Digest: digest.FromBytes(sbom), Size: int64(len(sbom))}},
		Subject: &subject,
	})
	require.NoError(t, err)
	d := digest.FromBytes(raw)
	original.PushManifest(t, s.at, s.name, d.String(), imgspecv1.MediaTypeImageManifest, raw)
	// The registry has no interface for referrers, so they are listed under a tag.
	index, err := json.Marshal(imgspecv1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: imgspecv1.MediaTypeImageIndex, Manifests: []imgspecv1.Descriptor{
		{MediaType: imgspecv1.MediaTypeImageManifest, ArtifactType: "application/spdx+json", Digest: d, Size: int64(len(raw))},
	}})
	require.NoError(t, err)
	original.PushManifest(t, s.at, s.name, "sha256-"+s.Digest.Encoded(), imgspecv1.MediaTypeImageIndex, index)
	return d
}

// A signed image goes from a host to a registry and into containers-storage with its
// signature, which verifies there; so does what refers to it. A policy
// that demands the signature accepts the image on the host.
func TestSignaturesTravel(t *testing.T) {
	s, to := newSigned(t, newRegistry(t, "")), newRegistry(t, "")
	sbom := s.refer(t)
	policy := s.policy(t)
	for way, how := range original.Ways {
		repo := filepath.Join(t.TempDir(), "repository")
		s.AddTo(t, repo, "localhost/os:latest", how)
		from := "composefs:[" + repo + "]@" + s.ID.String()
		origin := []string{"--policy", policy, "--origin", s.at + "/" + s.name + ":1", "--src-tls-verify=false", "--dest-tls-verify=false"}

		name := to + "/copy/" + way
		got := runCommand(t, append([]string{"copy", "--fetch-missing", from, "docker://" + name + ":1"}, origin...)...)
		require.Zero(t, got.code, got.stderr)
		assert.Contains(t, got.stderr, "Copied: 1 signature, and 1 artifact that", way)
		require.NoError(t, s.verify(t, "docker://"+name+":1"))
		assert.NotEmpty(t, get(t, fmt.Sprintf("http://%s/v2/copy/%s/manifests/%s", to, way, sbom)))
		assert.Contains(t, string(get(t, fmt.Sprintf("http://%s/v2/copy/%s/manifests/sha256-%s", to, way, s.Digest.Encoded()))), sbom.String())
		again := runCommand(t, append([]string{"copy", from, "docker://" + name + ":1"}, origin...)...)
		require.Zero(t, again.code, again.stderr)
		assert.NotContains(t, again.stderr, "Copied:", "they were there")

		got = runCommand(t, append([]string{"copy", "--fetch-missing", "--signatures=false", from, "docker://" + to + "/unsigned/" + way + ":1"}, origin...)...)
		require.Zero(t, got.code, got.stderr)
		response, err := http.Get("http://" + to + "/v2/unsigned/" + way + "/manifests/" + s.signatureTag())
		require.NoError(t, err)
		response.Body.Close()
		assert.Equal(t, http.StatusNotFound, response.StatusCode)
		assert.Error(t, s.verify(t, "docker://"+to+"/unsigned/"+way+":1"))

		got = runCommand(t, append([]string{"copy", from, "oci:" + filepath.Join(t.TempDir(), "layout")}, origin...)...)
		require.Zero(t, got.code, got.stderr)
		assert.Contains(t, got.stderr, "Not copied: 1 signature, because manifest "+s.Digest.String())
	}
}

func TestSignaturesIntoStorage(t *testing.T) {
	needRoot(t)
	s := newSigned(t, newRegistry(t, ""))
	policy := s.policy(t)
	repo := filepath.Join(t.TempDir(), "repository")
	s.AddTo(t, repo, "localhost/os:latest", original.Raw)
	from := "composefs:[" + repo + "]@" + s.ID.String()
	store := newStore(t, t.TempDir())
	flags := []string{"--policy", policy, "--origin", s.at + "/" + s.name + ":1", "--src-tls-verify=false"}
	for range 2 {
		got := runCommand(t, append([]string{"copy", from, store.image("os")}, flags...)...)
		require.Zero(t, got.code, got.stderr)
		require.NoError(t, s.verify(t, store.image("os")))
	}
	// From one store into another, without the registry.
	other := newStore(t, t.TempDir())
	got := newCommand(t, "copy", "--insecure-policy", "--identity", "stored", from, other.image("os")).run(t)
	require.Zero(t, got.code, got.stderr)
	assert.Error(t, s.verify(t, other.image("os")), "it is not signed")

	// Without the origin, and without signatures, the policy refuses the image.
	got = runCommand(t, "copy", "--policy", policy, "--identity", "local", from, newStore(t, t.TempDir()).image("os"))
	assert.Equal(t, 1, got.code)
	assert.Contains(t, got.stderr, "signature")
}

// An altered signature, and one of another image, is refused.
func TestAlteredSignatures(t *testing.T) {
	s := newSigned(t, newRegistry(t, ""))
	policy := s.policy(t)
	var m imgspecv1.Manifest
	require.NoError(t, json.Unmarshal(get(t, "http://"+s.at+"/v2/"+s.name+"/manifests/"+s.signatureTag()), &m))
	payload := get(t, "http://"+s.at+"/v2/"+s.name+"/blobs/"+m.Layers[0].Digest.String())
	repo := filepath.Join(t.TempDir(), "repository")
	s.AddTo(t, repo, "localhost/os:latest", original.Collected)
	try := func(flags ...string) outcome {
		return runCommand(t, append([]string{"copy", "--policy", policy, "--origin", s.at + "/" + s.name + ":1", "--src-tls-verify=false",
			"composefs:[" + repo + "]@" + s.ID.String(), "oci:" + filepath.Join(t.TempDir(), "layout")}, flags...)...)
	}
	require.Zero(t, try().code)
	for name, alter := range map[string]func(m *imgspecv1.Manifest){
		"payload": func(m *imgspecv1.Manifest) {
			altered := bytes.Replace(payload, []byte(s.Digest.Encoded()), []byte(strings.Repeat("0", 64)), 1)
			original.PushBlob(t, s.at, s.name, digest.FromBytes(altered), altered)
			m.Layers[0].Digest = digest.FromBytes(altered)
		},
		"signature": func(m *imgspecv1.Manifest) {
			m.Layers[0].Annotations = map[string]string{"dev.cosignproject.cosign/signature": "AAAA"}
		},
		"none":    func(m *imgspecv1.Manifest) { m.Layers = nil },
		"no blob": func(m *imgspecv1.Manifest) { m.Layers[0].Digest = digest.FromString("none") },
		"too many": func(m *imgspecv1.Manifest) {
			for range 1000 {
				m.Layers = append(m.Layers, m.Layers[0])
			}
		},
		"size": func(m *imgspecv1.Manifest) { m.Layers[0].Size = 1 << 40 },
	} {
		altered := m
		altered.Layers = append([]imgspecv1.Descriptor{}, m.Layers...)
		alter(&altered)
		raw, err := json.Marshal(altered)
		require.NoError(t, err)
		original.PushManifest(t, s.at, s.name, s.signatureTag(), imgspecv1.MediaTypeImageManifest, raw)
		got := try()
		assert.Equal(t, 1, got.code, name)
		assert.Contains(t, got.stderr, "ource image rejected", name)
	}
}

// OpenPGP signatures are found where registries.d says, and are in the store afterwards,
// where Debian's skopeo verifies them.
func TestOpenPGPSignatures(t *testing.T) {
	needRoot(t)
	needTool(t, "gpg", "skopeo")
	o, at, home := original.New(t, "hello"), newRegistry(t, ""), t.TempDir()
	o.Push(t, at, "org/os", "1")
	gpg := func(args ...string) string {
		return tool(t, "gpg", append([]string{"--homedir", home, "--batch", "--quiet"}, args...)...)
	}
	t.Cleanup(func() { _ = exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run() })
	gpg("--passphrase", "", "--quick-generate-key", "os@example.com", "rsa2048", "sign", "never")
	key := filepath.Join(home, "public")
	gpg("--output", key, "--export", "os@example.com")
	payload := filepath.Join(home, "payload")
	require.NoError(t, os.WriteFile(payload, fmt.Appendf(nil, `{"critical": {"type": "atomic container signature", "image": {"docker-manifest-digest": %q}, "identity": {"docker-reference": %q}}, "optional": {}}`, o.Digest, at+"/org/os:1"), 0o644))
	lookaside := filepath.Join(home, "lookaside/org/os@sha256="+o.Digest.Encoded())
	require.NoError(t, os.MkdirAll(lookaside, 0o755))
	gpg("--output", filepath.Join(lookaside, "signature-1"), "--sign", payload)
	config := filepath.Join(home, ".config/containers/registries.d")
	require.NoError(t, os.MkdirAll(config, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(config, "x.yaml"), fmt.Appendf(nil, "docker:\n  %s:\n    lookaside: file://%s/lookaside\n", at, home), 0o644))
	policy := filepath.Join(home, "policy.json")
	require.NoError(t, os.WriteFile(policy, fmt.Appendf(nil, `{"default": [{"type": "signedBy", "keyType": "GPGKeys", "keyPath": %q, "signedIdentity": {"type": "exactRepository", "dockerRepository": %q}}]}`, key, at+"/org/os"), 0o644))

	repo := filepath.Join(t.TempDir(), "repository")
	o.AddTo(t, repo, "localhost/os:latest", original.Raw)
	s := newStore(t, t.TempDir())
	c := newCommand(t, "copy", "--policy", policy, "--origin", at+"/org/os:1", "--src-tls-verify=false", "composefs:["+repo+"]os", s.image("os"))
	c.Env = append(c.Env, "HOME="+home)
	got := c.run(t)
	require.Zero(t, got.code, got.stderr)
	assert.Contains(t, got.stderr, "Copied: 1 signature\n")
	tool(t, "skopeo", "--policy", policy, "copy", "--remove-signatures", s.image("os"), "dir:"+filepath.Join(t.TempDir(), "x"))
	got = runCommand(t, "copy", "--policy", policy, "--identity", "stored", "composefs:["+repo+"]os", s.image("other"))
	assert.Equal(t, 1, got.code, "it is not signed")
}
