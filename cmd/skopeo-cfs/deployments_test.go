package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/bootc"
	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/internal/bootchost"
)

// testHost is a host of the tests, with what is expected of it.
type testHost struct {
	fixture     string
	deployments []bootchost.Deployment
	lay         func(t *testing.T, h *bootchost.Host)
	states      []bootc.State
	// Indices of deployments whose image has no manifest to be found, and of
	// those that can't be copied at all.
	noManifest, gone []int
}

// make lays the host out.
func (h testHost) make(t *testing.T) *bootchost.Host {
	made := bootchost.New(t, h.fixture, h.deployments...)
	h.lay(t, made)
	return made
}

func (h testHost) booted() int {
	for i, s := range h.states {
		if s == bootc.Booted {
			return i
		}
	}
	return -1
}

// deploymentsOf returns deployments of layouts.
func deploymentsOf(record bootchost.Record, layouts ...string) []bootchost.Deployment {
	var all []bootchost.Deployment
	for _, layout := range layouts {
		all = append(all, bootchost.Deployment{Layout: layout, Record: record})
	}
	return all
}

// testHosts are the hosts that there are: each state told in each way, and each
// age of deployments and repositories.
func testHosts() map[string]testHost {
	ten := deploymentsOf(bootchost.ManifestDigest, "hello", "rootdir", "sizes", "gnu-ustar", "trailers", "repeated", "many", "zstd", "mixed", "raw")
	tenStates := make([]bootc.State, len(ten))
	for i := range tenStates {
		tenStates[i] = bootc.Other
	}
	tenStates[3], tenStates[5], tenStates[9] = bootc.Booted, bootc.Staged, bootc.Rollback
	three := deploymentsOf(bootchost.ManifestDigest, "hello", "sizes", "many")
	legacy := deploymentsOf(bootchost.ImageInfo, "hello", "sizes", "many")
	bare := deploymentsOf(bootchost.Nothing, "hello", "sizes", "many")
	garbage := deploymentsOf(bootchost.ManifestDigest, "hello", "sizes", "many")
	garbage[1].Origin = "\x00garbage"
	uki := deploymentsOf(bootchost.ManifestDigest, "hello", "sizes", "many")
	for i := range uki {
		uki[i].UKI = true
	}
	boot := func(t *testing.T, h *bootchost.Host) {
		h.Boot(t, 0)
		h.Menu(t, 0, 1)
	}
	usual := []bootc.State{bootc.Booted, bootc.Rollback, bootc.Other}
	return map[string]testHost{
		"two": {"sha512", three[:2], boot, usual[:2], nil, nil},
		"ten": {"sha512", ten, func(t *testing.T, h *bootchost.Host) {
			h.Boot(t, 3)
			h.Stage(t, 5, false)
			h.Menu(t, 3, 9)
		}, tenStates, nil, nil},
		"by command line": {"sha512", three, func(t *testing.T, h *bootchost.Host) {
			h.MountAnother(t)
			h.CommandLine(t, "composefs=?%s", 1)
			h.Menu(t, 1, 0)
		}, []bootc.State{bootc.Rollback, bootc.Booted, bootc.Other}, nil, nil},
		"soft reboot": {"sha512", three, func(t *testing.T, h *bootchost.Host) {
			h.Boot(t, 1)
			h.Mount(t, 2)
			h.Menu(t, 2, 1)
		}, []bootc.State{bootc.Other, bootc.Rollback, bootc.Booted}, nil, nil},
		"transient and locked": {"sha512", three, func(t *testing.T, h *bootchost.Host) {
			h.MountTransient(t, 0)
			h.Stage(t, 2, true)
			h.Menu(t, 0, 1)
		}, []bootc.State{bootc.Booted, bootc.Rollback, bootc.Staged}, nil, nil},
		"unified kernel images": {"sha512", uki, func(t *testing.T, h *bootchost.Host) {
			h.Boot(t, 0)
			h.EFIMenu(t, "efi", 0, 1)
		}, usual, nil, nil},
		"no boot partition": {"sha512", three, func(t *testing.T, h *bootchost.Host) {
			h.Boot(t, 0)
		}, []bootc.State{bootc.Booted, bootc.Unknown, bootc.Unknown}, nil, nil},
		"legacy":            {"old-sha512", legacy, boot, usual, nil, nil},
		"only EROFS images": {"sha512", bare, boot, usual, nil, nil},
		"legacy, no manifests": {"old-sha512", legacy, func(t *testing.T, h *bootchost.Host) {
			boot(t, h)
			h.RemoveManifests(t)
		}, usual, []int{0, 1, 2}, nil},
		"an image collected": {"sha512", three, func(t *testing.T, h *bootchost.Host) {
			boot(t, h)
			h.Collect(t, 1)
		}, usual, nil, []int{1}},
		"the booted image collected": {"sha512", three, func(t *testing.T, h *bootchost.Host) {
			boot(t, h)
			h.Collect(t, 0)
		}, usual, nil, []int{0}},
		"an origin of garbage": {"sha512", garbage, boot, usual, nil, nil},
	}
}

// onHost is what says that a host that was laid out is the running one.
func onHost(h *bootchost.Host) hostOptions { return hostOptions{root: h.Root} }

// listDeployments returns what deployments --json prints.
func listDeployments(t *testing.T, host hostOptions) map[string]deployed {
	t.Helper()
	var out bytes.Buffer
	options := deploymentsOptions{global: &globalOptions{}, host: host, asJSON: true}
	options.registry.flags = newDeploymentsCommand(options.global).Flags()
	require.NoError(t, options.run(t.Context(), &out))
	var list []deployed
	require.NoError(t, json.Unmarshal(out.Bytes(), &list))
	byID := map[string]deployed{}
	for _, d := range list {
		byID[d.ID] = d
	}
	assert.Len(t, byID, len(list))
	return byID
}

func TestDeployments(t *testing.T) {
	for name, test := range testHosts() {
		t.Run(name, func(t *testing.T) {
			h := test.make(t)
			list := listDeployments(t, onHost(h))
			require.Len(t, list, len(h.IDs))
			for i, id := range h.IDs {
				d := list[id]
				assert.Equal(t, test.states[i], d.State, "deployment %d", i)
				isGone, noManifest := slices.Contains(test.gone, i), slices.Contains(test.noManifest, i)
				assert.Equal(t, !isGone, d.Complete)
				garbage := test.deployments[i].Origin != ""
				assert.Equal(t, isGone || garbage, d.Error != "", d.Error)
				if !garbage {
					assert.Equal(t, "quay.io/org/"+test.deployments[i].Layout+":latest", d.Image)
					assert.Equal(t, "docker", d.Transport)
				}
				if !isGone {
					assert.Equal(t, h.Images[i].Config, d.ImageID)
				}
				if !noManifest {
					assert.Equal(t, h.Images[i].Manifest, d.ManifestDigest)
				} else {
					assert.Empty(t, d.ManifestDigest)
				}
			}
		})
	}
}

// A layer of which a file is missing is not there.
func TestDeploymentWithoutAnObject(t *testing.T) {
	h := bootchost.New(t, "sha512", deploymentsOf(bootchost.ManifestDigest, "hello", "many")...)
	repo, err := composefsrepo.Open(t.Context(), h.Repository, nil)
	require.NoError(t, err)
	defer repo.Close()
	image, err := repo.ImageByDigest(t.Context(), h.Images[0].Manifest)
	require.NoError(t, err)
	object := ""
	for n := range image.Layers {
		chunks, err := image.LayerChunks(t.Context(), n)
		require.NoError(t, err)
		for object == "" {
			chunk, err := chunks.Next()
			if err != nil {
				break
			}
			if !chunk.Object.IsZero() {
				object = chunk.Object.String()
			}
		}
		require.NoError(t, chunks.Close())
	}
	require.NotEmpty(t, object)
	require.NoError(t, os.Remove(filepath.Join(h.Repository, "objects", object[:2], object[2:])))
	list := listDeployments(t, onHost(h))
	assert.False(t, list[h.IDs[0]].Complete)
	assert.Contains(t, list[h.IDs[0]].Error, object)
	assert.True(t, list[h.IDs[1]].Complete)
}

func TestDeploymentsOfAnotherHost(t *testing.T) {
	h := bootchost.New(t, "sha512", deploymentsOf(bootchost.ManifestDigest, "hello", "sizes")...)
	h.Boot(t, 0)
	h.Menu(t, 1, 0)
	out := runCommand(t, "deployments", "--sysroot", h.Sysroot)
	out.requireSuccess(t)
	want := "ID            STATE  IMAGE                     MANIFEST DIGEST                                                          LAYERS\n"
	for _, i := range []int{1, 0} {
		want += fmt.Sprintf("%s  other  %s  %s  all\n", h.IDs[i][:12], "quay.io/org/"+[]string{"hello", "sizes"}[i]+":latest", h.Images[i].Manifest)
	}
	assert.Equal(t, want, out.stdout)

	runCommand(t, "deployments", "--sysroot", t.TempDir()).assertFailure(t, "not a bootc host")
	runCommand(t, "deployments", "--sysroot", filepath.Join(t.TempDir(), "none")).assertFailure(t, "no such file or directory")
	ostree := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(ostree, "ostree/repo"), 0o755))
	runCommand(t, "deployments", "--sysroot", ostree).assertFailure(t, "boots from ostree")
}
