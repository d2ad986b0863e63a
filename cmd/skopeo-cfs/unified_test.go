package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/internal/bootchost"
	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
	"github.com/skopeo-cfs/skopeo-cfs/internal/reflinks"
)

// newUnified makes the containers-storage that bootc has on a host, as bootc makes it.
func newUnified(t testing.TB, h *bootchost.Host) store {
	t.Helper()
	run, err := os.MkdirTemp("/tmp", "run") // podman takes no path of more than 50 characters
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, os.RemoveAll(run)) })
	s := store{filepath.Join(h.Repository, "bootc/storage"), run}
	made := store{s.root + ".tmp", s.run}
	require.NoError(t, os.MkdirAll(made.root, 0o755))
	made.podman(t, "images")
	unmountBelow(t, made.root)
	require.NoError(t, os.Rename(made.root, s.root))
	require.NoError(t, os.Mkdir(filepath.Join(h.Sysroot, "ostree"), 0o755))
	require.NoError(t, os.Symlink("../composefs/bootc", filepath.Join(h.Sysroot, "ostree/bootc")))
	t.Cleanup(func() {
		unmountBelow(t, s.root)
		unmountBelow(t, s.run)
	})
	// podman has noted the path in its database, as it has bootc's.
	require.NoError(t, os.RemoveAll(filepath.Join(s.root, "libpod")))
	return s
}

// unifiedImage is what podman says of an image.
type unifiedImage struct {
	ID, Digest string
	Names      []string
}

func (s store) unifiedImages(t testing.TB) []unifiedImage {
	t.Helper()
	var images []unifiedImage
	require.NoError(t, json.Unmarshal([]byte(s.podman(t, "images", "--no-trunc", "--format", "json")), &images))
	return images
}

func unifiedOf(image fixtures.Image, name string) unifiedImage {
	return unifiedImage{image.Config.Encoded(), image.Manifest.String(), []string{name}}
}

// On a running host, whose physical root is mounted read-only, the booted image arrives
// where bootc and podman find it, under the name that bootc pulls it by, and with the
// blocks of the repository's objects.
func TestUnifiedStorageOfARunningHost(t *testing.T) {
	needTool(t, "unshare", "chroot", "mount")
	t.Setenv("TMPDIR", reflinks.XFS(t))
	t.Run("on XFS", func(t *testing.T) {
		h := bootchost.New(t, "sha512", bootchost.Deployment{Layout: "hello", Name: "quay.io/org/os:42"}, bootchost.Deployment{Layout: "sizes", Name: "quay.io/org/os:42"})
		h.CommandLine(t, "composefs=%s", 0)
		h.Stage(t, 1, false)
		s := newUnified(t, h)
		r := newRunningHost(t, h, "composefs:"+h.IDs[0])
		r.script = strings.Replace(r.script, "sysroot\nmount --rbind", "sysroot\nmount -o remount,bind,ro sysroot\nmount --rbind", 1)
		require.Contains(t, r.script, "remount,bind,ro")
		out := r.run(t, "copy-to-storage", "--unified")
		assert.Contains(t, out, "/sysroot/composefs/bootc/storage as quay.io/org/os:42\n")
		assert.Regexp(t, `17 files, [1-9][0-9.]* k?B shared, `, out)
		assert.Equal(t, []unifiedImage{unifiedOf(h.Images[0], "quay.io/org/os:42")}, s.unifiedImages(t))
		at := strings.TrimSpace(s.podman(t, "image", "mount", "quay.io/org/os:42"))
		assert.NotEmpty(t, namesIn(t, at))
		s.podman(t, "image", "umount", "--all")

		// The name stays the booted image's.
		out = r.run(t, "copy-to-storage", "--unified", "--source", "@staged")
		recovered := "localhost/bootc-recovered:" + h.Images[1].Config.Encoded()[:12]
		assert.Contains(t, out, " as "+recovered+"\n")
		assert.ElementsMatch(t, []unifiedImage{unifiedOf(h.Images[0], "quay.io/org/os:42"), unifiedOf(h.Images[1], recovered)}, s.unifiedImages(t))
		r.run(t, "copy-to-storage", "--unified", "-q")
		assert.Len(t, s.unifiedImages(t), 2)
	})
}

// Of a host that is not running, each deployment's image gets a name that bootc knows
// it by, and nothing is left mounted.
func TestUnifiedStorageOfAnotherHost(t *testing.T) {
	needRoot(t)
	want := fixtures.Expected(t)
	h := bootchost.New(t, "sha512",
		bootchost.Deployment{Layout: "hello", Name: "quay.io/org/os"},
		bootchost.Deployment{Layout: "sizes", Name: "localhost/os:1", Form: "ostree-unverified-image:containers-storage:%s"},
		bootchost.Deployment{Layout: "many", Name: "/srv/layout:1", Form: "ostree-unverified-image:oci:%s"},
		bootchost.Deployment{Layout: "kinds", Name: "quay.io/org/pinned@" + want["kinds"].Manifest.String()},
		bootchost.Deployment{Layout: "rootdir", Name: "quay.io/org/pinned@" + want["many"].Manifest.String()},
	)
	s := newUnified(t, h)
	progress, err := os.Create(filepath.Join(t.TempDir(), "progress"))
	require.NoError(t, err)
	defer progress.Close()
	var images []unifiedImage
	for i, name := range []string{
		"quay.io/org/os:latest", "localhost/os:1", "localhost/bootc-recovered:" + h.Images[2].Config.Encoded()[:12],
		"quay.io/org/pinned@" + want["kinds"].Manifest.String(), "localhost/bootc-recovered:" + h.Images[4].Config.Encoded()[:12],
	} {
		c := newCommand(t, "copy-to-storage", "--unified", "--insecure-policy", "--sysroot", h.Sysroot, "--source", "@"+h.IDs[i], "--progress-fd", "3")
		c.ExtraFiles = []*os.File{progress}
		got := c.run(t) // which checks that no temporary file is left
		got.requireSuccess(t)
		assert.Contains(t, got.stdout, " as "+name+"\n")
		images = append(images, unifiedOf(h.Images[i], name))
	}
	lines, err := os.ReadFile(progress.Name())
	require.NoError(t, err)
	assert.Equal(t, len(images), strings.Count(string(lines), `"type":"Start"`))
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	require.NoError(t, err)
	assert.NotContains(t, string(mounts), s.root)
	assert.ElementsMatch(t, images, s.unifiedImages(t))
	newStore(t, t.TempDir()).podman(t, "--storage-opt", "additionalimagestore="+s.root, "image", "exists", "quay.io/org/os:latest")
}

// Where bootc's storage is not as it should be, nothing is written.
func TestUnifiedStorageIsRecognised(t *testing.T) {
	needRoot(t)
	for name, c := range map[string]struct {
		change func(t testing.TB, h *bootchost.Host)
		text   string
	}{
		"no ostree":         {func(t testing.TB, h *bootchost.Host) { require.NoError(t, os.RemoveAll(h.Sysroot+"/ostree")) }, "no such file"},
		"no storage":        {func(t testing.TB, h *bootchost.Host) { require.NoError(t, os.RemoveAll(h.Repository+"/bootc/storage")) }, "bootc makes it"},
		"another link":      {relink("ostree/bootc", "/etc"), `leads to "/etc"`},
		"storage is a link": {relink("composefs/bootc/storage", "/etc"), "is not a directory"},
		"overlay is a link": {relink("composefs/bootc/storage/overlay", "/etc"), "is not a directory"},
		"another driver": {func(t testing.TB, h *bootchost.Host) {
			require.NoError(t, os.RemoveAll(h.Repository+"/bootc/storage/overlay-images"))
		}, "no such file"},
		"composefs is a link": {func(t testing.TB, h *bootchost.Host) {
			require.NoError(t, os.Rename(h.Repository, h.Root+"/elsewhere"))
			require.NoError(t, os.Symlink(h.Root+"/elsewhere", h.Repository))
		}, "is not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			h := bootchost.New(t, "sha512", bootchost.Deployment{Layout: "hello"})
			for _, dir := range []string{"overlay", "overlay-images", "overlay-layers"} {
				require.NoError(t, os.MkdirAll(filepath.Join(h.Repository, "bootc/storage", dir), 0o755))
			}
			require.NoError(t, os.Mkdir(h.Sysroot+"/ostree", 0o755))
			require.NoError(t, os.Symlink("../composefs/bootc", h.Sysroot+"/ostree/bootc"))
			c.change(t, h)
			runCommand(t, "copy-to-storage", "--unified", "--insecure-policy", "--sysroot", h.Sysroot).assertFailure(t, "bootc's storage is not as", c.text)
		})
	}
}

// A signal reaches the process in the mount namespace, here one that waits for whoever
// collects the repository's garbage.
func TestUnifiedCopyIsInterrupted(t *testing.T) {
	needRoot(t)
	h := bootchost.New(t, "sha512", bootchost.Deployment{Layout: "hello"})
	newUnified(t, h)
	dir, err := os.Open(h.Repository)
	require.NoError(t, err)
	defer dir.Close()
	require.NoError(t, unix.Flock(int(dir.Fd()), unix.LOCK_EX))
	c := newCommand(t, "copy-to-storage", "--unified", "--insecure-policy", "--sysroot", h.Sysroot)
	c.start(t)
	children := fmt.Sprintf("/proc/%d/task/*/children", c.Process.Pid)
	c.waitUntil(t, "in a mount namespace", func() bool {
		lists, err := filepath.Glob(children)
		require.NoError(t, err)
		for _, list := range lists {
			if pids, _ := os.ReadFile(list); len(pids) > 0 {
				return true
			}
		}
		return false
	})
	got := c.interrupt(t, unix.SIGTERM)
	assert.Equal(t, 1, got.code)
	assert.Contains(t, got.stderr, "interrupted by SIGTERM")
}

// relink puts a symlink in the place of a file.
func relink(name, target string) func(t testing.TB, h *bootchost.Host) {
	return func(t testing.TB, h *bootchost.Host) {
		path := filepath.Join(h.Sysroot, name)
		require.NoError(t, os.RemoveAll(path))
		require.NoError(t, os.Symlink(target, path))
	}
}

func TestUnifiedStorageFlags(t *testing.T) {
	needRoot(t)
	runCommand(t, "copy-to-storage", "--unified", "--target", "x").assertFailure(t, "can't be given together with --target")
	runCommand(t, "copy-to-storage", "--unified", "--to-user", "x").assertFailure(t, "or --to-user")
	newUser(t).command(t, "copy-to-storage", "--unified").run(t).assertFailure(t, "needs root")
	h := bootchost.New(t, "sha512", bootchost.Deployment{Layout: "hello"})
	s := newUnified(t, h)
	runCommand(t, "copy-to-storage", "--unified", "--policy", rejecting(t), "--sysroot", h.Sysroot).assertFailure(t, "rejected by policy")
	assert.Empty(t, s.unifiedImages(t))
	// A name alone makes no mount namespace.
	binary, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(binary, "copy-to-storage", "--unified", "--insecure-policy", "--sysroot", h.Sysroot)
	cmd.Args[0] = "x" + inMountNamespace
	cmd.Env = append(os.Environ(), asCommand+"=1", "TMPDIR="+t.TempDir())
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	require.NoError(t, err)
	assert.NotContains(t, string(mounts), s.root, "what was mounted is left")
}
