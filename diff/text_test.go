package diff_test

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/diff"
	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
)

func TestText(t *testing.T) {
	r := newRepository(t, fsverity.SHA512)
	old := r.add(imgspecv1.ImageConfig{Labels: map[string]string{"version": "1", "long": "x"}, Cmd: []string{"sh"}},
		makeTar(t, dir("d"), file("d/content", large), file("d/mode", "x"), file("gone", large), file("type", ""), file("x", large+"x"), file("y", large+"x"),
			entry{Header: tar.Header{Name: "link", Typeflag: tar.TypeSymlink, Linkname: "a"}}, entry{Header: tar.Header{Name: "null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}}))
	new := r.add(imgspecv1.ImageConfig{Labels: map[string]string{"version": "2", "long": strings.Repeat("long ", 100)}, Env: []string{"NEW=", "B=c"}},
		makeTar(t, dir("d"), file("d/content", large+large), file("d/mode", "x").with(func(h *tar.Header) { h.Mode, h.Uid, h.Gid = 0o4755, 1, 2 }), dir("new"), dir("type"),
			file("x", large+"x"), entry{Header: tar.Header{Name: "y", Typeflag: tar.TypeLink, Linkname: "x", Mode: 0o644}},
			entry{Header: tar.Header{Name: "link", Typeflag: tar.TypeSymlink, Linkname: "b"}}, entry{Header: tar.Header{Name: "null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 5}},
			entry{Header: tar.Header{Name: "new link", Typeflag: tar.TypeSymlink, Linkname: "a\nb"}}))
	result := images(t, old, new, diff.All)
	result.Old.Name, result.New.Name = "os:1", "os:2"
	header := "From: os:1 (manifest " + string(result.Old.Digest) + ")\nTo:   os:2 (manifest " + string(result.New.Digest) + ")\n"
	assert.Equal(t, header+`Config:
  label long: x -> `+strings.Repeat("long ", 40)+`…
  label version: 1 -> 2
  env B added: c
  env NEW added
  cmd removed: ["sh"]
Files: 2 added (0B), 1 removed (81B), 7 changed
New content: 162B
`, asText(t, result, diff.Summary))
	assert.Equal(t, header+`Config: 5 changes
Packages: 0 upgraded, 0 downgraded, 0 removed, 0 added
Files: 2 added (0B), 1 removed (81B), 7 changed
New content: 162B
`, asText(t, result, diff.Counts))
	result.Config, result.Packages = nil, nil
	assert.Equal(t, `C /d/content (content 81B -> 162B)
C /d/mode (mode 0644 -> 4755, owner 0:0 -> 1:2)
D /gone (81B)
C /link (target a -> b)
A /new (directory)
A /new link (symlink to "a\nb")
C /null (device 1:3 -> 1:5)
C /type (type file -> directory, mode 0644 -> 0755)
C /x (links 1 -> 2)
C /y (links 1 -> 2)
`, asText(t, result, diff.Lists))

	same := images(t, old, old, diff.All)
	assert.Equal(t, "From: manifest "+string(same.Old.Digest)+"\nTo:   manifest "+string(same.Old.Digest)+"\nNo differences.\n", asText(t, same, diff.Summary))
	assert.Empty(t, asText(t, same, diff.Lists))
}

// hostile has all that does something to a terminal.
const hostile = "\x1b[2J\x07\r\n\u009b31m\u202e\x7f\xff\""

// Nothing of an image reaches a terminal that is not printable.
func TestNothingRaw(t *testing.T) {
	r := newRepository(t, fsverity.SHA256)
	db := "P:x" + strings.ReplaceAll(hostile, "\n", "") + "\nV:1" + strings.ReplaceAll(hostile, "\n", "") + "\nA:" + strings.ReplaceAll(hostile, "\n", "") + "\n\n"
	old := r.add(imgspecv1.ImageConfig{Labels: map[string]string{hostile: "x", "b": hostile}, User: hostile},
		makeTar(t, entry{tar.Header{Name: "c" + hostile, Typeflag: tar.TypeReg, Mode: 0o644, PAXRecords: map[string]string{}}, "x"},
			entry{Header: tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: hostile}}, entry{Header: tar.Header{Name: "gone" + hostile, Typeflag: tar.TypeFifo}}))
	new := r.add(imgspecv1.ImageConfig{Labels: map[string]string{hostile: "y"}, Env: []string{hostile + "=" + hostile}, Cmd: []string{hostile}},
		makeTar(t, dir("lib"), dir("lib/apk"), dir("lib/apk/db"), file("lib/apk/db/installed", db),
			entry{tar.Header{Name: "c" + hostile, Typeflag: tar.TypeReg, Mode: 0o600}, "y"},
			entry{Header: tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: hostile + "2"}}, entry{Header: tar.Header{Name: "new" + hostile, Typeflag: tar.TypeSymlink, Linkname: hostile}}))
	result := images(t, old, new, diff.All)
	require.Len(t, result.Packages.Added, 1)
	result.Old.Name, result.New.Name = hostile, hostile
	isSafe := func(text string) {
		t.Helper()
		for _, line := range strings.Split(text, "\n") {
			assert.True(t, utf8.ValidString(line), "%q", line)
			for _, r := range line {
				assert.True(t, unicode.IsPrint(r), "%U in %q", r, line)
			}
		}
	}
	for _, layout := range []diff.Layout{diff.Summary, diff.Lists, diff.Counts} {
		text := asText(t, result, layout)
		isSafe(text)
		assert.NotContains(t, text, "\n31m")
	}
	encoded, err := json.Marshal(result.Printable())
	require.NoError(t, err)
	var all any
	require.NoError(t, json.Unmarshal(encoded, &all))
	var each func(any)
	each = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for _, value := range v {
				each(value)
			}
		case []any:
			for _, value := range v {
				each(value)
			}
		case string:
			assert.NotContains(t, v, "\n")
			isSafe(v)
		}
	}
	each(all)
	assert.Equal(t, len(result.Files.Changes), len(result.Printable().Files.Changes))
	assert.Contains(t, result.Files.Changes[0].Path, "\x1b", "the result itself is as it was")
}

// brokenWriter is a pipe without a reader.
type brokenWriter struct{}

var errBroken = errors.New("broken pipe")

func (brokenWriter) Write([]byte) (int, error) { return 0, errBroken }

func TestWriteErrors(t *testing.T) {
	r := newRepository(t, fsverity.SHA256)
	image := r.add(imgspecv1.ImageConfig{}, makeTar(t))
	assert.ErrorIs(t, images(t, image, image, diff.All).WriteText(brokenWriter{}, diff.Summary), errBroken)
}
