package serve_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/bootc"
	"github.com/skopeo-cfs/skopeo-cfs/internal/bootchost"
	"github.com/skopeo-cfs/skopeo-cfs/serve"
)

// The deployments of a host are served by their images' names, the booted one before
// others of the same name, and by their states.
func TestDeployments(t *testing.T) {
	host := bootchost.New(t, "sha512",
		bootchost.Deployment{Layout: "hello", Name: "quay.io/org/os:42"},
		bootchost.Deployment{Layout: "sizes", Name: "quay.io/org/os:42"},
		bootchost.Deployment{Layout: "kinds", Name: "quay.io/org/os:41", Record: bootchost.Nothing},
		bootchost.Deployment{Layout: "many", Name: "/srv/layout:x", Form: "ostree-unverified-image:oci:%s"},
	)
	host.Boot(t, 0)
	host.Stage(t, 1, false)
	host.Menu(t, 0, 2, 3)
	host.Tag(t, 0)
	s := start(t, serve.Options{Repository: host.Repository, Deployments: func() (*bootc.Host, error) {
		return bootc.Open("", &bootc.Options{Root: host.Root})
	}})
	for path, i := range map[string]int{
		"quay.io/org/os/manifests/42":                                           0,
		"org/os/manifests/42":                                                   0,
		"org/os/manifests/41":                                                   2,
		"localhost/bootc/manifests/booted":                                      0,
		"localhost/bootc/manifests/staged":                                      1,
		"localhost/bootc/manifests/rollback":                                    2,
		"localhost/bootc-sha256/manifests/" + host.Images[0].Manifest.Encoded(): 0,
	} {
		m, _ := s.manifest(t, "/v2/"+path)
		assert.Equal(t, host.Images[i].Config, m.Config.Digest, path)
	}
	var tags struct{ Tags []string }
	require.NoError(t, json.Unmarshal(s.get(t, "/v2/localhost/bootc/tags/list").body, &tags))
	assert.Equal(t, []string{"booted", "rollback", "staged"}, tags.Tags)
	assert.NoError(t, s.reported())
}

// A host that can't be read is reported once, and hides no tag.
func TestNoHost(t *testing.T) {
	host := bootchost.New(t, "sha512")
	s := start(t, serve.Options{Repository: host.Repository, Deployments: func() (*bootc.Host, error) { return nil, bootc.ErrNotBootc }})
	assert.Equal(t, 200, s.get(t, "/v2/hello/manifests/latest").status)
	assert.ErrorIs(t, s.reported(), bootc.ErrNotBootc)
}
