package tree_test

import (
	"io/fs"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
	"github.com/skopeo-cfs/skopeo-cfs/tree"
)

// listed is what there is at a path.
type listed struct {
	tree.Node
	key     tree.Key
	content string
}

// readTree returns all that a tree has, contents included.
func readTree(t *testing.T, files *tree.Tree) map[string]listed {
	t.Helper()
	all := map[string]listed{}
	fsys := files.FS(t.Context())
	require.NoError(t, fs.WalkDir(fsys, ".", func(path string, d fs.DirEntry, err error) error {
		require.NoError(t, err)
		n, err := files.LookupNoFollow(path)
		require.NoError(t, err)
		l := listed{key: n.Key()}
		l.Mode, l.UID, l.GID, l.ModTime, l.Size, l.Rdev = n.Mode, n.UID, n.GID, n.ModTime, n.Size, n.Rdev
		l.Target, l.Xattrs, l.Layer, l.Links, l.Implied = n.Target, n.Xattrs, n.Layer, n.Links, n.Implied
		if n.IsRegular() {
			content, err := fs.ReadFile(fsys, path)
			require.NoError(t, err)
			l.content = string(content)
		}
		all[path] = l
		return nil
	}))
	return all
}

// Images that are read together are what they are when each is read alone, whatever
// layers they have in common, and in which places.
func TestReadAll(t *testing.T) {
	for _, name := range fixtures.Repositories {
		repo := open(t, fixtures.Unpack(t, name))
		var images []*composefsrepo.Image
		for layout, want := range fixtures.Layouts(t, name) {
			if layout == "sbom" {
				continue
			}
			image, err := repo.ImageByDigest(t.Context(), want.Manifest)
			require.NoError(t, err)
			images = append(images, image)
		}
		mixed := *images[0]
		mixed.Layers = nil
		for _, image := range images {
			mixed.Layers = append(mixed.Layers, image.Layers...)
		}
		images = append(images, images[0], &mixed)
		together, err := tree.ReadAll(t.Context(), images...)
		require.NoError(t, err)
		require.Len(t, together, len(images))
		for i, image := range images {
			alone, err := tree.Read(t.Context(), image)
			require.NoError(t, err)
			assert.Same(t, image, together[i].Image())
			assert.Equal(t, readTree(t, alone), readTree(t, together[i]), "%s: %s", name, image.ManifestDigest)
		}
	}
}

func TestReadAllOfNone(t *testing.T) {
	trees, err := tree.ReadAll(t.Context())
	require.NoError(t, err)
	assert.Empty(t, trees)
}
