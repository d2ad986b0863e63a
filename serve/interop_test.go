//go:build interop

package serve_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
	"github.com/skopeo-cfs/skopeo-cfs/serve"
)

// cfsctl, and with it bootc, pulls from the server into another repository: the same
// configs, diff IDs and manifests, which pass its checks.
func TestInteropPull(t *testing.T) {
	s := start(t, serve.Options{Repository: fixtures.Unpack(t, "sha256")})
	// It pulls through skopeo, which has to be told of plain HTTP.
	home := t.TempDir()
	conf := filepath.Join(home, ".config/containers/registries.conf")
	require.NoError(t, os.MkdirAll(filepath.Dir(conf), 0o755))
	require.NoError(t, os.WriteFile(conf, []byte("[[registry]]\nlocation = \""+s.host+"\"\ninsecure = true\n"), 0o600))
	t.Setenv("HOME", home)

	pulled := filepath.Join(t.TempDir(), "repository")
	run(t, "cfsctl", "--repo", pulled, "init", "--insecure")
	wants := fixtures.Layouts(t, "sha256")
	for layout := range wants {
		if layout != "emptylayers" { // has no tag
			run(t, "cfsctl", "--repo", pulled, "oci", "pull", "docker://"+s.host+"/localhost/"+layout+":latest", layout)
		}
	}
	run(t, "cfsctl", "--repo", pulled, "fsck")
	run(t, "cfsctl", "--repo", pulled, "oci", "fsck")
	repo, err := composefsrepo.Open(t.Context(), pulled, nil)
	require.NoError(t, err)
	defer repo.Close()
	for layout, want := range wants {
		if layout == "emptylayers" {
			continue
		}
		image, err := repo.ImageByTag(t.Context(), layout)
		require.NoError(t, err)
		assert.Equal(t, want.Config, image.ConfigDescriptor.Digest)
		assert.Equal(t, s.get(t, "/v2/"+layout+"/manifests/latest").body, image.Manifest)
		for i, l := range want.Layers {
			assert.Equal(t, l.DiffID, image.Layers[i].Digest())
		}
	}
	assert.NoError(t, s.reported())
}
