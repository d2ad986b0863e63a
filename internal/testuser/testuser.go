// Package testuser makes a user of the system who is not root, for tests of what
// such users do with containers-storage.
package testuser

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/internal/needs"
)

// User is a user of the system, for the time of a test.
type User struct {
	Home     string
	UID, GID int
	Env      []string // of the programs that the user runs
}

// New makes a user who may use the IDs that user namespaces need. It needs root
// and the programs that manage users, without which the test is skipped. A
// process makes one at a time.
func New(t testing.TB) User {
	t.Helper()
	needs.Root(t)
	needs.Tool(t, "useradd", "usermod", "userdel", "newuidmap", "newgidmap")
	name := fmt.Sprintf("composefs-test-%d", os.Getpid())
	u := User{Home: t.TempDir()}
	run(t, "useradd", "--no-create-home", "--home-dir", u.Home, "--shell", "/bin/sh", "--user-group", name)
	t.Cleanup(func() { run(t, "userdel", name) })
	entry, err := user.Lookup(name)
	check(t, err)
	u.UID, err = strconv.Atoi(entry.Uid)
	check(t, err)
	u.GID, err = strconv.Atoi(entry.Gid)
	check(t, err)
	if ranges, err := os.ReadFile("/etc/subuid"); err != nil || !strings.Contains(string(ranges), name+":") {
		run(t, "usermod", "--add-subuids", "2000000-2065535", "--add-subgids", "2000000-2065535", name)
	}
	Searchable(t, u.Home)
	runtime := filepath.Join(u.Home, "run")
	check(t, os.Mkdir(runtime, 0o700))
	u.Owns(t, u.Home)
	u.Owns(t, runtime)
	u.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + u.Home, "USER=" + name, "XDG_RUNTIME_DIR=" + runtime,
	}
	return u
}

// Owns gives a file to the user.
func (u User) Owns(t testing.TB, name string) {
	t.Helper()
	check(t, os.Lchown(name, u.UID, u.GID))
}

// Command returns a program as the user runs it, in their home directory.
func (u User) Command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Env, cmd.Dir = slices.Clone(u.Env), u.Home
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(u.UID), Gid: uint32(u.GID)}}
	return cmd
}

// Podman returns podman, with the driver overlay, as the user runs it. Whoever
// has run it calls StopPodman before the test ends.
func (u User) Podman(args ...string) *exec.Cmd {
	return u.Command("podman", append([]string{"--cgroup-manager", "cgroupfs", "--storage-driver", "overlay"}, args...)...)
}

// StopPodman ends the process that podman leaves to hold the user's namespace.
func (u User) StopPodman(t testing.TB) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(u.Home, "run/libpod/tmp/pause.pid"))
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	check(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	check(t, err)
	check(t, unix.Kill(pid, unix.SIGKILL))
	for start := time.Now(); unix.Kill(pid, 0) == nil; time.Sleep(10 * time.Millisecond) {
		if time.Since(start) > time.Minute {
			t.Fatalf("process %d does not end", pid)
		}
	}
}

// Searchable lets everybody reach a test's temporary directory.
func Searchable(t testing.TB, dir string) {
	t.Helper()
	var above []string
	for ; dir != filepath.Clean(os.TempDir()) && dir != "/"; dir = filepath.Dir(dir) {
		above = append(above, dir)
	}
	for _, dir := range slices.Backward(above) {
		check(t, os.Chmod(dir, 0o755))
	}
}

func run(t testing.TB, command ...string) {
	t.Helper()
	if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%q: %v: %s", command, err, out)
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
