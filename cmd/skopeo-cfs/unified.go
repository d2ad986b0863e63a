package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/containers/image/v5/docker/reference"
	imagestorage "github.com/containers/image/v5/storage"
	"github.com/containers/image/v5/transports"
	"github.com/containers/image/v5/types"
	"github.com/containers/storage"
	"github.com/containers/storage/pkg/reexec"
	"github.com/containers/storage/pkg/unshare"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/bootc"
	composefs "github.com/skopeo-cfs/skopeo-cfs/reference"
	"github.com/skopeo-cfs/skopeo-cfs/transport"
)

// bootc has a containers-storage of its own: ostree/bootc/storage in the physical root,
// which /usr/lib/bootc/storage leads to. On hosts with a composefs repository ostree/bootc
// is a symlink, and the store is composefs/bootc/storage. Its layers are overlay's, and
// bootc runs podman on it with /run/bootc/storage for what is of this boot. The only
// locks are those of containers-storage, below these two directories. An image has the
// name that bootc pulls it by, which is that in the deployment's origin; one that bootc
// restores, as another has that name, has a name made of its ID. (crates/lib/src in
// bootc: podstorage.rs, store/mod.rs, image.rs)
const (
	unifiedLink    = "ostree/bootc"
	unifiedTarget  = "../composefs/bootc"
	unifiedRoot    = "composefs/bootc"
	unifiedRunRoot = "/run/bootc/storage"
	recoveredName  = "localhost/bootc-recovered"
)

// errUnifiedLayout: bootc's storage is not where it should be, or not as it should be.
var errUnifiedLayout = errors.New("bootc's storage is not as this version of skopeo-cfs knows it")

// findUnified returns the root directory of bootc's containers-storage in a physical
// root.
func findUnified(sysroot string) (string, error) {
	dirs := []string{filepath.Join(sysroot, filepath.Dir(unifiedLink))}
	root := filepath.Join(sysroot, unifiedLink)
	target, err := os.Readlink(root)
	switch {
	case err == nil && target == unifiedTarget:
		root = filepath.Join(sysroot, unifiedRoot)
		dirs = append(dirs, filepath.Dir(root))
	case err == nil:
		return "", fmt.Errorf("%w: %s leads to %q", errUnifiedLayout, root, target)
	case !errors.Is(err, unix.EINVAL): // which is that it is no symlink
		return "", fmt.Errorf("%w: %w", errUnifiedLayout, err)
	}
	store := filepath.Join(root, "storage")
	if _, err := os.Lstat(store); errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%w: there is no %s; bootc makes it where it needs one, as for \"bootc image cmd list\"", errUnifiedLayout, store)
	}
	dirs = append(dirs, root, store)
	for _, name := range []string{"overlay", "overlay-layers", "overlay-images"} {
		dirs = append(dirs, filepath.Join(store, name))
	}
	for _, dir := range dirs {
		info, err := os.Lstat(dir)
		if err != nil {
			return "", fmt.Errorf("%w: %w", errUnifiedLayout, err)
		}
		if !info.IsDir() {
			return "", fmt.Errorf("%w: %s is not a directory", errUnifiedLayout, dir)
		}
	}
	return store, nil
}

// runUnified copies the image of a deployment into bootc's storage.
func (o *copyToStorageOptions) runUnified(ctx context.Context, stdout io.Writer) (err error) {
	switch {
	case o.source.flags.Changed("target"), o.recipient.name != "":
		return errors.New("--unified can't be given together with --target or --to-user")
	case unshare.IsRootless():
		return errors.New("--unified needs root")
	}
	host, err := o.host.open()
	if err != nil {
		return err
	}
	root, err := findUnified(host.Sysroot)
	if err != nil {
		return err
	}
	deployment, err := findSource(host, o.name)
	if err != nil {
		return err
	}
	if !isInMountNamespace() {
		return restartInMountNamespace(ctx, stdout)
	}
	if err := makeWritable(root); err != nil {
		return err
	}
	run, remove, err := unifiedRun(host)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	from, err := composefs.WithDeployment(repositoryOf(host), deployment.ID)
	if err != nil {
		return err
	}
	ref := transport.NewReference(from)
	to, err := unifiedName(ctx, ref, deployment, "containers-storage:[overlay@"+root+"+"+run+"]")
	if err != nil {
		return err
	}
	if !o.quiet {
		_, name, _ := strings.Cut(to, "]")
		fmt.Fprintf(stdout, "Copying the %s deployment %.12s to %s as %s\n", deployment.State, deployment.ID, root, name)
	}
	return o.copyOptions.run(ctx, transports.ImageName(ref), to, stdout)
}

// unifiedRun returns the directory for what is of this boot, and what removes it, if it
// is to be removed.
func unifiedRun(host *bootc.Host) (dir string, remove func() error, err error) {
	if host.Running {
		return unifiedRunRoot, func() error { return nil }, os.MkdirAll(filepath.Dir(unifiedRunRoot), 0o755)
	}
	// Nothing of a host that is not running is mounted or in use.
	dir, err = os.MkdirTemp("", "skopeo-cfs-run-")
	return dir, func() error { return os.RemoveAll(dir) }, err
}

// unifiedName returns the name that the deployment's image gets in a store: that of its
// origin, unless that is another image's there, or none that a store can have.
func unifiedName(ctx context.Context, ref types.ImageReference, deployment *bootc.Deployment, store string) (string, error) {
	src, err := openComposefs(ctx, ref, nil)
	if err != nil {
		return "", err
	}
	defer src.Close()
	id := src.Image().ConfigDescriptor.Digest
	recovered := store + recoveredName + ":" + id.Encoded()[:12]
	if deployment.Image.Transport != "docker" && deployment.Image.Transport != imagestorage.Transport.Name() {
		return recovered, nil
	}
	named, err := reference.ParseNormalizedNamed(deployment.Image.Name)
	if err != nil {
		return recovered, nil
	}
	if digested, ok := named.(reference.Digested); ok && digested.Digest() != src.Image().ManifestDigest {
		return recovered, nil
	}
	name := store + reference.TagNameOnly(named).String()
	dest, err := parseImageName(ctx, name)
	if err != nil {
		return "", err
	}
	other, err := isAnothers(dest, reference.TagNameOnly(named).String(), id)
	if err != nil {
		return "", fmt.Errorf("looking for %s in bootc's storage: %w", named, err)
	}
	if other {
		return recovered, nil
	}
	return name, nil
}

// isAnothers tells whether a name in the store of a reference is that of another image
// than the one with an ID.
func isAnothers(dest types.ImageReference, name string, id digest.Digest) (bool, error) {
	store, err := storeOf(dest)
	if err != nil {
		return false, err
	}
	found, err := store.Lookup(name)
	if errors.Is(err, storage.ErrLayerUnknown) {
		return false, nil
	}
	return err == nil && found != id.Encoded(), err
}

// inMountNamespace ends the name of the program that was started in a mount namespace of
// its own.
const inMountNamespace = "-in-a-mount-namespace"

func isInMountNamespace() bool {
	ours, err := os.Readlink("/proc/self/ns/mnt")
	parents, parentErr := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", os.Getppid()))
	return strings.HasSuffix(os.Args[0], inMountNamespace) && err == nil && parentErr == nil && ours != parents
}

// restartInMountNamespace runs the command in a mount namespace of its own, and returns
// what it came to: there /sysroot can be made writable, and what containers-storage
// mounts is gone afterwards. bootc does so, too.
func restartInMountNamespace(ctx context.Context, stdout io.Writer) error {
	runtime.LockOSThread() // whose end would end the process
	defer runtime.UnlockOSThread()
	cmd := reexec.CommandContext(ctx, append([]string{os.Args[0] + inMountNamespace}, os.Args[1:]...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS, Pdeathsig: unix.SIGKILL}
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		return exitCode(exit.ExitCode())
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("running in a mount namespace: %w", err)
	}
	return nil
}

// makeWritable makes the mount that has a directory writable, for this process: on a
// host that was booted, the physical root is not.
func makeWritable(dir string) error {
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		return fmt.Errorf("looking at the filesystem of %s: %w", dir, err)
	}
	if stat.Flags&unix.ST_RDONLY == 0 {
		return nil
	}
	for at := dir; ; at = filepath.Dir(at) {
		err := unix.MountSetattr(unix.AT_FDCWD, at, unix.AT_SYMLINK_NOFOLLOW, &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY})
		if err == nil || !errors.Is(err, unix.EINVAL) || at == "/" {
			if err != nil {
				return fmt.Errorf("making %s writable: %w", at, err)
			}
			return nil
		}
	}
}
