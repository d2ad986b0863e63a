package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/internal/damaged"
	"github.com/skopeo-cfs/skopeo-cfs/internal/repomaker"
)

// A copy of an image with annotated layers has the same digest each time, the one
// that --digestfile has, also where layers are archived anew.
func TestDigestOfAnnotatedLayers(t *testing.T) {
	needTool(t, "skopeo")
	annotate := func(image *repomaker.Image) {
		for i := range image.Layers {
			image.Layers[i].Annotations = map[string]string{"org.example.layer": "annotated"}
		}
	}
	for name, change := range map[string]func(*repomaker.Image){
		"right":       annotate,
		"re-archived": func(image *repomaker.Image) { annotate(image); damaged.AlterHeaders(1)(image) },
	} {
		from, _ := damage(t, repomaker.Options{}, "hello", change)
		dir, registry := t.TempDir(), newRegistry(t, "")
		for transport, to := range map[string]string{
			"oci": "oci:" + dir + "/layout:x", "oci-archive": "oci-archive:" + dir + "/archive:x",
			"dir": "dir:" + dir + "/dir", "docker": "docker://" + registry + "/x",
		} {
			t.Run(name+"/"+transport, func(t *testing.T) {
				digests := map[string]bool{}
				for range 2 {
					file := filepath.Join(t.TempDir(), "digest")
					copyImage(t, from, to, "--rearchive", "--digestfile", file, "--dest-tls-verify=false").requireSuccess(t)
					written, err := os.ReadFile(file)
					require.NoError(t, err)
					inspected := tool(t, "skopeo", "inspect", "--tls-verify=false", "--format", "{{.Digest}}", to)
					assert.Equal(t, strings.TrimSpace(inspected), string(written))
					digests[string(written)] = true
				}
				assert.Len(t, digests, 1)
				raw := runCommand(t, "inspect", "--raw", "--tls-verify=false", to)
				raw.requireSuccess(t)
				assert.Equal(t, 3, strings.Count(raw.stdout, `"org.example.layer":"annotated"`), raw.stdout)
			})
		}
	}
}
