package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
)

func TestInspect(t *testing.T) {
	t.Parallel()
	repo, want := fixtures.Unpack(t, "sha512"), fixtures.Expected(t)["hello"]
	name := "composefs:[" + repo + "]hello"

	got := runCommand(t, "inspect", name)
	got.requireSuccess(t)
	var shown struct {
		Name         string
		Digest       digest.Digest
		Created      string
		Architecture string
		Os           string
		Labels       map[string]string
		Layers       []digest.Digest
		Env          []string
	}
	require.NoError(t, json.Unmarshal([]byte(got.stdout), &shown))
	assert.Equal(t, "localhost/hello", shown.Name)
	assert.Equal(t, want.Manifest, shown.Digest)
	assert.Equal(t, "2026-01-02T03:04:05.678901234Z", shown.Created)
	assert.Equal(t, "amd64", shown.Architecture)
	assert.Equal(t, "linux", shown.Os)
	assert.Equal(t, map[string]string{"org.example.fixture": "hello"}, shown.Labels)
	assert.Equal(t, []digest.Digest{want.Layers[0].Digest, want.Layers[1].Digest, want.Layers[2].Digest}, shown.Layers)
	assert.Equal(t, []string{"PATH=/usr/bin:/bin"}, shown.Env)

	got = runCommand(t, "inspect", "--raw", name)
	got.requireSuccess(t)
	assert.Equal(t, want.Manifest, digest.FromString(got.stdout))
	got = runCommand(t, "inspect", "--raw", "--config", name)
	got.requireSuccess(t)
	assert.Equal(t, want.Config, digest.FromString(got.stdout))
	got = runCommand(t, "inspect", "--config", name)
	got.requireSuccess(t)
	var config imgspecv1.Image
	require.NoError(t, json.Unmarshal([]byte(got.stdout), &config))
	assert.Equal(t, []string{"/bin/hello"}, config.Config.Cmd)
	assert.Len(t, config.RootFS.DiffIDs, 3)
}

// Every image of every repository can be inspected, by its tag and by its ID.
func TestInspectEverything(t *testing.T) {
	t.Parallel()
	for _, name := range fixtures.Repositories {
		repo := fixtures.Unpack(t, name)
		for layout, want := range fixtures.Layouts(t, name) {
			t.Run(name+"/"+layout, func(t *testing.T) {
				names := []string{nameOf(repo, layout, want)}
				if name == "sha512" {
					names = append(names, "composefs:["+repo+"]@"+want.Config.String())
				}
				for _, typed := range names {
					got := runCommand(t, "inspect", typed)
					got.requireSuccess(t)
					assert.Contains(t, got.stdout, fmt.Sprintf("%q: %q", "Digest", want.Manifest))
				}
			})
		}
	}
}

func TestInspectOtherTransports(t *testing.T) {
	t.Parallel()
	repo := fixtures.Unpack(t, "sha256")
	to := "oci:" + filepath.Join(t.TempDir(), "layout") + ":x"
	copyImage(t, "composefs:["+repo+"]hello", to).requireSuccess(t)
	got := runCommand(t, "inspect", to)
	got.requireSuccess(t)
	assert.Contains(t, got.stdout, readImage(t, to).manifest.String())
}

// What only the repository knows of an image adds up, and names what has the same
// objects.
func TestInspectOfTheRepository(t *testing.T) {
	t.Parallel()
	repo, want := fixtures.Unpack(t, "sha512"), fixtures.Expected(t)["hello"]
	got := runCommand(t, "inspect", "composefs:["+repo+"]hello")
	got.requireSuccess(t)
	var shown inspection
	require.NoError(t, json.Unmarshal([]byte(got.stdout), &shown))
	assert.Equal(t, []string{"latest"}, shown.RepoTags)
	c := shown.Composefs
	require.NotNil(t, c)
	assert.Equal(t, repo, c.Repository)
	assert.Equal(t, want.Config, c.ImageID)
	assert.Equal(t, "fsverity-sha512-12", c.Algorithm)
	assert.Equal(t, c.Size, c.Shared+c.Unique)
	require.Len(t, c.Layers, len(want.Layers))
	for n, l := range c.Layers {
		assert.Equal(t, want.Layers[n].DiffID, l.DiffID)
		assert.Equal(t, want.Layers[n].Digest, l.Digest)
		assert.Equal(t, want.Layers[n].DiffSize, l.InObjects+l.Inline)
		assert.FileExists(t, filepath.Join(repo, "objects", l.Verity[:2], l.Verity[2:]))
	}
	require.NotEmpty(t, c.EROFS)
	for _, id := range c.EROFS {
		assert.FileExists(t, filepath.Join(repo, "images", id))
	}
	var tags []string
	for _, other := range c.SharedWith {
		assert.Positive(t, other.Size)
		tags = append(tags, other.Tag)
	}
	assert.Contains(t, tags, "localhost/zstd:latest")
	assert.NotContains(t, tags, "plain", "it is the same image")
}
