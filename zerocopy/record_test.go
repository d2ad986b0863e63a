package zerocopy

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/containers/storage"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
)

// A record that a killed process has left without the manifest gets all that
// containers/image gives an image, and what is there already is not changed.
func TestRecordsOfKilledCopiesAreCompleted(t *testing.T) {
	l := openLayers(t)
	require.NoError(t, l.bring(t.Context()))
	id := l.image.ConfigDescriptor.Digest.Encoded()
	config := storage.ImageBigDataOption{Key: l.image.ConfigDescriptor.Digest.String(), Data: l.image.Config, Digest: l.image.ConfigDescriptor.Digest}
	manifestKey := storage.ImageDigestManifestBigDataNamePrefix + "-" + l.image.ManifestDigest.String()
	for name, c := range map[string]struct {
		written []storage.ImageBigDataOption
		want    int
	}{
		"nothing written":          {nil, 3},
		"the config is written":    {[]storage.ImageBigDataOption{config}, 3},
		"all of another's written": {[]storage.ImageBigDataOption{{Key: storage.ImageDigestBigDataKey, Data: []byte("{}"), Digest: digest.FromString("{}")}}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := l.store.CreateImage(id, nil, l.ids[len(l.ids)-1], "", &storage.ImageOptions{Digest: l.image.ManifestDigest, BigData: c.written})
			require.NoError(t, err)
			defer func() { require.NoError(t, l.store.Delete(id)) }()
			abandon(t, l, l.image)
			newWork(t, l, func(abandoned *workDir) error { return abandoned.completeRecord(l.store) })
			names, err := l.store.ListImageBigData(id)
			require.NoError(t, err)
			require.Len(t, names, c.want)
			if c.want == 1 {
				return
			}
			for key, want := range map[string][]byte{config.Key: l.image.Config, manifestKey: l.image.Manifest, storage.ImageDigestBigDataKey: l.image.Manifest} {
				got, err := l.store.ImageBigData(id, key)
				require.NoError(t, err)
				assert.Equal(t, string(want), string(got))
			}
			byDigest, err := l.store.ImagesByDigest(l.image.ManifestDigest)
			require.NoError(t, err)
			assert.Len(t, byDigest, 1)
		})
	}
}

// What was not noted to its end, or does not belong together, completes nothing.
func TestNotesThatAreCutCompleteNothing(t *testing.T) {
	l := openLayers(t)
	require.NoError(t, l.bring(t.Context()))
	id := l.image.ConfigDescriptor.Digest.Encoded()
	_, err := l.store.CreateImage(id, nil, l.ids[len(l.ids)-1], "", nil)
	require.NoError(t, err)
	for _, cut := range []func(dir string) error{
		func(dir string) error { return os.Remove(filepath.Join(dir, manifestNote)) },
		func(dir string) error { return os.Remove(filepath.Join(dir, configNote)) },
		func(dir string) error { return os.Truncate(filepath.Join(dir, manifestNote), 100) },
		func(dir string) error { return os.Truncate(filepath.Join(dir, configNote), 100) },
		func(dir string) error { return os.Truncate(filepath.Join(dir, configNote), 0) },
	} {
		require.NoError(t, cut(abandon(t, l, l.image)))
		newWork(t, l, func(abandoned *workDir) error { return abandoned.completeRecord(l.store) })
		names, err := l.store.ListImageBigData(id)
		require.NoError(t, err)
		assert.Empty(t, names)
	}
}

// abandon makes the directory of a copy that was killed when it had noted an image.
func abandon(t *testing.T, l *layers, image *composefsrepo.Image) string {
	t.Helper()
	work, err := newWorkDir(t.Context(), l.stager.work.home, func(*workDir) error { return nil })
	require.NoError(t, err)
	require.NoError(t, work.noteImage(image))
	require.NoError(t, work.dir.Close())
	return work.path
}

// newWork makes and removes the directory of another copy, which finds what was
// abandoned.
func newWork(t *testing.T, l *layers, mend func(*workDir) error) {
	t.Helper()
	work, err := newWorkDir(t.Context(), l.stager.work.home, mend)
	require.NoError(t, err)
	require.NoError(t, work.remove())
	left, err := filepath.Glob(filepath.Join(l.stager.work.home, tempDirs, workDirPrefix+"*"))
	require.NoError(t, err)
	assert.Equal(t, []string{l.stager.work.path}, left)
}
