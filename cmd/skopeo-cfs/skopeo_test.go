package main

import (
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
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

	"github.com/containers/image/v5/signature/sigstore"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
)

// The same command line through skopeo and skopeo-cfs comes to the same exit code and
// the same manifest.
func TestCopyAsSkopeo(t *testing.T) {
	t.Parallel()
	needTool(t, "skopeo")
	repo, dir := fixtures.Unpack(t, "sha256"), t.TempDir()
	layout := "oci:" + filepath.Join(dir, "layout") + ":raw"
	copyImage(t, "composefs:["+repo+"]raw", layout, "--dest-oci-accept-uncompressed-layers").requireSuccess(t)
	registry := newRegistry(t, "")
	for name, args := range map[string][]string{
		"dir":                              {layout, "dir:DIR/image"},
		"oci":                              {layout, "oci:DIR/image:x"},
		"oci, uncompressed":                {layout, "oci:DIR/image:x", "--dest-oci-accept-uncompressed-layers"},
		"oci-archive":                      {layout, "oci-archive:DIR/image:x", "--dest-oci-accept-uncompressed-layers"},
		"docker-archive":                   {layout, "docker-archive:DIR/image:localhost/x:y", "--additional-tag", "localhost/x:z"},
		"shared blobs":                     {layout, "oci:DIR/image:x", "--dest-shared-blob-dir", "DIR/blobs", "--dest-oci-accept-uncompressed-layers"},
		"docker":                           {layout, "docker://" + registry + "/image:TOOL", "--dest-tls-verify=false"},
		"v2s2":                             {layout, "dir:DIR/image", "--format", "v2s2"},
		"the same digest":                  {layout, "dir:DIR/image", "--preserve-digests"},
		"all of one":                       {layout, "dir:DIR/image", "--all"},
		"system":                           {layout, "dir:DIR/image", "--multi-arch", "system"},
		"an unknown selection":             {layout, "dir:DIR/image", "--multi-arch", "some"},
		"an unknown format":                {layout, "dir:DIR/image", "--format", "v3"},
		"an unknown compression":           {layout, "dir:DIR/image", "--dest-compress-format", "rar"},
		"an unknown flag":                  {layout, "dir:DIR/image", "--no-such-flag"},
		"compressed and not":               {layout, "dir:DIR/image", "--dest-compress", "--dest-decompress"},
		"decompressed":                     {layout, "dir:DIR/image", "--dest-decompress"},
		"a user without a password":        {layout, "docker://" + registry + "/image:TOOL", "--dest-tls-verify=false", "--dest-username", "x"},
		"credentials twice":                {layout, "docker://" + registry + "/image:TOOL", "--dest-tls-verify=false", "--dest-creds", "x:y", "--dest-no-creds"},
		"HTTPS of a registry without":      {layout, "docker://" + registry + "/image:TOOL"},
		"another platform of no list":      {layout, "dir:DIR/image", "--override-arch", "s390x"},
		"a source that is not there":       {"dir:DIR/missing", "dir:DIR/image"},
		"an unknown transport":             {"nosuch:x", "dir:DIR/image"},
		"a registry's tag that is missing": {"docker://" + registry + "/image:missing", "dir:DIR/image", "--src-tls-verify=false"},
	} {
		t.Run(name, func(t *testing.T) {
			got := map[string]string{}
			codes := map[string]bool{}
			for _, program := range []string{"skopeo", "skopeo-cfs"} {
				at := t.TempDir()
				digestFile := filepath.Join(at, "digest")
				words := []string{"copy", "--insecure-policy", "--digestfile", digestFile}
				for _, arg := range args {
					words = append(words, strings.NewReplacer("DIR", at, "TOOL", program).Replace(arg))
				}
				if program == "skopeo" {
					codes[program] = exec.Command("skopeo", words...).Run() == nil
				} else {
					outcome := runCommand(t, words...)
					codes[program] = outcome.code == 0
					if outcome.code != 0 {
						outcome.assertFailure(t)
					}
				}
				written, _ := os.ReadFile(digestFile) // none where the copy has failed
				got[program] = string(written)
			}
			assert.Equal(t, codes["skopeo"], codes["skopeo-cfs"], "which of them succeeds")
			assert.Equal(t, got["skopeo"], got["skopeo-cfs"])
		})
	}
}

// Flags that contradict each other, or can't be, are refused before anything is done,
// by name.
func TestFlagsThatAreRefused(t *testing.T) {
	t.Parallel()
	repo := fixtures.Unpack(t, "sha256")
	for flags, want := range map[string]string{
		"--src-creds=:x":                              "--src-creds",
		"--dest-username=x":                           "--dest-username and --dest-password",
		"--dest-creds=x:y --dest-registry-token=z":    "--dest-registry-token",
		"--all --multi-arch=all":                      "--all and --multi-arch",
		"--multi-arch=x":                              "must be system, all or index-only",
		"--dest-compress-format=x":                    "must be gzip, zstd or zstd:chunked",
		"--dest-force-compress-format":                "needs --dest-compress-format",
		"--dest-compress --dest-decompress":           "--dest-compress and --dest-decompress",
		"--additional-tag=A":                          "--additional-tag",
		"--sign-identity=localhost/x":                 "--sign-by-sigstore",
		"--sign-by-sigstore=/nonexistent":             "--sign-by-sigstore",
		"--sign-by-sigstore-private-key=/nonexistent": "--sign-passphrase-file",
		"--format=x":                                  "--format",
		"--sign-by-sigstore-private-key=/nonexistent --sign-passphrase-file=/nonexistent": "--sign-passphrase-file",
		"--command-timeout=x": "--command-timeout",
		"--retry-times=x":     "--retry-times",
	} {
		t.Run(flags, func(t *testing.T) {
			dir := t.TempDir()
			copyImage(t, "composefs:["+repo+"]hello", "dir:"+dir+"/image", strings.Fields(flags)...).assertFailure(t, want)
			assert.Empty(t, namesIn(t, dir))
		})
	}
}

// tlsRegistry is a registry on loopback over HTTPS, with basic authentication.
type tlsRegistry struct {
	host  string
	certs string // a directory with its certificate
}

func newTLSRegistry(t *testing.T, before func(w http.ResponseWriter, r *http.Request) bool) tlsRegistry {
	t.Helper()
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, ok := r.BasicAuth(); !ok || user != "user" || password != "secret" {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if before == nil || before(w, r) {
			inner.ServeHTTP(w, r)
		}
	}))
	server.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	certs := t.TempDir()
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	require.NoError(t, os.WriteFile(filepath.Join(certs, "ca.crt"), certificate, 0o644))
	return tlsRegistry{strings.TrimPrefix(server.URL, "https://"), certs}
}

// A registry with a certificate of its own and passwords is reached by each way of
// giving both, and not without.
func TestCredentialsAndCertificates(t *testing.T) {
	t.Parallel()
	repo := fixtures.Unpack(t, "sha256")
	r := newTLSRegistry(t, nil)
	auth := filepath.Join(t.TempDir(), "auth.json")
	require.NoError(t, os.WriteFile(auth, []byte(`{"auths":{"`+r.host+`":{"auth":"dXNlcjpzZWNyZXQ="}}}`), 0o600))
	certs := "--dest-cert-dir=" + r.certs
	for name, c := range map[string]struct {
		flags []string
		works bool
	}{
		"creds":                     {[]string{certs, "--dest-creds=user:secret"}, true},
		"username and password":     {[]string{certs, "--dest-username=user", "--dest-password=secret"}, true},
		"authfile of the end":       {[]string{certs, "--dest-authfile=" + auth}, true},
		"authfile":                  {[]string{certs, "--authfile=" + auth}, true},
		"authfile of the other end": {[]string{certs, "--src-authfile=" + auth}, false},
		"no verification":           {[]string{"--dest-tls-verify=false", "--dest-creds=user:secret"}, true},
		"no certificate":            {[]string{"--dest-creds=user:secret"}, false},
		"the other's certificate":   {[]string{"--src-cert-dir=" + r.certs, "--dest-creds=user:secret"}, false},
		"wrong password":            {[]string{certs, "--dest-creds=user:public"}, false},
		"anonymous":                 {[]string{certs, "--dest-no-creds", "--authfile=" + auth}, false},
		"a token":                   {[]string{certs, "--dest-registry-token=secret"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			got := copyImage(t, "composefs:["+repo+"]hello", "docker://"+r.host+"/hello:x", c.flags...)
			if !c.works {
				got.assertFailure(t, r.host)
				return
			}
			got.requireSuccess(t)
			inspected := runCommand(t, "inspect", "--cert-dir", r.certs, "--creds", "user:secret", "docker://"+r.host+"/hello:x")
			inspected.requireSuccess(t)
			assert.Contains(t, inspected.stdout, "org.example.fixture")
		})
	}
}

// What a registry refuses for the moment, or drops, is tried again as often as is
// said, and nothing else is.
func TestRetries(t *testing.T) {
	t.Parallel()
	repo := fixtures.Unpack(t, "sha256")
	failures := map[string]func(w http.ResponseWriter){
		"unavailable": func(w http.ResponseWriter) { w.WriteHeader(http.StatusServiceUnavailable) },
		"dropped":     func(http.ResponseWriter) { panic(http.ErrAbortHandler) },
	}
	for name, fail := range failures {
		for times, works := range map[string]bool{"0": false, "1": false, "2": true, "3": true} {
			t.Run(name+", "+times, func(t *testing.T) {
				t.Parallel()
				var manifests atomic.Int32
				r := newTLSRegistry(t, func(w http.ResponseWriter, r *http.Request) bool {
					if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/") && manifests.Add(1) <= 2 {
						fail(w)
						return false
					}
					return true
				})
				got := copyImage(t, "composefs:["+repo+"]hello", "docker://"+r.host+"/hello:x", "--dest-cert-dir="+r.certs,
					"--dest-creds=user:secret", "--retry-times="+times, "--retry-delay=1ms")
				assert.Equal(t, works, got.code == 0, got.stderr)
				assert.LessOrEqual(t, int(manifests.Load()), 3)
			})
		}
	}
	got := copyImage(t, "composefs:["+repo+"]missing", "dir:"+t.TempDir()+"/x", "--retry-times=5", "--retry-delay=1h")
	got.assertFailure(t, "missing")
}

// A command that takes longer than it may ends, and says why.
func TestCommandTimeout(t *testing.T) {
	t.Parallel()
	repo := fixtures.Unpack(t, "sha256")
	stuck := make(chan struct{})
	r := newTLSRegistry(t, func(http.ResponseWriter, *http.Request) bool { <-stuck; return false })
	defer close(stuck)
	copyImage(t, "composefs:["+repo+"]hello", "docker://"+r.host+"/hello:x", "--dest-cert-dir="+r.certs,
		"--dest-creds=user:secret", "--command-timeout=300ms").assertFailure(t, "--command-timeout of 300ms")
}

// signingKeys makes a pair of sigstore keys and returns a directory with private.key,
// public.key and the file "passphrase".
func signingKeys(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	keys, err := sigstore.GenerateKeyPair([]byte("open sesame"))
	require.NoError(t, err)
	for name, data := range map[string][]byte{"private.key": keys.PrivateKey, "public.key": keys.PublicKey, "passphrase": []byte("open sesame\n")} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
	}
	return dir
}

// signaturePolicy writes a policy that demands a signature by a key on images of a
// registry, and a registries.d that has sigstore attachments there.
func signaturePolicy(t *testing.T, host, key string) (policy, registriesDir string) {
	t.Helper()
	registriesDir = t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(registriesDir, "default.yaml"), []byte("default-docker:\n  use-sigstore-attachments: true\n"), 0o644))
	text, err := json.Marshal(map[string]any{
		"default": []any{map[string]any{"type": "insecureAcceptAnything"}},
		"transports": map[string]any{"docker": map[string]any{host: []any{map[string]any{
			"type": "sigstoreSigned", "keyPath": key, "signedIdentity": map[string]any{"type": "matchRepository"},
		}}}},
	})
	require.NoError(t, err)
	policy = filepath.Join(t.TempDir(), "policy.json")
	require.NoError(t, os.WriteFile(policy, text, 0o644))
	return policy, registriesDir
}

// What is signed by a key, directly or as a parameter file says, satisfies a policy
// that demands it, and what is not signed, or is by another key, does not.
func TestSigning(t *testing.T) {
	t.Parallel()
	repo, keys, others := fixtures.Unpack(t, "sha256"), signingKeys(t), signingKeys(t)
	params := filepath.Join(keys, "params.yaml")
	require.NoError(t, os.WriteFile(params, []byte("privateKeyFile: "+keys+"/private.key\nprivateKeyPassphraseFile: "+keys+"/passphrase\n"), 0o600))
	r := newTLSRegistry(t, nil)
	policy, registriesDir := signaturePolicy(t, r.host, filepath.Join(keys, "public.key"))
	for name, c := range map[string]struct {
		flags   []string
		allowed bool
	}{
		"by-key":     {[]string{"--sign-by-sigstore-private-key=" + keys + "/private.key", "--sign-passphrase-file=" + keys + "/passphrase"}, true},
		"by-params":  {[]string{"--sign-by-sigstore=" + params}, true},
		"by-another": {[]string{"--sign-by-sigstore-private-key=" + others + "/private.key", "--sign-passphrase-file=" + others + "/passphrase"}, false},
		"not":        {nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			image := "docker://" + r.host + "/" + name + ":x"
			copyImage(t, "composefs:["+repo+"]hello", image, append(c.flags, "--registries.d="+registriesDir, "--dest-cert-dir="+r.certs, "--dest-creds=user:secret")...).requireSuccess(t)
			got := runCommand(t, "copy", "--policy", policy, "--registries.d", registriesDir, "--src-cert-dir", r.certs, "--src-creds", "user:secret", "--remove-signatures",
				image, "dir:"+t.TempDir()+"/image")
			if c.allowed {
				got.requireSuccess(t)
			} else {
				got.assertFailure(t, "ource image rejected")
			}
		})
	}
}
