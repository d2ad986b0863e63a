package composefsrepo_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
	"github.com/skopeo-cfs/skopeo-cfs/internal/verity"
)

// verityRepository unpacks a fixture and enables fs-verity on every object.
func verityRepository(t *testing.T, name string) (path string, objects []string) {
	t.Helper()
	path = fixtures.Unpack(t, name)
	a := fsverity.SHA512
	if strings.HasSuffix(name, "256") {
		a = fsverity.SHA256
	}
	return path, verity.EnableObjects(t, path, a)
}

// checkAll opens and reads every layout.
func checkAll(t *testing.T, path, name string) {
	repo := open(t, path)
	for layout, want := range fixtures.Layouts(t, name) {
		image, err := repo.ImageByDigest(t.Context(), want.Manifest)
		require.NoError(t, err, layout)
		checkImage(t, image, want)
	}
}

// swap puts another object's file under the name of an object.
func swap(t *testing.T, objects []string) (name string) {
	t.Helper()
	require.NoError(t, os.Remove(objects[0]))
	require.NoError(t, os.Link(objects[1], objects[0]))
	return filepath.Base(filepath.Dir(objects[0])) + filepath.Base(objects[0])
}

func TestVerityOfEveryObjectIsItsName(t *testing.T) {
	for _, name := range fixtures.Repositories {
		t.Run(name, func(t *testing.T) {
			path, objects := verityRepository(t, name)
			checkAll(t, path, name)

			swapped := swap(t, objects)
			d, err := fsverity.Parse(swapped)
			require.NoError(t, err)
			_, _, err = open(t, path).OpenObject(d)
			assert.ErrorIs(t, err, composefsrepo.ErrVerity)
			assert.ErrorContains(t, err, swapped)
		})
	}
}

func TestRepositoryWithVerityDemandsItOfEveryObject(t *testing.T) {
	path, objects := verityRepository(t, "sha512")
	verity.Enable(t, filepath.Join(path, "meta.json"), fsverity.SHA512)
	checkAll(t, path, "sha512")

	content, err := os.ReadFile(objects[0])
	require.NoError(t, err)
	require.NoError(t, os.Remove(objects[0]))
	require.NoError(t, os.WriteFile(objects[0], content, 0o644)) // the same, but not enforced
	d, err := fsverity.Parse(filepath.Base(filepath.Dir(objects[0])) + filepath.Base(objects[0]))
	require.NoError(t, err)
	_, _, err = open(t, path).OpenObject(d)
	assert.ErrorIs(t, err, composefsrepo.ErrVerity)
	assert.ErrorContains(t, err, "requires it")

	require.NoError(t, os.Remove(filepath.Join(path, "meta.json")))
	_, _, err = open(t, path).OpenObject(d)
	assert.NoError(t, err)
}

func TestMeasureTellsWhatComputeComputes(t *testing.T) {
	path, objects := verityRepository(t, "sha256")
	for _, object := range objects {
		f, err := os.Open(object)
		require.NoError(t, err)
		measured, err := fsverity.Measure(f)
		require.NoError(t, err)
		computed, err := fsverity.Compute(fsverity.SHA256, f)
		require.NoError(t, err)
		require.NoError(t, f.Close())
		assert.Equal(t, computed, measured)
	}
	f, err := os.Open(filepath.Join(path, "meta.json"))
	require.NoError(t, err)
	defer f.Close()
	_, err = fsverity.Measure(f)
	assert.ErrorIs(t, err, fsverity.ErrNotEnabled)
}
