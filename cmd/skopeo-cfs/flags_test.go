package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/containers/image/v5/manifest"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
)

func TestPreserveDigests(t *testing.T) {
	t.Parallel()
	repo, dir := fixtures.Unpack(t, "sha512"), t.TempDir()
	for _, layout := range []string{"raw", "sbom"} {
		want := fixtures.Expected(t)[layout]
		to := "dir:" + filepath.Join(dir, layout)
		copyImage(t, nameOf(repo, layout, want), to, "--preserve-digests").requireSuccess(t)
		assert.Equal(t, want.Manifest, readImage(t, to).manifest)
	}
	for name, test := range map[string]struct {
		to    string
		flags []string
	}{
		"asked for":            {"dir:" + filepath.Join(dir, "none"), []string{"--preserve-digests"}},
		"by the name's digest": {"docker://" + newRegistry(t, "") + "/hello@" + helloManifest, []string{"--dest-tls-verify=false"}},
	} {
		t.Run(name, func(t *testing.T) {
			copyImage(t, "composefs:["+repo+"]hello", test.to, test.flags...).
				assertFailure(t, "the manifest's digest can't be kept", "a composefs repository has only the uncompressed layers")
		})
	}
	assert.NoDirExists(t, filepath.Join(dir, "none"))
	t.Run("containers-storage", func(t *testing.T) {
		s, want := newStore(t, t.TempDir()), fixtures.Expected(t)["raw"]
		copyImage(t, "composefs:["+repo+"]raw", s.image("raw"), "--preserve-digests").requireSuccess(t)
		image := readImage(t, s.image("raw"))
		image.assertIs(t, want)
		assert.Equal(t, want.Manifest, image.manifest)
	})
}

func TestFormatIsConverted(t *testing.T) {
	t.Parallel()
	repo := fixtures.Unpack(t, "sha256")
	for _, layout := range []string{"hello", "zstd", "raw"} {
		for format, typ := range map[string]string{"oci": imgspecv1.MediaTypeImageManifest, "v2s2": manifest.DockerV2Schema2MediaType} {
			t.Run(layout+" to "+format, func(t *testing.T) {
				to := "dir:" + filepath.Join(t.TempDir(), "image")
				copyImage(t, "composefs:["+repo+"]"+layout, to, "--format", format).requireSuccess(t)
				image, want := readImage(t, to), fixtures.Expected(t)[layout]
				assert.Equal(t, typ, image.typ)
				want.Config = image.config // Docker's has what Docker knows of
				image.assertIs(t, want)
			})
		}
	}
	copyImage(t, "composefs:["+repo+"]hello", "dir:"+t.TempDir(), "--format", "v3").assertFailure(t, "--format", `"v3"`, "oci, v2s1 or v2s2")
}

func TestDigestFile(t *testing.T) {
	repo, dir := fixtures.Unpack(t, "sha256"), t.TempDir()
	to, file := "dir:"+filepath.Join(dir, "image"), filepath.Join(dir, "digest")
	copyImage(t, "composefs:["+repo+"]hello", to, "--digestfile", file).requireSuccess(t)
	written, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, readImage(t, to).manifest.String(), string(written))
	copyImage(t, "composefs:["+repo+"]hello", to, "--digestfile", dir).assertFailure(t, "writing the digest", dir)
}

func TestQuiet(t *testing.T) {
	repo := fixtures.Unpack(t, "sha256")
	for flag, quiet := range map[string]bool{"--quiet": true, "-q": true, "--quiet=false": false} {
		got := copyImage(t, "composefs:["+repo+"]hello", "dir:"+t.TempDir(), flag)
		got.requireSuccess(t)
		assert.Equal(t, quiet, got.stdout == "", got.stdout)
	}
}

func TestDebugSaysWhatIsBeingDone(t *testing.T) {
	repo := fixtures.Unpack(t, "sha256")
	got := runCommand(t, "copy", "--debug", "--insecure-policy", "composefs:["+repo+"]hello", "dir:"+t.TempDir())
	assert.Zero(t, got.code)
	assert.Contains(t, got.stderr, "level=debug")
}

func TestTemporaryDirectoryMustExist(t *testing.T) {
	repo, none := fixtures.Unpack(t, "sha256"), filepath.Join(t.TempDir(), "none")
	c := newCommand(t, "copy", "--insecure-policy", "composefs:["+repo+"]hello", "oci-archive:"+filepath.Join(t.TempDir(), "x.tar"))
	c.Args = append(c.Args, "--tmpdir", none)
	c.run(t).assertFailure(t, none, "no such file or directory")
}

func TestRegistryWithAPassword(t *testing.T) {
	t.Parallel()
	repo, registry := fixtures.Unpack(t, "sha256"), newRegistry(t, "secret")
	from, to := "composefs:["+repo+"]hello", "docker://"+registry+"/hello"
	auth := filepath.Join(t.TempDir(), "auth.json")
	data, err := json.Marshal(map[string]any{"auths": map[string]any{
		registry: map[string]string{"auth": base64.StdEncoding.EncodeToString([]byte("user:secret"))},
	}})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(auth, data, 0o600))

	copyImage(t, from, to, "--dest-tls-verify=false", "--authfile", auth).requireSuccess(t)
	copyImage(t, from, to, "--dest-tls-verify=false", "--dest-creds", "user:secret").requireSuccess(t)
	copyImage(t, from, to, "--dest-tls-verify=false", "--dest-creds", "user:wrong").assertFailure(t, "copying ")
	copyImage(t, from, to, "--dest-tls-verify=false").assertFailure(t, "copying ")
	copyImage(t, from, to, "--dest-tls-verify=false", "--dest-creds", ":secret").assertFailure(t, "--dest-creds", "no user name")

	back := "dir:" + filepath.Join(t.TempDir(), "image")
	copyImage(t, to, back, "--src-tls-verify=false", "--src-creds", "user:secret").requireSuccess(t)
	readImage(t, back).assertIs(t, fixtures.Expected(t)["hello"])
	got := runCommand(t, "inspect", "--tls-verify=false", "--creds", "user:secret", to)
	got.requireSuccess(t)
	assert.Contains(t, got.stdout, fmt.Sprintf("%q: %q", "org.example.fixture", "hello"))
}

func TestUnencryptedRegistryNeedsTheFlag(t *testing.T) {
	repo := fixtures.Unpack(t, "sha256")
	copyImage(t, "composefs:["+repo+"]hello", "docker://"+newRegistry(t, "")+"/hello").assertFailure(t, "HTTP")
}

func TestCommandLinesThatAreWrong(t *testing.T) {
	for name, test := range map[string]struct {
		args []string
		text string
	}{
		"no destination":     {[]string{"copy", "composefs:x"}, "accepts 2 arg(s), received 1"},
		"unknown command":    {[]string{"cpoy"}, `unknown command "cpoy"`},
		"unknown flag":       {[]string{"copy", "--all-of-it", "composefs:x", "dir:y"}, "unknown flag: --all-of-it"},
		"no transport":       {[]string{"copy", "hello", "dir:y"}, `image name "hello"`},
		"unknown transport":  {[]string{"copy", "composefs:x", "floppy:y"}, "floppy"},
		"to a repository":    {[]string{"copy", "--insecure-policy", "dir:/", "composefs:y"}, "read-only"},
		"list of two":        {[]string{"list", "a", "b"}, "accepts at most 1 arg(s)"},
		"inspect of nothing": {[]string{"inspect"}, "accepts 1 arg(s)"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCommand(t)
			c.Args = append(c.Args, test.args...)
			c.run(t).assertFailure(t, test.text)
		})
	}
}
