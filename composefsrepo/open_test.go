package composefsrepo_test

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
)

func TestAlgorithmIsKnownWithAndWithoutMeta(t *testing.T) {
	for name, want := range map[string]fsverity.Algorithm{
		"sha512": fsverity.SHA512, "old-sha512": fsverity.SHA512,
		"sha256": fsverity.SHA256, "old-sha256": fsverity.SHA256,
	} {
		path := fixtures.Unpack(t, name)
		assert.Equal(t, want, open(t, path).Algorithm())
		if err := os.Remove(filepath.Join(path, "meta.json")); err == nil {
			assert.Equal(t, want, open(t, path).Algorithm())
		}
	}
}

func TestPathIsResolved(t *testing.T) {
	path := fixtures.Unpack(t, "sha256")
	link := filepath.Join(t.TempDir(), "link")
	require.NoError(t, os.Symlink(path, link))
	assert.Equal(t, path, open(t, link).Path())
	t.Chdir(filepath.Dir(path))
	assert.Equal(t, path, open(t, "sha256").Path())
}

func TestWhatIsNoRepositoryIsRefused(t *testing.T) {
	for name, test := range map[string]struct {
		make func(path string) error
		want error
		text string
	}{
		"nothing there":      {func(string) error { return nil }, fs.ErrNotExist, "no such file"},
		"a file":             {func(p string) error { return os.WriteFile(p, nil, 0o644) }, composefsrepo.ErrNotRepository, "not a directory"},
		"an empty directory": {func(p string) error { return os.Mkdir(p, 0o755) }, composefsrepo.ErrNotRepository, "neither meta.json nor"},
		"a link to nothing":  {func(p string) error { return os.Symlink("nothing", p) }, fs.ErrNotExist, "no such file"},
		"objects are a file": {func(p string) error {
			os.Mkdir(p, 0o755)
			return os.WriteFile(p+"/objects", nil, 0o644)
		}, composefsrepo.ErrNotRepository, "neither"},
		"objects are elsewhere": {func(p string) error {
			os.Mkdir(p, 0o755)
			return os.Symlink("/usr", p+"/objects")
		}, composefsrepo.ErrNotRepository, "neither"},
		"meta.json is elsewhere": {func(p string) error {
			os.Mkdir(p, 0o755)
			return os.Symlink("/etc/hostname", p+"/meta.json")
		}, unix.ELOOP, "meta.json"},
		"meta.json is no JSON": {func(p string) error {
			os.Mkdir(p, 0o755)
			return os.WriteFile(p+"/meta.json", []byte("version: 1"), 0o644)
		}, composefsrepo.ErrNotRepository, "reading meta.json"},
		"meta.json is large": {func(p string) error {
			os.Mkdir(p, 0o755)
			os.WriteFile(p+"/meta.json", nil, 0o644)
			return os.Truncate(p+"/meta.json", 1<<40)
		}, nil, "more than 1048576 bytes"},
		"meta.json of version 2": {func(p string) error {
			os.Mkdir(p, 0o755)
			return os.WriteFile(p+"/meta.json", []byte(`{"version":2}`), 0o644)
		}, composefsrepo.ErrUnsupported, "version 2"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "repo")
			require.NoError(t, test.make(path))
			_, err := composefsrepo.Open(t.Context(), path, nil)
			require.Error(t, err)
			assert.ErrorContains(t, err, path)
			assert.ErrorContains(t, err, test.text)
			if test.want != nil {
				assert.ErrorIs(t, err, test.want)
			}
		})
	}
}

func TestEmptyRepositoryHasNoTags(t *testing.T) {
	path := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(path, "objects"), 0o755))
	tags, err := open(t, path).Tags()
	require.NoError(t, err)
	assert.Empty(t, tags)
}

// collect takes the lock that garbage collection holds.
func collect(t *testing.T, path string) (release func()) {
	t.Helper()
	dir, err := os.Open(path)
	require.NoError(t, err)
	t.Cleanup(func() { dir.Close() })
	require.NoError(t, unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB))
	return func() { dir.Close() }
}

func TestOpenWaitsForGarbageCollectionAndSaysSo(t *testing.T) {
	path := fixtures.Unpack(t, "sha256")
	release := collect(t, path)
	told := 0
	repo, err := composefsrepo.Open(t.Context(), path, &composefsrepo.Options{Waiting: func(p string) {
		assert.Equal(t, path, p)
		told++
		release()
	}})
	require.NoError(t, err)
	defer repo.Close()
	assert.Equal(t, 1, told)
}

func TestCancelEndsWaitingForTheLock(t *testing.T) {
	path := fixtures.Unpack(t, "sha256")
	collect(t, path)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := composefsrepo.Open(ctx, path, &composefsrepo.Options{Waiting: func(string) { cancel() }})
	assert.ErrorIs(t, err, context.Canceled)
	assert.ErrorContains(t, err, "lock")
}

func TestOpenRepositoryIsSharedAndNotCollected(t *testing.T) {
	path := fixtures.Unpack(t, "sha256")
	first, second := open(t, path), open(t, path)
	assert.Equal(t, first.Path(), second.Path())
	dir, err := os.Open(path)
	require.NoError(t, err)
	defer dir.Close()
	assert.ErrorIs(t, unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB), unix.EWOULDBLOCK)
}

func TestClosedRepositoryMayBeCollected(t *testing.T) {
	path := fixtures.Unpack(t, "sha256")
	repo, err := composefsrepo.Open(t.Context(), path, nil)
	require.NoError(t, err)
	require.NoError(t, repo.Close())
	collect(t, path)
}

func TestTagsOfFixtures(t *testing.T) {
	tags, err := open(t, fixtures.Unpack(t, "sha512")).Tags()
	require.NoError(t, err)
	assert.IsIncreasing(t, tags)
	assert.Subset(t, tags, []string{"100%/odd name", "localhost/hello:latest", "localhost:5000/a/b/c:latest", "plain", "quay.io/org/app:1.0"})
	assert.Len(t, tags, 18)
}
