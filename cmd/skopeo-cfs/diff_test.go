package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/bootc"
	"github.com/skopeo-cfs/skopeo-cfs/diff"
	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/bootchost"
	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
	"github.com/skopeo-cfs/skopeo-cfs/internal/repomaker"
)

// tarWith makes a tar of files by their names.
func tarWith(t testing.TB, files ...[2]string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		require.NoError(t, w.WriteHeader(&tar.Header{Name: f[0], Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(f[1])), Format: tar.FormatPAX}))
		_, err := w.Write([]byte(f[1]))
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return b.Bytes()
}

const terminalName = "\x1b[31mred\x07\r\n\u009b2J"

// diffRepository makes a repository with the images os:1 and os:2.
func diffRepository(t testing.TB) string {
	t.Helper()
	repo, err := repomaker.Create(t.TempDir(), fsverity.SHA512, repomaker.Options{})
	require.NoError(t, err)
	for tag, image := range map[string]struct {
		label string
		tar   []byte
	}{
		"localhost/os:1": {"1", tarWith(t, [2]string{"etc/os", "one"}, [2]string{"gone", strings.Repeat("x", 2000)},
			[2]string{"lib/apk/db/installed", "P:musl\nV:1.2.4-r0\nA:x86_64\n\nP:old\nV:1\nA:x86_64\n\n"})},
		"localhost/os:2": {"2" + terminalName, tarWith(t, [2]string{"etc/os", "two"}, [2]string{terminalName, strings.Repeat("y", 3000)},
			[2]string{"lib/apk/db/installed", "P:musl\nV:1.2.5-r0\nA:x86_64\n\n"})},
	} {
		_, err := repo.AddImage(tag, repomaker.Image{Listing: repomaker.Uncompressed, Layers: []repomaker.Layer{{Tar: bytes.NewReader(image.tar)}},
			Config: imgspecv1.Image{Config: imgspecv1.ImageConfig{Labels: map[string]string{"version": image.label}}}})
		require.NoError(t, err)
	}
	return repo.Path()
}

func TestDiff(t *testing.T) {
	t.Parallel()
	repo := diffRepository(t)
	old, new := "composefs:["+repo+"]os:1", "["+repo+"]os:2"
	run := func(args ...string) string {
		t.Helper()
		got := runCommand(t, append([]string{"diff"}, args...)...)
		got.requireSuccess(t)
		return got.stdout
	}
	packages := "Upgraded:\n  musl 1.2.4-r0 -> 1.2.5-r0\nRemoved:\n  old-1\n"
	summary := run(old, new)
	assert.Contains(t, summary, "From: "+old+" (manifest sha256:")
	assert.Contains(t, summary, "Config:\n  label version: 1 -> \"2\\x1b[31mred\\a\\r\\n\\u009b2J\"\n"+packages+"Files: 1 added (3kB), 1 removed (2kB), 2 changed\nNew content: 3.0")
	assert.Equal(t, packages, run("--packages", old, new))
	assert.Equal(t, "A \"/\\x1b[31mred\\a\\r\\n\\u009b2J\" (3kB)\nC /etc/os (content of 3B)\nD /gone (2kB)\nC /lib/apk/db/installed (content 48B -> 28B)\n", run("--files", old, new))
	assert.Equal(t, packages+run("--files", old, new), run("--files", "--packages", old, new))
	assert.Contains(t, run("--stat", old, new), "Config: 1 change\nPackages: 1 upgraded, 0 downgraded, 1 removed, 0 added\nFiles: ")
	assert.Equal(t, "musl 1.2.5-r0 2\n", run("--format", "{{range .Packages.Upgraded}}{{.New.Name}} {{.New.Version}}{{end}} {{.Files.Changed}}", old, new))
	assert.Equal(t, terminalName, strings.TrimPrefix(strings.Split(run("--format", "{{range .Files.Changes}}{{.Path}}|{{end}}", old, new), "|")[0], "/"), "to a pipe, names are what they are")

	for _, flag := range []string{"--json", "--format=json"} {
		text := run(flag, old, new)
		for _, r := range text {
			assert.True(t, r == '\n' || unicode.IsPrint(r), "%U", r)
		}
		var result diff.Result
		require.NoError(t, json.Unmarshal([]byte(text), &result))
		assert.Equal(t, "/"+terminalName, result.Files.Changes[0].Path)
		assert.Len(t, result.Packages.Removed, 1)
	}
	assert.Contains(t, run(old, old), "No differences.\n")
	assert.Empty(t, run("--files", old, old))
}

func TestDiffExitCode(t *testing.T) {
	t.Parallel()
	repo := diffRepository(t)
	old, new := "["+repo+"]os:1", "["+repo+"]os:2"
	for _, test := range []struct {
		code int
		args []string
	}{{0, []string{old, new}}, {1, []string{"--exit-code", old, new}}, {1, []string{"--exit-code", "--packages", "--format={{.Old.ID}}", old, new}}, {0, []string{"--exit-code", new, new}}} {
		got := runCommand(t, append([]string{"diff"}, test.args...)...)
		assert.Equal(t, test.code, got.code, test.args)
		assert.Empty(t, got.stderr)
	}
	// Also where nobody reads what differs, of which nothing is said.
	got := newCommand(t, "diff", "--exit-code", "--files", old, new).withoutReader(t).run(t)
	assert.Equal(t, 1, got.code)
	assert.Empty(t, got.stderr)
	newCommand(t, "diff", "--json", old, new).withoutReader(t).run(t).requireSuccess(t)
}

func TestDiffErrors(t *testing.T) {
	t.Parallel()
	repo := fixtures.Unpack(t, "sha256")
	image := "[" + repo + "]hello"
	for _, test := range []struct {
		args []string
		says string
	}{
		{[]string{image}, "two images"},
		{[]string{image, image, image}, "two images"},
		{[]string{image, "docker://quay.io/x"}, "only images of composefs repositories"},
		{[]string{image, "[" + repo + "]nothing"}, "no such tag"},
		{[]string{image, "[" + repo}, "invalid composefs reference"},
		{[]string{image, "[" + repo + "]sbom"}, "not a tar"},
		{[]string{"--json", "--stat", image, image}, "none of the others can be"},
		{[]string{"--format", "{{", image, image}, "--format"},
		{[]string{"--format", "{{.Nothing}}", image, image}, "--format"},
	} {
		runCommand(t, append([]string{"diff"}, test.args...)...).assertFailure(t, test.says)
	}
}

// On a bootc host nothing needs to be named.
func TestDiffOfDeployments(t *testing.T) {
	layouts := deploymentsOf(bootchost.ManifestDigest, "hello", "rootdir", "sizes")
	h := bootchost.New(t, "sha512", layouts...)
	compared := func() (result diff.Result, err error) {
		out, err := os.Create(filepath.Join(t.TempDir(), "output"))
		require.NoError(t, err)
		defer out.Close()
		options := diffOptions{global: &globalOptions{}, host: onHost(h), asJSON: true}
		if err := options.run(t.Context(), nil, out); err != nil {
			return result, err
		}
		printed, err := os.ReadFile(out.Name())
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(printed, &result))
		return result, nil
	}
	_, err := compared()
	assert.ErrorIs(t, err, bootc.ErrNotFound, "nothing runs")
	h.Boot(t, 0)
	_, err = compared()
	assert.ErrorIs(t, err, bootc.ErrRollbackUnknown)
	h.Menu(t, 0, 1, 2)
	result, err := compared()
	require.NoError(t, err)
	assert.Equal(t, diff.Image{Name: "@rollback", Digest: h.Images[1].Manifest, ID: h.Images[1].Config}, result.Old)
	assert.Equal(t, diff.Image{Name: "@booted", Digest: h.Images[0].Manifest, ID: h.Images[0].Config}, result.New)
	h.Stage(t, 2, false)
	result, err = compared()
	require.NoError(t, err)
	assert.Equal(t, "@booted", result.Old.Name)
	assert.Equal(t, "@staged", result.New.Name)
	assert.Equal(t, h.Images[2].Manifest, result.New.Digest)
}

// A terminal gets no control characters but those that end lines.
func TestDiffOnATerminal(t *testing.T) {
	needTool(t, "script")
	repo := diffRepository(t)
	old, new := "["+repo+"]os:1", "["+repo+"]os:2"
	for _, flags := range []string{"", "--files", "--json", "--stat", "--format='{{range .Files.Changes}}{{.Path}}|{{end}}{{json .Config}}'"} {
		c := newCommand(t)
		line := "'" + c.Path + "' diff " + flags + " '" + old + "' '" + new + "'"
		script := exec.Command("script", "-qec", line, "/dev/null")
		script.Env = c.Env
		out, err := script.CombinedOutput()
		require.NoError(t, err, "%s", out)
		assert.Contains(t, string(out), "os", flags)
		for _, r := range string(out) {
			assert.True(t, r == '\r' || r == '\n' || unicode.IsPrint(r), "%s: %U in %q", flags, r, out)
		}
	}
}
