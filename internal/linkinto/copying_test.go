package main

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/containers/storage"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
	"github.com/skopeo-cfs/skopeo-cfs/internal/needs"
	"github.com/skopeo-cfs/skopeo-cfs/internal/reflinks"
)

// refused are the layouts that containers-storage can't take: a path that occurs
// twice, an artifact.
var refused = map[string]bool{"dup": true, "sbom": true}

// all builds every stand-in, which takes minutes.
var all = flag.Bool("all", false, "link every program of both generations")

// A linked program copies every image of every repository into
// containers-storage. It is the same image; with the changed call it has its own
// manifest, and its files share their blocks with the repository.
func TestLinkedProgramsCopyImages(t *testing.T) {
	if !*all {
		t.Skip("make link-test has this one")
	}
	needs.Root(t)
	needs.Tool(t, "make", "filefrag", "mkfs.xfs")
	for name, c := range map[string]struct {
		standIn
		share   bool
		command []string // with IMAGE and, where it takes that, ID
	}{
		"podman up to 5.6":             {podman5, false, []string{"pull", "-q", "IMAGE"}},
		"podman up to 5.6, sharing":    {podman5, true, []string{"pull", "-q", "IMAGE"}},
		"buildah of then, sharing":     {buildah5, true, []string{"from", "IMAGE"}},
		"skopeo of then, sharing":      {skopeo5, true, []string{"copy", "IMAGE", "containers-storage:@ID"}},
		"podman 6":                     {podman6, false, []string{"pull", "-q", "IMAGE"}},
		"podman 6, sharing":            {podman6, true, []string{"pull", "-q", "IMAGE"}},
		"buildah of podman 6, sharing": {buildah6, true, []string{"from", "IMAGE"}},
		"skopeo of podman 6, sharing":  {skopeo6, true, []string{"copy", "IMAGE", "containers-storage:@ID"}},
	} {
		t.Run(name, func(t *testing.T) {
			tree := c.makeTree(t)
			flags := []string{"--module-dir", c.moduleDir(t), tree}
			if c.share {
				flags = append([]string{"--share-blocks"}, flags...)
			}
			_, err := link(t, flags...)
			require.NoError(t, err)
			program := c.build(t, tree)
			at := reflinks.XFS(t)
			for _, repository := range fixtures.Repositories {
				require.NoError(t, fixtures.UnpackTo(at, repository))
				store := newStore(t, at, repository)
				layouts := fixtures.Layouts(t, repository)
				for layout, image := range layouts {
					id := image.Config.Encoded()
					args := strings.NewReplacer("IMAGE", "composefs:["+filepath.Join(at, repository)+"]@"+image.Config.String(), "ID", id)
					command := []string{program}
					for _, arg := range c.command {
						command = append(command, args.Replace(arg))
					}
					out, err := store.run(command...)
					if refused[layout] {
						assert.Error(t, err, layout)
						continue
					}
					require.NoError(t, err, layout)
					if c.project() != "skopeo" {
						assert.Equal(t, id+"\n", out)
					}
				}
				store.assertHas(t, layouts, c.share)
				if c.share {
					assert.Positive(t, shared(t, filepath.Join(store.root, "overlay")), "no file shares its blocks")
				} else {
					assert.Zero(t, shared(t, filepath.Join(store.root, "overlay")))
				}
			}
		})
	}
}

// testStore is a containers-storage directory that programs use by default.
type testStore struct{ root, runRoot, conf string }

func newStore(t *testing.T, at, name string) testStore {
	t.Helper()
	s := testStore{filepath.Join(at, "store of "+name), t.TempDir(), filepath.Join(t.TempDir(), "storage.conf")}
	write(t, s.conf, "[storage]\ndriver = \"overlay\"\ngraphroot = \""+s.root+"\"\nrunroot = \""+s.runRoot+"\"\n")
	t.Cleanup(func() { _ = unix.Unmount(filepath.Join(s.root, "overlay"), unix.MNT_DETACH) })
	return s
}

// run runs a program on the store and returns its standard output.
func (s testStore) run(command ...string) (string, error) {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = append(os.Environ(), "CONTAINERS_STORAGE_CONF="+s.conf)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", &failure{err, stderr.String()}
	}
	return stdout.String(), nil
}

// failure is a program's that failed.
type failure struct {
	error
	stderr string
}

func (f *failure) Error() string { return f.error.Error() + ": " + f.stderr }

// assertHas demands that the store has the images, as the repository's manifests
// describe them if original is set.
func (s testStore) assertHas(t *testing.T, layouts map[string]fixtures.Image, original bool) {
	t.Helper()
	store, err := storage.GetStore(storage.StoreOptions{GraphRoot: s.root, RunRoot: s.runRoot, GraphDriverName: "overlay"})
	require.NoError(t, err)
	defer func() { _, err := store.Shutdown(true); assert.NoError(t, err) }()
	images, err := store.Images()
	require.NoError(t, err)
	got := map[string]digest.Digest{}
	for _, image := range images {
		got[image.ID] = image.Digest
	}
	want := map[string]digest.Digest{}
	for layout, image := range layouts {
		if refused[layout] {
			continue
		}
		want[image.Config.Encoded()] = image.Manifest
		if !original {
			want[image.Config.Encoded()] = got[image.Config.Encoded()]
		}
	}
	assert.Equal(t, want, got)
}

// sharedExtent is a line of filefrag -v about blocks that are another file's, too.
var sharedExtent = regexp.MustCompile(`(?m)^ +\d+:.*\bshared\b`)

// shared returns how many files below a directory share blocks with others.
func shared(t *testing.T, dir string) int {
	t.Helper()
	out, err := exec.Command("find", dir, "-type", "f", "-size", "+0", "-exec", "filefrag", "-v", "{}", "+").Output()
	require.NoError(t, err)
	return len(sharedExtent.FindAll(out, -1))
}
