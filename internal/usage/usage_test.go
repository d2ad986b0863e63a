package usage_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
	"github.com/skopeo-cfs/skopeo-cfs/internal/genimage"
	"github.com/skopeo-cfs/skopeo-cfs/internal/repomaker"
	"github.com/skopeo-cfs/skopeo-cfs/internal/usage"
)

func open(t *testing.T, path string) (images []*composefsrepo.Image, tags []string) {
	t.Helper()
	repo, err := composefsrepo.Open(t.Context(), path, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, repo.Close()) })
	tags, err = repo.Tags()
	require.NoError(t, err)
	for _, tag := range tags {
		image, err := repo.ImageByTag(t.Context(), tag)
		require.NoError(t, err)
		images = append(images, image)
	}
	return images, tags
}

// What is counted is what is on disk: each object once, with the size of its file.
func TestEachObjectIsCountedOnce(t *testing.T) {
	for _, name := range fixtures.Repositories {
		t.Run(name, func(t *testing.T) {
			path := fixtures.Unpack(t, name)
			images, tags := open(t, path)
			all, err := usage.Of(t.Context(), images)
			require.NoError(t, err)
			sets := make([]map[fsverity.Digest]int64, len(images))
			for i := range images {
				sets[i] = objectsOf(t, path, images[i])
			}
			for i, got := range all {
				var size, unique int64
				for d, bytes := range sets[i] {
					size += bytes
					if !inOther(sets, i, d) {
						unique += bytes
					}
				}
				assert.Equal(t, size, got.Size, tags[i])
				assert.Equal(t, unique, got.Unique, tags[i])
				assert.Equal(t, size-unique, got.Shared, tags[i])
				assert.Equal(t, len(sets[i]), got.Objects, tags[i])
				assert.Zero(t, got.Missing)
				require.Len(t, got.Layers, len(images[i].Layers))
			}
		})
	}
}

// objectsOf returns the sizes of an image's objects, read one after the other.
func objectsOf(t *testing.T, path string, image *composefsrepo.Image) map[fsverity.Digest]int64 {
	t.Helper()
	sizes := map[fsverity.Digest]int64{}
	note := func(d fsverity.Digest) {
		info, err := os.Lstat(filepath.Join(path, "objects", d.String()[:2], d.String()[2:]))
		require.NoError(t, err)
		sizes[d] = info.Size()
	}
	for n, l := range image.Layers {
		note(l.Verity)
		chunks, err := image.LayerChunks(t.Context(), n)
		require.NoError(t, err)
		for {
			chunk, err := chunks.Next()
			if err != nil {
				break
			}
			if !chunk.Object.IsZero() {
				note(chunk.Object)
			}
		}
		require.NoError(t, chunks.Close())
	}
	return sizes
}

func inOther(sets []map[fsverity.Digest]int64, i int, d fsverity.Digest) bool {
	for j, set := range sets {
		if _, ok := set[d]; ok && j != i {
			return true
		}
	}
	return false
}

// Of a layer that is all objects and one that is all inline, each is told apart, and
// two tags of one image have everything in common.
func TestWhatImagesHaveInCommon(t *testing.T) {
	path := filepath.Join(t.TempDir(), "repository")
	repo, err := repomaker.Create(path, fsverity.SHA256, repomaker.Options{})
	require.NoError(t, err)
	spec := genimage.Spec{Files: 200, Bytes: 4 << 20, Layers: 2, Seed: 1}
	first, err := repo.AddGenerated("first", spec, repomaker.Pretended)
	require.NoError(t, err)
	require.NoError(t, repo.Tag("second", first.Manifest.Digest))
	spec.Seed = 2
	_, err = repo.AddGenerated("third", spec, repomaker.Pretended)
	require.NoError(t, err)
	images, _ := open(t, path)
	all, err := usage.Of(t.Context(), images)
	require.NoError(t, err)
	require.Len(t, all[0].Common, 1)
	assert.Equal(t, usage.Common{Image: 1, Layers: 2, Objects: all[0].Objects, Bytes: all[0].Size}, all[0].Common[0])
	assert.Zero(t, all[0].Unique)
	assert.Equal(t, all[2].Size, all[2].Unique)
	assert.Empty(t, all[2].Common)
	for n, l := range all[0].Layers {
		assert.Positive(t, l.StreamBytes)
		assert.Positive(t, l.InlineBytes)
		assert.LessOrEqual(t, l.InlineBytes+l.ObjectBytes, images[0].Layers[n].Size)
	}
}

func TestMissingObjectsAreCounted(t *testing.T) {
	path := fixtures.Unpack(t, "sha256")
	images, _ := open(t, path)
	for d := range objectsOf(t, path, images[0]) {
		if d != images[0].Layers[0].Verity {
			require.NoError(t, os.Remove(filepath.Join(path, "objects", d.String()[:2], d.String()[2:])))
			break
		}
	}
	all, err := usage.Of(t.Context(), images[:1])
	require.NoError(t, err)
	assert.Equal(t, 1, all[0].Missing)
}

func TestOfEndsWithTheContext(t *testing.T) {
	images, _ := open(t, fixtures.Unpack(t, "sha256"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := usage.Of(ctx, images)
	assert.ErrorIs(t, err, context.Canceled)
}
