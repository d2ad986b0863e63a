package main

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
)

// nameOf returns the composefs name of a layout in a repository.
func nameOf(repo, layout string, image fixtures.Image) string {
	if layout == "emptylayers" { // has no tag
		return "composefs:[" + repo + "]@" + image.Manifest.String()
	}
	return "composefs:[" + repo + "]" + layout
}

// Every layout of every repository arrives at every destination with the config
// and the layers that it had when it was pulled. Of the destinations, those that
// differ only in how they wrap the same blobs take two of the repositories, one
// of each kind.
func TestEveryLayoutArrivesEverywhere(t *testing.T) {
	for _, name := range fixtures.Repositories {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			repo := fixtures.Unpack(t, name)
			dir, stored, registry := t.TempDir(), newStoreIfRoot(t), newRegistry(t, "")
			layouts := fixtures.Layouts(t, name)
			for _, layout := range slices.Sorted(maps.Keys(layouts)) {
				from, want := nameOf(repo, layout, layouts[layout]), layouts[layout]
				destinations := map[string]string{"dir": "dir:" + filepath.Join(dir, "dir-"+layout)}
				if stored != nil {
					destinations["containers-storage"] = stored.image(layout)
				}
				if name == "sha512" || name == "old-sha256" {
					destinations["oci"] = "oci:" + filepath.Join(dir, "layout") + ":" + layout
					destinations["oci-archive"] = "oci-archive:" + filepath.Join(dir, layout+".tar") + ":" + layout
					destinations["registry"] = "docker://" + registry + "/" + layout
				}
				for transport, to := range destinations {
					t.Run(layout+"/"+transport, func(t *testing.T) {
						got := copyImage(t, from, to, "--dest-tls-verify=false")
						if transport == "containers-storage" && refusedByStorage[layout] != "" {
							got.assertFailure(t, refusedByStorage[layout])
							return
						}
						got.requireSuccess(t)
						image := readImage(t, to)
						image.assertIs(t, want)
						if keepsManifest(layout, transport) {
							assert.Equal(t, want.Manifest, image.manifest)
						}
					})
				}
			}
		})
	}
}

// newStoreIfRoot returns a store, or nil where there can be none.
func newStoreIfRoot(t *testing.T) (s *store) {
	t.Run("store", func(t *testing.T) { needRoot(t) }) // says that it is left out
	if dir := t.TempDir(); os.Getuid() == 0 {
		made := newStore(t, dir)
		s = &made
	}
	return s
}

// refusedByStorage is what containers-storage says of the layouts that it can't
// take: a path that occurs twice, an artifact.
var refusedByStorage = map[string]string{
	"dup":  `"d/dup"`,
	"sbom": "artifact",
}

// keepsManifest tells whether a layout has at a destination the manifest that it
// had: where the repository has its blobs, and the destination does not compress
// them.
func keepsManifest(layout, transport string) bool {
	switch layout {
	case "sbom":
		return true
	case "raw":
		return transport == "dir" || transport == "containers-storage"
	}
	return false
}
