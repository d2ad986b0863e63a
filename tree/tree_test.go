package tree_test

import (
	"context"
	"io/fs"
	"os"
	"path"
	"testing"
	"testing/fstest"

	"github.com/containers/storage/pkg/reexec"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
	"github.com/skopeo-cfs/skopeo-cfs/tree"
)

func TestMain(m *testing.M) {
	if reexec.Init() {
		return
	}
	os.Exit(m.Run())
}

// open opens a repository for the time of a test.
func open(t testing.TB, path string) *composefsrepo.Repo {
	t.Helper()
	repo, err := composefsrepo.Open(context.Background(), path, nil)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, repo.Close()) })
	return repo
}

// fixtureImages returns the images of the fixtures, by layout, of one repository.
func fixtureImages(t testing.TB) map[string]*composefsrepo.Image {
	t.Helper()
	repo := open(t, fixtures.Unpack(t, "sha256"))
	images := map[string]*composefsrepo.Image{}
	for layout, want := range fixtures.Layouts(t, "sha256") {
		image, err := repo.ImageByDigest(t.Context(), want.Manifest)
		require.NoError(t, err)
		if layout != "sbom" { // an artifact
			images[layout] = image
		}
	}
	return images
}

// danglingOpens is a file system in which symlinks to nothing can be opened, as
// fstest.TestFS would have it.
type danglingOpens struct{ tree.FS }

func (f danglingOpens) Open(name string) (fs.File, error) {
	if f.dangles(name) {
		return fstest.MapFS{path.Base(name): {}}.Open(path.Base(name))
	}
	return f.FS.Open(name)
}

func (f danglingOpens) Stat(name string) (fs.FileInfo, error) {
	if f.dangles(name) {
		return fstest.MapFS{path.Base(name): {}}.Stat(path.Base(name))
	}
	return f.FS.Stat(name)
}

func (f danglingOpens) Sub(dir string) (fs.FS, error) {
	sub, err := f.FS.Sub(dir)
	if err != nil {
		return nil, err
	}
	return danglingOpens{sub.(tree.FS)}, nil
}

func (f danglingOpens) dangles(name string) bool {
	_, err := f.FS.Stat(name)
	info, linkErr := f.Lstat(name)
	return err != nil && linkErr == nil && info.Mode().Type() == fs.ModeSymlink
}

// The tree of every image is a file system as package fs has it.
func TestFixturesAreFileSystems(t *testing.T) {
	for _, name := range fixtures.Repositories {
		repo := open(t, fixtures.Unpack(t, name))
		for layout, want := range fixtures.Layouts(t, name) {
			t.Run(name+"/"+layout, func(t *testing.T) {
				image, err := repo.ImageByDigest(t.Context(), want.Manifest)
				require.NoError(t, err)
				files, err := tree.Read(t.Context(), image)
				if layout == "sbom" {
					require.ErrorIs(t, err, tree.ErrNotTar)
					return
				}
				require.NoError(t, err)
				var names []string
				fsys := files.FS(t.Context())
				require.NoError(t, fs.WalkDir(fsys, ".", func(path string, d fs.DirEntry, err error) error {
					if path != "." {
						names = append(names, path)
					}
					return err
				}))
				assert.NoError(t, fstest.TestFS(danglingOpens{fsys}, names...))
			})
		}
	}
}
