package composefsrepo_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
)

// The EROFS image of three layouts that differ in nothing but their configs.
const sharedEROFS = "7f0a8a69dc80f1cf37bd392d4ca8cb2dd995e0ac46baed46659a7e7273a9b9c57255f72f4e76a45f4563b6e458be633a2dda9dca02352cf8abb1211961866379"

func TestImagesOfEROFS(t *testing.T) {
	path := fixtures.Unpack(t, "sha512")
	repo := open(t, path)
	shared, err := fsverity.Parse(sharedEROFS)
	require.NoError(t, err)
	want := fixtures.Expected(t)
	named := func(tag, layout string) composefsrepo.NamedImage {
		return composefsrepo.NamedImage{Tag: tag, Manifest: want[layout].Manifest, Config: want[layout].Config}
	}
	images, err := repo.ImagesOfEROFS(t.Context(), shared)
	require.NoError(t, err)
	assert.Equal(t, []composefsrepo.NamedImage{
		named("localhost/nohistory:latest", "nohistory"), named("localhost/repeated:latest", "repeated"), named("", "emptylayers"),
	}, images)

	// What is left without a manifest, and what is wrong with other images.
	require.NoError(t, os.Remove(filepath.Join(path, "streams/oci-manifest-"+want["repeated"].Manifest.String())))
	require.NoError(t, os.Remove(filepath.Join(path, "streams/oci-config-"+want["hello"].Config.String())))
	require.NoError(t, os.Symlink("../objects/00/00", filepath.Join(path, "streams/oci-config-"+want["hello"].Config.String())))
	images, err = repo.ImagesOfEROFS(t.Context(), shared)
	require.NoError(t, err)
	assert.Equal(t, []composefsrepo.NamedImage{
		named("localhost/nohistory:latest", "nohistory"), named("", "emptylayers"), {Config: want["repeated"].Config},
	}, images)

	none, err := fsverity.FromBytes(make([]byte, 64))
	require.NoError(t, err)
	images, err = repo.ImagesOfEROFS(t.Context(), none)
	require.NoError(t, err)
	assert.Empty(t, images)
}

// A config that only a manifest's reference leads to counts, too.
func TestImagesOfEROFSThroughTheReference(t *testing.T) {
	path := fixtures.Unpack(t, "sha512")
	repeated := fixtures.Expected(t)["repeated"]
	require.NoError(t, os.Remove(filepath.Join(path, "streams/oci-config-"+repeated.Config.String())))
	shared, err := fsverity.Parse(sharedEROFS)
	require.NoError(t, err)
	images, err := open(t, path).ImagesOfEROFS(t.Context(), shared)
	require.NoError(t, err)
	assert.Contains(t, images, composefsrepo.NamedImage{Tag: "localhost/repeated:latest", Manifest: repeated.Manifest, Config: repeated.Config})
}

func TestImageByDescriptionTakesTheManifestWithTheSameLayers(t *testing.T) {
	repo := open(t, fixtures.Unpack(t, "old-sha256"))
	for _, layout := range []string{"hello", "zstd", "raw"} {
		want := fixtures.Expected(t)[layout]
		original, err := repo.ImageByDigest(t.Context(), want.Manifest)
		require.NoError(t, err)
		image, err := repo.ImageByDescription(t.Context(), append(original.Manifest, '\n'))
		require.NoError(t, err)
		assert.Equal(t, want.Manifest, image.ManifestDigest)
		assert.Equal(t, original, image)
	}
	_, err := repo.ImageByDescription(t.Context(), []byte("{}"))
	assert.ErrorIs(t, err, composefsrepo.ErrInvalidImage)
}

func TestCheckObjects(t *testing.T) {
	path := fixtures.Unpack(t, "sha512")
	image, err := open(t, path).ImageByTag(t.Context(), "localhost/hello:latest")
	require.NoError(t, err)
	check := func() (err error) {
		for n := range image.Layers {
			if err = image.CheckObjects(t.Context(), n); err != nil {
				break
			}
		}
		return err
	}
	require.NoError(t, check())
	file := externalObject(t, path, image)
	require.NoError(t, os.Remove(file))
	assert.ErrorIs(t, check(), composefsrepo.ErrMissingObject)
	assert.ErrorContains(t, check(), filepath.Base(filepath.Dir(file))+filepath.Base(file))
	require.NoError(t, os.Symlink("/etc/passwd", file))
	assert.ErrorIs(t, check(), composefsrepo.ErrMissingObject)
}
