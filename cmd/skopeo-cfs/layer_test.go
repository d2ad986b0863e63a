package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/damaged"
	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
	"github.com/skopeo-cfs/skopeo-cfs/internal/repomaker"
	"github.com/skopeo-cfs/skopeo-cfs/internal/tartest"
)

func TestLayerCat(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"sha512", "old-sha256"} {
		repo := fixtures.Unpack(t, name)
		for layout, image := range fixtures.Layouts(t, name) {
			for i, l := range image.Layers {
				if i > 2 {
					break
				}
				for _, layer := range []string{fmt.Sprint(i + 1), l.DiffID.String(), l.DiffID.Encoded()[:12]} {
					got := runCommand(t, "layer", "cat", nameOf(repo, layout, image), layer)
					got.requireSuccess(t)
					assert.Equal(t, l.DiffID, digest.FromString(got.stdout))
				}
			}
		}
	}
}

// A layer that is not its diff ID is an error, whatever came of it.
func TestLayerCatOfAnAlteredObject(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	damaged.Add(t, path, fsverity.SHA256, repomaker.Options{}, "hello", nil)
	name := "[" + path + "]hello"
	runCommand(t, "layer", "cat", name, "3").requireSuccess(t)
	repo, err := composefsrepo.Open(t.Context(), path, nil)
	require.NoError(t, err)
	image, err := repo.ImageByTag(t.Context(), "hello")
	require.NoError(t, err)
	damaged.AlterObject(t, path, image, 2)
	require.NoError(t, repo.Close())
	runCommand(t, "layer", "cat", name, "3").assertFailure(t, "object ", "was altered")
	runCommand(t, "cat", name, "/var/lib/big").assertFailure(t, "object ", "was altered")
	runCommand(t, "files", name).requireSuccess(t)
}

func TestLayersThatAreNotThere(t *testing.T) {
	t.Parallel()
	name := newImage(t, tartest.Tar(t, tartest.File("f", "content")))
	for _, wrong := range []string{"0", "2", "-1", "x", "sha256:", digestOfNothing, digestOfNothing[:20]} {
		runCommand(t, "layer", "cat", "--", name, wrong).assertFailure(t, "layers 1 to 1")
	}
}

func TestLayerList(t *testing.T) {
	t.Parallel()
	repo := fixtures.Unpack(t, "sha256")
	want := fixtures.Expected(t)["hello"]
	got := runCommand(t, "layer", "ls", "--json", "["+repo+"]hello")
	got.requireSuccess(t)
	var layers []listedLayer
	require.NoError(t, json.Unmarshal([]byte(got.stdout), &layers))
	require.Len(t, layers, len(want.Layers))
	for i, l := range layers {
		assert.Equal(t, listedLayer{i + 1, want.Layers[i].DiffID, want.Layers[i].DiffSize, "layer " + fmt.Sprint(i)}, l)
	}
	got = runCommand(t, "layer", "ls", "["+repo+"]hello")
	got.requireSuccess(t)
	lines := strings.Split(got.stdout, "\n")
	assert.Equal(t, []string{"INDEX", "DIFF", "ID", "SIZE", "CREATED", "BY"}, strings.Fields(lines[0]))
	assert.Equal(t, []string{"1", want.Layers[0].DiffID.String(), fmt.Sprint(int(want.Layers[0].DiffSize)), "layer", "0"}, strings.Fields(lines[1]))
	for _, layout := range []string{"nohistory", "sbom"} {
		runCommand(t, "layer", "ls", "["+repo+"]"+layout).requireSuccess(t)
	}
	assert.Equal(t, `"\x1b[2J`+strings.Repeat("x", 55)+`…"`, shortened("\x1b[2J"+strings.Repeat("x", 100)))
}

func TestLayerFiles(t *testing.T) {
	t.Parallel()
	name := newImage(t, tartest.Tar(t, tartest.File("d/a\x1b", "1"), tartest.HardLink("b", "d/a\x1b"), tartest.File("d/.wh.x", ""), tartest.File("d/.wh..wh..opq", "")))
	got := runCommand(t, "layer", "files", name, "1")
	got.requireSuccess(t)
	var rows [][]string
	for _, line := range strings.Split(strings.TrimSuffix(got.stdout, "\n"), "\n") {
		rows = append(rows, strings.Fields(line))
	}
	assert.Equal(t, [][]string{
		{"-rw-r--r--", "0", "0", "1", "1970-01-01", "00:00", `"d/a\x1b"`},
		{"hrw-r--r--", "0", "0", "-", "1970-01-01", "00:00", "b", "link", "to", `"d/a\x1b"`},
		{"-rw-r--r--", "0", "0", "0", "1970-01-01", "00:00", "d/.wh.x"},
		{"-rw-r--r--", "0", "0", "0", "1970-01-01", "00:00", "d/.wh..wh..opq"},
	}, rows)
	got = runCommand(t, "layer", "files", "--json", name, "1")
	got.requireSuccess(t)
	var list []listedFile
	require.NoError(t, json.Unmarshal([]byte(got.stdout), &list))
	assert.Len(t, list, 4)
	assert.Equal(t, "hard link", list[1].Type)
	assert.Equal(t, "d/a\x1b", list[1].LinkTo)
}
