package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
)

// ordinary is a user of the system who is not root, for the time of a test.
type ordinary struct {
	name, home string
	uid, gid   int
	env        []string
}

// newUser makes a user who may use the IDs that user namespaces need.
func newUser(t testing.TB) ordinary {
	t.Helper()
	needRoot(t)
	needTool(t, "useradd", "usermod", "userdel", "newuidmap", "newgidmap")
	u := ordinary{name: fmt.Sprintf("composefs-test-%d", os.Getpid()), home: t.TempDir()}
	tool(t, "useradd", "--no-create-home", "--home-dir", u.home, "--shell", "/bin/sh", "--user-group", u.name)
	t.Cleanup(func() { tool(t, "userdel", u.name) })
	entry, err := user.Lookup(u.name)
	require.NoError(t, err)
	u.uid, err = strconv.Atoi(entry.Uid)
	require.NoError(t, err)
	u.gid, err = strconv.Atoi(entry.Gid)
	require.NoError(t, err)
	if ranges, err := os.ReadFile("/etc/subuid"); err != nil || !strings.Contains(string(ranges), u.name+":") {
		tool(t, "usermod", "--add-subuids", "2000000-2065535", "--add-subgids", "2000000-2065535", u.name)
	}
	searchable(t, u.home)
	run := filepath.Join(u.home, "run")
	require.NoError(t, os.Mkdir(run, 0o700))
	u.owns(t, u.home)
	u.owns(t, run)
	u.env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + u.home, "USER=" + u.name, "XDG_RUNTIME_DIR=" + run,
	}
	return u
}

// owns gives a file to the user.
func (u ordinary) owns(t testing.TB, name string) {
	t.Helper()
	require.NoError(t, os.Lchown(name, u.uid, u.gid))
}

// command returns the command as the user runs it.
func (u ordinary) command(t testing.TB, args ...string) *command {
	t.Helper()
	c := newCommand(t, args...)
	c.asUser(t, u.uid, u.gid)
	c.setEnv(t, u.env)
	c.Dir = u.home
	return c
}

// podman runs podman as the user does.
func (u ordinary) podman(t testing.TB, args ...string) string {
	t.Helper()
	needTool(t, "podman")
	cmd := exec.Command("podman", append([]string{"--cgroup-manager", "cgroupfs", "--storage-driver", "overlay"}, args...)...)
	cmd.Env, cmd.Dir = u.env, u.home
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(u.uid), Gid: uint32(u.gid)}}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, stderr.String())
	return string(out)
}

// stopPodman ends the process that podman leaves to hold the user's namespace.
func (u ordinary) stopPodman(t testing.TB) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(u.home, "run/libpod/tmp/pause.pid"))
	if os.IsNotExist(err) {
		return
	}
	require.NoError(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	require.NoError(t, err)
	assert.NoError(t, unix.Kill(pid, unix.SIGKILL))
	assert.Eventually(t, func() bool { return unix.Kill(pid, 0) != nil }, time.Minute, 10*time.Millisecond)
}

// A user copies from the repository in their home to their containers-storage,
// both of which have no need to be named.
func TestRootlessCopyToStorage(t *testing.T) {
	u := newUser(t)
	require.NoError(t, os.MkdirAll(filepath.Join(u.home, ".var/lib"), 0o755))
	require.NoError(t, fixtures.UnpackTo(filepath.Join(u.home, ".var/lib"), "sha512"))
	require.NoError(t, os.Rename(filepath.Join(u.home, ".var/lib/sha512"), filepath.Join(u.home, ".var/lib/composefs")))

	u.command(t, "copy", "composefs:hello", "containers-storage:localhost/hello:latest").run(t).requireSuccess(t)
	want := fixtures.Expected(t)["hello"]
	got := u.command(t, "inspect", "--raw", "--config", "containers-storage:localhost/hello:latest").run(t)
	got.requireSuccess(t)
	assert.Equal(t, want.Config, digest.FromString(got.stdout))

	got = u.command(t, "inspect", "composefs:hello").run(t)
	got.requireSuccess(t)
	assert.Contains(t, got.stdout, want.Manifest.String())
	got = u.command(t, "list").run(t)
	got.requireSuccess(t)
	assert.Contains(t, got.stdout, "localhost/hello:latest")

	t.Cleanup(func() { u.stopPodman(t) })
	var images []struct{ ID string }
	require.NoError(t, json.Unmarshal([]byte(u.podman(t, "images", "--no-trunc", "--format", "json")), &images))
	require.Len(t, images, 1)
	assert.Equal(t, want.Config.Encoded(), images[0].ID)
}

func TestRootlessCopyIsInterrupted(t *testing.T) {
	u := newUser(t)
	repo, layer := newLarge(t)
	searchable(t, repo)
	const to = "containers-storage:localhost/x:latest"
	storage := filepath.Join(u.home, ".local/share/containers/storage")
	for name, send := range map[string]func(c *command) error{
		"by a signal": func(c *command) error { return c.Process.Signal(unix.SIGTERM) },
		// As a terminal does it: to the process in the namespace as well.
		"by a key": func(c *command) error { return unix.Kill(-c.Process.Pid, unix.SIGINT) },
	} {
		t.Run(name, func(t *testing.T) {
			c := u.command(t, "copy", "--insecure-policy", "composefs:["+repo+"]endless", to)
			c.Args = append(c.Args, "--tmpdir", c.tmp)
			c.SysProcAttr.Setpgid = true
			c.start(t)
			c.waitUntil(t, "half way", func() bool { return sizeBelow(c.tmp) > pieceSize })
			require.NoError(t, send(c))
			c.wait(t).assertFailure(t, "interrupted by ")
			store{root: storage}.assertEmpty(t)
		})
	}
	u.command(t, "copy", "-q", "--insecure-policy", "composefs:["+repo+"]large", to).run(t).requireSuccess(t)
	got := u.command(t, "inspect", to).run(t)
	got.requireSuccess(t)
	assert.Contains(t, got.stdout, layer.String())
}
