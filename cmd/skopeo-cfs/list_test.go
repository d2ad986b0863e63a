package main

import (
	"encoding/json"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
)

func TestListAsJSON(t *testing.T) {
	t.Parallel()
	for _, name := range fixtures.Repositories {
		t.Run(name, func(t *testing.T) {
			got := runCommand(t, "list", "--json", fixtures.Unpack(t, name))
			got.requireSuccess(t)
			type entry struct {
				Tag        string
				Digest, ID digest.Digest
				Size       int64
			}
			var entries []entry
			require.NoError(t, json.Unmarshal([]byte(got.stdout), &entries))
			listed := map[string]entry{}
			for _, e := range entries {
				listed[e.Tag] = e
			}
			want := map[string]entry{}
			for layout, image := range fixtures.Layouts(t, name) {
				e := entry{Tag: "localhost/" + layout + ":latest", Digest: image.Manifest, ID: image.Config}
				for _, l := range image.Layers {
					e.Size += l.DiffSize
				}
				for _, b := range image.Blobs {
					e.Size += b.Size
				}
				want[e.Tag] = e
			}
			delete(want, "localhost/emptylayers:latest")
			for _, tag := range []string{"quay.io/org/app:1.0", "localhost:5000/a/b/c:latest", "plain", "100%/odd name"} {
				e := want["localhost/hello:latest"]
				e.Tag = tag
				want[tag] = e
			}
			assert.Equal(t, want, listed)
			assert.Len(t, entries, len(want))
		})
	}
}

func TestListAsTable(t *testing.T) {
	got := runCommand(t, "list", fixtures.Unpack(t, "old-sha256"))
	got.requireSuccess(t)
	lines := strings.Split(strings.TrimSuffix(got.stdout, "\n"), "\n")
	require.Len(t, lines, 1+len(fixtures.Layouts(t, "old-sha256"))-1+4) // a head line, one layout without a tag, four more tags
	assert.Equal(t, []string{"TAG", "DIGEST", "IMAGE", "ID", "CREATED", "LAYERS", "SIZE", "SHARED", "UNIQUE"}, strings.Fields(lines[0]))
	var rows [][]string
	for _, line := range lines {
		rows = append(rows, strings.Fields(line))
	}
	at := slices.IndexFunc(rows, func(row []string) bool { return row[0] == "localhost/hello:latest" })
	require.GreaterOrEqual(t, at, 0)
	assert.Equal(t, []string{helloManifest, "fb2ac53b70d3"}, rows[at][1:3])
	assert.Regexp(t, `^\d+ \w+ ago 3 226.3kB [\d.]+k?B [\d.]+kB$`, strings.Join(rows[at][3:], " "))
}

// An image that is broken does not hide the others, and is an error.
func TestListOfABrokenImage(t *testing.T) {
	f := newForge(t)
	f.tag("good", f.image(tarOf(t, "file", nil)))
	f.link("streams/refs/oci/bad", "../../oci-manifest-"+digestOfNothing)
	f.link("streams/refs/oci/worse", "/etc/passwd")
	got := runCommand(t, "list", f.repo)
	got.assertFailure(t, `tag "bad"`, "not in the repository", `tag "worse"`, "/etc/passwd")
	assert.Equal(t, 4, strings.Count(got.stdout, "\n"), got.stdout)
	assert.Contains(t, got.stdout, "good ")
	assert.Contains(t, got.stdout, "bad ")

	got = runCommand(t, "list", "--json", f.repo)
	got.assertFailure(t, `tag "bad"`)
	var entries []struct{ Tag, Digest, Error string }
	require.NoError(t, json.Unmarshal([]byte(got.stdout), &entries))
	require.Len(t, entries, 3)
	assert.Contains(t, entries[0].Error, "not in the repository")
	assert.Empty(t, entries[1].Error)
	assert.NotEmpty(t, entries[1].Digest)
}

func TestListOfNothing(t *testing.T) {
	f := newForge(t)
	got := runCommand(t, "list", f.repo)
	got.requireSuccess(t)
	assert.Equal(t, "TAG  DIGEST  IMAGE ID  CREATED  LAYERS  SIZE  SHARED  UNIQUE\n", got.stdout)
	got = runCommand(t, "list", "--json", f.repo)
	got.requireSuccess(t)
	assert.JSONEq(t, "[]", got.stdout)
	runCommand(t, "list", t.TempDir()).assertFailure(t, "not a composefs repository")
}

// A tag can't do anything to the terminal.
func TestListOfAHostileTag(t *testing.T) {
	f := newForge(t)
	i := f.image(tarOf(t, "file", nil))
	f.tag("\x1b[2J\n\xff", i)
	got := runCommand(t, "list", f.repo)
	got.requireSuccess(t)
	assert.Contains(t, got.stdout, `"\x1b[2J\n\xff" `)
	assert.Equal(t, 2, strings.Count(got.stdout, "\n"))

	f.remove("streams/oci-manifest-" + i.manifestDigest.String())
	for _, args := range [][]string{{"list", f.repo}, {"inspect", "composefs:[" + f.repo + "]\x1b[2J\n\xff"}, {"inspect", "composefs:[" + f.repo + "]\x1b[2J\n"}} {
		got := runCommand(t, args...)
		got.assertFailure(t)
		assert.NotContains(t, got.stderr, "\x1b")
		assert.Contains(t, got.stderr, `\x1b[2J`)
	}
}

// An index is listed as one, and is nothing that is wrong with the repository.
func TestListOfAnIndex(t *testing.T) {
	f := newForge(t)
	f.tag("good", f.image(tarOf(t, "file", nil)))
	f.link("streams/refs/oci/index", "../../oci-index-"+digestOfNothing)
	got := runCommand(t, "list", f.repo)
	got.requireSuccess(t)
	assert.Contains(t, got.stdout, "good ")
	assert.Contains(t, got.stdout, "index  (index of images)")
	got = runCommand(t, "list", "--json", f.repo)
	got.requireSuccess(t)
	var entries []listed
	require.NoError(t, json.Unmarshal([]byte(got.stdout), &entries))
	require.Len(t, entries, 2)
	assert.Empty(t, entries[0].Error)
	assert.Contains(t, entries[1].Error, "index of images")

	runCommand(t, "inspect", "composefs:["+f.repo+"]good").requireSuccess(t)
	runCommand(t, "inspect", "composefs:["+f.repo+"]index").assertFailure(t, "index of images", "by digest")
	copyImage(t, "composefs:["+f.repo+"]index", "dir:"+t.TempDir()+"/x").assertFailure(t, "index of images", "by digest")
}

// Filters of one kind are alternatives, those of different kinds all have to match.
func TestListFilters(t *testing.T) {
	t.Parallel()
	repo := fixtures.Unpack(t, "sha256")
	for name, c := range map[string]struct {
		args []string
		want []string
	}{
		"reference":               {[]string{"-f", "reference=quay.io/org/*"}, []string{"quay.io/org/app:1.0"}},
		"two references":          {[]string{"-f", "reference=quay.io/org/*", "-f", "reference=plain"}, []string{"plain", "quay.io/org/app:1.0"}},
		"reference and label":     {[]string{"-f", "reference=plain", "-f", "label=org.example.fixture=hello"}, []string{"plain"}},
		"another label":           {[]string{"-f", "reference=plain", "-f", "label=org.example.fixture=x"}, []string{}},
		"label without a value":   {[]string{"-f", "reference=plain", "-f", "label=org.example.fixture"}, []string{"plain"}},
		"image ID":                {[]string{"-f", "id=fb2ac53b70d3", "-f", "reference=plain"}, []string{"plain"}},
		"digest":                  {[]string{"-f", "digest=" + helloManifest, "-f", "reference=localhost/*"}, []string{"localhost/hello:latest"}},
		"created long ago":        {[]string{"-f", "until=2020-01-01T00:00:00Z", "-f", "reference=plain"}, []string{}},
		"created in the past":     {[]string{"-f", "until=1s", "-f", "reference=plain"}, []string{"plain"}},
		"not created before self": {[]string{"-f", "before=plain", "-f", "reference=plain"}, []string{}},
	} {
		t.Run(name, func(t *testing.T) {
			got := runCommand(t, append(append([]string{"list", "--format", "{{.Tag}}"}, c.args...), repo)...)
			got.requireSuccess(t)
			assert.Equal(t, c.want, strings.FieldsFunc(got.stdout, func(r rune) bool { return r == '\n' }))
		})
	}
	for _, filter := range []string{"x", "x=y", "reference=[", "until=yesterday", "since=missing"} {
		runCommand(t, "list", "--filter", filter, repo).assertFailure(t, "--filter", filter)
	}
	runCommand(t, "list", "--sort", "color", repo).assertFailure(t, "--sort", "created, id, layers")
	runCommand(t, "list", "--format", "{{.Color}}", repo).assertFailure(t, "--format", "Color")
	runCommand(t, "list", "--format", "{{", repo).assertFailure(t, "--format")
}

func TestListSorts(t *testing.T) {
	t.Parallel()
	repo := fixtures.Unpack(t, "sha256")
	for _, by := range []string{"Size", "Shared", "Unique", "Layers"} {
		got := runCommand(t, "list", "--sort", strings.ToLower(by), "--format", "{{."+by+"}}", repo)
		got.requireSuccess(t)
		var values []int
		for _, line := range strings.Fields(got.stdout) {
			n, err := strconv.Atoi(line)
			require.NoError(t, err)
			values = append(values, -n)
		}
		assert.True(t, slices.IsSorted(values), "%s: %v", by, values)
		assert.Greater(t, len(values), 10)
	}
}

// list-tags prints what skopeo prints, of a composefs repository and of a registry.
func TestListTags(t *testing.T) {
	repo := fixtures.Unpack(t, "old-sha256")
	got := runCommand(t, "list-tags", "composefs:["+repo+"]")
	got.requireSuccess(t)
	var list struct {
		Repository string
		Tags       []string
	}
	require.NoError(t, json.Unmarshal([]byte(got.stdout), &list))
	assert.Equal(t, repo, list.Repository)
	assert.Contains(t, list.Tags, "quay.io/org/app:1.0")
	assert.True(t, slices.IsSorted(list.Tags))
	for _, name := range []string{"composefs:" + repo, "composefs:[]", "composefs:[" + repo, "oci:x", "docker://example.com/x:y"} {
		runCommand(t, "list-tags", name).assertFailure(t, "listing the tags of "+name)
	}

	registry := newRegistry(t, "")
	for _, tag := range []string{"one", "two"} {
		copyImage(t, "composefs:["+repo+"]hello", "docker://"+registry+"/org/os:"+tag, "--dest-tls-verify=false").requireSuccess(t)
	}
	ours := runCommand(t, "list-tags", "--tls-verify=false", "docker://"+registry+"/org/os")
	ours.requireSuccess(t)
	needTool(t, "skopeo")
	theirs, err := exec.Command("skopeo", "list-tags", "--tls-verify=false", "docker://"+registry+"/org/os").Output()
	require.NoError(t, err)
	assert.Equal(t, string(theirs), ours.stdout)
	inspected := runCommand(t, "inspect", "--tls-verify=false", "--format", "{{join .RepoTags \" \"}}", "docker://"+registry+"/org/os:one")
	inspected.requireSuccess(t)
	assert.Equal(t, "one two\n", inspected.stdout)
	inspected = runCommand(t, "inspect", "--tls-verify=false", "--no-tags", "--format", "{{json .RepoTags}}", "docker://"+registry+"/org/os:one")
	inspected.requireSuccess(t)
	assert.Equal(t, "[]\n", inspected.stdout)
}
