package main

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
)

// What arrives in containers-storage is an image to podman, under the ID that it
// always had, and what podman pushes of it has the same layers.
func TestPodmanHasTheImages(t *testing.T) {
	t.Parallel()
	s, dir := newStore(t, t.TempDir()), t.TempDir()
	repo := fixtures.Unpack(t, "sha512")
	layouts := fixtures.Layouts(t, "sha512")
	want := map[string]string{}
	for layout, image := range layouts {
		if refusedByStorage[layout] != "" {
			continue
		}
		copyImage(t, nameOf(repo, layout, image), s.image(layout)).requireSuccess(t)
		want["localhost/"+layout+":latest"] = image.Config.Encoded()
	}
	var listed []struct {
		ID    string   `json:"Id"`
		Names []string `json:"Names"`
	}
	require.NoError(t, json.Unmarshal([]byte(s.podman(t, "images", "--no-trunc", "--format", "json")), &listed))
	got := map[string]string{}
	for _, image := range listed {
		for _, name := range image.Names {
			got[name] = image.ID
		}
	}
	assert.Equal(t, want, got)

	for layout, image := range layouts {
		if refusedByStorage[layout] != "" {
			continue
		}
		t.Run(layout, func(t *testing.T) {
			at := strings.TrimSpace(s.podman(t, "image", "mount", "localhost/"+layout))
			assertTree(t, layersOf(t, repo, image), at)
			s.podman(t, "image", "unmount", "localhost/"+layout)

			to := "oci:" + filepath.Join(dir, layout) + ":x"
			s.podman(t, "push", "-q", "localhost/"+layout, to)
			readImage(t, to).assertIs(t, image)
			if layout != "hello" && layout != "kinds" {
				return
			}
			to = "oci:" + filepath.Join(dir, "by-us-"+layout) + ":x"
			copyImage(t, s.image(layout), to).requireSuccess(t)
			readImage(t, to).assertIs(t, image)
		})
	}
}

func TestPodmanRunsTheImage(t *testing.T) {
	t.Parallel()
	needTool(t, "podman", "crun", "unshare")
	s := newStore(t, t.TempDir())
	copyImage(t, "composefs:["+fixtures.Unpack(t, "old-sha512")+"]hello", s.image("hello")).requireSuccess(t)
	// In a mount namespace with nothing but cgroups of version 2, and with limits
	// that need no privilege, it runs within containers and virtual machines.
	run := `umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup &&
exec podman --root "$0" --runroot "$1" --storage-driver overlay --cgroup-manager cgroupfs run --rm \
	--network none --cgroups disabled --ulimit nofile=512:512 --ulimit nproc=200:200 localhost/hello`
	out, err := exec.Command("unshare", "--mount", "sh", "-c", run, s.root, s.run).CombinedOutput()
	require.NoError(t, err, string(out))
	assert.Contains(t, string(out), helloText)
}

func TestPodmanLoadsTheDockerArchive(t *testing.T) {
	t.Parallel()
	repo := fixtures.Unpack(t, "old-sha256")
	for _, layout := range []string{"hello", "kinds", "repeated", "raw"} {
		t.Run(layout, func(t *testing.T) {
			s := newStore(t, t.TempDir())
			want := fixtures.Expected(t)[layout]
			archive := filepath.Join(t.TempDir(), "image.tar")
			copyImage(t, nameOf(repo, layout, want), "docker-archive:"+archive+":localhost/"+layout+":latest").requireSuccess(t)
			s.podman(t, "load", "-q", "-i", archive)
			loaded := readImage(t, s.image(layout))
			want.Config = loaded.config // the archive has room for Docker's only
			loaded.assertIs(t, want)
		})
	}
}
