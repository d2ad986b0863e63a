package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"

	"golang.org/x/sys/unix"
)

// inNamespace in the environment tells that the process has been in
// enterNamespace.
const inNamespace = "SKOPEO_CFS_BENCH_IN_NAMESPACE"

const highestPriority = -20

// enterNamespace starts the program again in a mount namespace of its own, so
// that whatever is mounted ends with it, even if it is killed, and with the
// highest priority. Users other than
// root become root in a user namespace. Where root may not have a namespace, the
// program goes on without.
func enterNamespace() error {
	if os.Getenv(inNamespace) != "" {
		return hideCache()
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	environment := append(os.Environ(), inNamespace+"=1")
	if os.Getuid() != 0 {
		unshare, err := exec.LookPath("unshare")
		if err != nil {
			return fmt.Errorf("root is needed, or a user namespace: %w", err)
		}
		// What containers/storage would set if it had made the namespace, and looks for.
		environment = append(environment, "_CONTAINERS_USERNS_CONFIGURED=done",
			fmt.Sprintf("_CONTAINERS_ROOTLESS_UID=%d", os.Getuid()), fmt.Sprintf("_CONTAINERS_ROOTLESS_GID=%d", os.Getgid()))
		args := append([]string{"unshare", "--map-root-user", "--map-auto", "--mount", "--", self}, os.Args[1:]...)
		return fmt.Errorf("starting %s: %w", unshare, unix.Exec(unshare, args, environment))
	}
	runtime.LockOSThread() // it is this thread that gets all this, and that lives on in the new program
	defer runtime.UnlockOSThread()
	// What else the machine is doing shall wait: of ways that use one core and
	// ways that use all, it would slow the latter more.
	if err := unix.Setpriority(unix.PRIO_PROCESS, 0, highestPriority); err != nil && !errors.Is(err, unix.EACCES) {
		return fmt.Errorf("taking precedence over other processes: %w", err)
	}
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return nil
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("keeping mounts private: %w", err)
	}
	return fmt.Errorf("starting again: %w", unix.Exec(self, os.Args, environment))
}

// cache is where copies as root remember which blobs are the same.
const cache = "/var/lib/containers/cache"

// hideCache gives the copies that are measured a cache of their own.
func hideCache() error {
	err := unix.Mount("tmpfs", cache, "tmpfs", 0, "")
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return nil
	}
	return err
}
