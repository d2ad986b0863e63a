package verify_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
	"github.com/skopeo-cfs/skopeo-cfs/internal/repomaker"
	"github.com/skopeo-cfs/skopeo-cfs/verify"
)

// What importers wrote has no damage, and every object is checked, once.
func TestSoundRepositories(t *testing.T) {
	for _, name := range fixtures.Repositories {
		t.Run(name, func(t *testing.T) {
			path := fixtures.Unpack(t, name)
			report := check(t, path, nil)
			assert.Empty(t, report.Damages)
			assert.Empty(t, report.Notes)
			assert.False(t, report.IsDamaged())
			assert.Equal(t, path, report.Repository)
			files, bytes := countFiles(t, filepath.Join(path, "objects"))
			assert.Equal(t, files, report.Objects)
			assert.Equal(t, bytes, report.Bytes)
			layouts := fixtures.Layouts(t, name)
			require.Len(t, report.Images, len(layouts))
			layers := map[string]bool{}
			for layout, want := range layouts {
				tag := "localhost/" + layout + ":latest"
				if layout == "emptylayers" {
					tag = "@" + want.Manifest.String()
				}
				found := false
				for _, im := range report.Images {
					for _, name := range im.Names {
						found = found || name == tag && im.Manifest == want.Manifest && im.Config == want.Config && !im.Damaged
					}
				}
				assert.True(t, found, tag)
				for _, l := range append(want.Layers, want.Blobs...) {
					layers[l.Digest.String()+l.DiffID.String()] = true
				}
			}
			assert.Positive(t, report.Layers)
			assert.LessOrEqual(t, report.Layers, len(layers))
		})
	}
}

func TestSoundMadeRepositories(t *testing.T) {
	for _, algorithm := range []fsverity.Algorithm{fsverity.SHA256, fsverity.SHA512} {
		for _, options := range []repomaker.Options{{}, {OldHeader: true, NoMeta: true}} {
			m := newMade(t, algorithm, options)
			report := check(t, m.Path(), nil)
			assert.Empty(t, report.Damages)
			assert.Equal(t, 3, report.Layers)
			require.Len(t, report.Images, 2)
			assert.Equal(t, verify.Image{Names: []string{appTag}, Manifest: m.app.Manifest.Digest, Config: m.app.Config.Digest}, report.Images[0])
			assert.Equal(t, &verify.Unreferenced{}, report.Unreferenced)
		}
	}
}
