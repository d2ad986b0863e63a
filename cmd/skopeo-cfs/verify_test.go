package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/internal/bootchost"
	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
	"github.com/skopeo-cfs/skopeo-cfs/verify"
)

// The object of usr/bin/hello in the fixture hello.
func objectOfHello(t *testing.T, repo string) string {
	t.Helper()
	objects, err := filepath.Glob(filepath.Join(repo, "objects/??/*"))
	require.NoError(t, err)
	for _, path := range objects {
		if data, err := os.ReadFile(path); err == nil && bytes.HasPrefix(data, []byte("\x7fELF")) {
			return path
		}
	}
	t.Fatal("the fixtures have no program")
	return ""
}

// flip alters a byte of a file.
func flip(t *testing.T, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	data[len(data)/2] ^= 1
	require.NoError(t, os.WriteFile(path, data, 0o644))
}

func TestVerifySoundRepository(t *testing.T) {
	t.Parallel()
	repo := fixtures.Unpack(t, "old-sha512")
	got := runCommand(t, "verify", "--repository", repo)
	got.requireSuccess(t)
	assert.Equal(t, repo+": 243 objects in 14 images checked, 3.997MB; no damage\n", got.stdout)

	for _, name := range []string{"composefs:[" + repo + "]hello", "[" + repo + "]localhost/hello", "[" + repo + "]@" + fixtures.Expected(t)["hello"].Config.String()} {
		got = runCommand(t, "verify", name)
		got.requireSuccess(t)
		assert.Contains(t, got.stdout, "in 1 image checked", name)
	}
	got = runCommand(t, "verify", "--repository", repo, "hello", "kinds", "hello")
	got.requireSuccess(t)
	assert.Contains(t, got.stdout, "in 2 images checked")
}

func TestVerifyDamagedRepository(t *testing.T) {
	t.Parallel()
	repo := fixtures.Unpack(t, "sha256")
	path := objectOfHello(t, repo)
	flip(t, path)
	got := runCommand(t, "verify", "--repository", repo)
	assert.Equal(t, 1, got.code)
	assert.Equal(t, "skopeo-cfs: "+repo+" is damaged\n", got.stderr)
	want, err := os.ReadFile("testdata/verify.txt")
	require.NoError(t, err)
	assert.Equal(t, string(want), strings.ReplaceAll(got.stdout, repo, "/repository"))

	got = runCommand(t, "verify", "--repository", repo, "--json")
	assert.Equal(t, 1, got.code)
	want, err = os.ReadFile("testdata/verify.json")
	require.NoError(t, err)
	assert.Equal(t, string(want), strings.ReplaceAll(got.stdout, repo, "/repository"))
	var report verify.Report
	require.NoError(t, json.Unmarshal([]byte(got.stdout), &report))
	assert.True(t, report.IsDamaged())

	got = runCommand(t, "verify", "["+repo+"]kinds")
	got.requireSuccess(t)
	got = runCommand(t, "verify", "["+repo+"]plain", "-q")
	assert.Equal(t, 1, got.code)
	assert.Contains(t, got.stdout, " of plain\n")
}

func TestVerifyErrors(t *testing.T) {
	t.Parallel()
	repo := fixtures.Unpack(t, "sha512")
	for text, args := range map[string][]string{
		"not a composefs repository":  {"--repository", t.TempDir()},
		"no such file":                {"--repository", repo + "/nothing"},
		"no such tag":                 {"[" + repo + "]nothing"},
		"not a bootc host":            {"[" + repo + "]@booted"},
		"invalid composefs reference": {"--repository", repo, ""},
		"several repositories":        {"[" + repo + "]hello", "[/nowhere]hello"},
		"not in the repository":       {"[" + repo + "]@sha256:" + strings.Repeat("0", 64)},
	} {
		got := runCommand(t, append([]string{"verify"}, args...)...)
		assert.Equal(t, 1, got.code, text)
		assert.Contains(t, got.stderr, text)
		assert.Empty(t, got.stdout)
	}
}

// What a repository has for names does nothing to a terminal.
func TestVerifyPrintsOddNames(t *testing.T) {
	t.Parallel()
	repo := fixtures.Unpack(t, "sha256")
	for _, name := range []string{"\x1b[31mred", "new\nline", "\xff"} {
		require.NoError(t, os.Symlink("../../nothing", filepath.Join(repo, "streams/refs/oci", name)))
		require.NoError(t, os.WriteFile(filepath.Join(repo, "objects", name), nil, 0o644))
	}
	got := runCommand(t, "verify", "--repository", repo)
	assert.Equal(t, 1, got.code)
	assert.NotContains(t, got.stdout+got.stderr, "\x1b")
	assert.NotContains(t, got.stdout, "\xff")
	assert.NotContains(t, got.stdout, "new\nline")
	assert.Contains(t, got.stdout, `new\nline`)
}

func TestVerifyHost(t *testing.T) {
	t.Parallel()
	h := bootchost.New(t, "sha512", bootchost.Deployment{Layout: "hello", Name: "quay.io/org/os:42"}, bootchost.Deployment{Layout: "kinds"})
	h.Boot(t, 0)
	verifyOn := func(args ...string) (string, error) {
		var stdout, stderr bytes.Buffer
		o := verifyOptions{repository: h.Repository, root: h.Root}
		err := o.run(t.Context(), args, &stdout, &stderr)
		return stdout.String(), err
	}
	for _, args := range [][]string{{}, {"@booted"}, {"os:42"}, {"@" + h.IDs[1][:14]}} {
		_, err := verifyOn(args...)
		require.NoError(t, err, args)
	}
	flip(t, objectOfHello(t, h.Repository))
	out, err := verifyOn("@booted")
	assert.Error(t, err)
	assert.Contains(t, out, "of @"+h.IDs[0][:12]+" (booted)\n")
	out, err = verifyOn()
	assert.Error(t, err)
	assert.Contains(t, out, "@"+h.IDs[0][:12]+" (booted)")
	_, err = verifyOn("@" + h.IDs[1])
	assert.NoError(t, err)
}

// A bar is on the terminal while the check runs, and nothing of it after.
func TestVerifyHasABarOnATerminal(t *testing.T) {
	t.Parallel()
	repo, _ := newLarge(t)
	screen, program := newTerminal(t)
	c := newCommand(t, "verify", "--repository", repo)
	c.Stderr = program
	c.start(t)
	require.NoError(t, program.Close())
	shown := make([]byte, 4096)
	n, err := screen.Read(shown)
	require.NoError(t, err)
	assert.Contains(t, string(shown[:n]), "Checking")
	got := c.interrupt(t, unix.SIGINT)
	assert.Equal(t, 1, got.code)
	assert.Empty(t, got.stdout)
}
