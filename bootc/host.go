// Package bootc reads the deployments of a host that bootc has installed and that
// boots from a composefs repository: which deployments there are, their images,
// and which one is booted, staged or the rollback.
//
// The files below the physical root are not trusted: no path leads out of it, and
// sizes are bounded. A deployment that can't be understood does not hide others.
package bootc

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/beneath"
)

// Host is what Open found of a host. It is not to be changed, may be used
// concurrently, and keeps nothing open.
type Host struct {
	// Sysroot is the physical root.
	Sysroot string
	// Running tells whether it is that of the running system. That of another
	// has nothing booted, staged or to roll back to, and all its deployments
	// are Other.
	Running bool
	// Deployments are in the order booted, staged, rollback, others; among
	// the others, those of the boot menu first, in its order, then the latest
	// first.
	Deployments []Deployment
	// Warnings are what could not be read, and is of no more consequence than
	// that the states which it decides are missing.
	Warnings []error

	ostree    bool               // the running system has booted from ostree
	menu      []string           // IDs in the order of the boot menu, none where it can't be read
	algorithm fsverity.Algorithm // of the repository, zero where it can't be told
}

// Options are optional.
type Options struct {
	// Root is where the running system has proc, run, boot, efi and sysroot,
	// "" for /.
	Root string
}

// maxOriginSize and the like bound the files that are read whole, in bytes.
const (
	maxOriginSize  = 64 << 10
	maxStagedSize  = 64 << 10
	maxCommandLine = 64 << 10
	// A manifest and a config of 4 MiB each, and some space between words.
	maxImageInfoSize = 10 << 20
)

const deployDir = "state/deploy"

// Open reads the deployments below the physical root at sysroot, "" for the
// running system's, which is /sysroot. The error wraps ErrNotBootc or ErrOSTree
// where there are none of bootc's, or is one of package fs.
func Open(sysroot string, options *Options) (*Host, error) {
	root := "/"
	if options != nil && options.Root != "" {
		root = options.Root
	}
	running := filepath.Join(root, "sysroot")
	h := &Host{Sysroot: sysroot}
	if sysroot == "" {
		h.Sysroot, h.Running = running, true
	} else {
		h.Running = sameFile(sysroot, running)
	}
	if err := h.read(root); err != nil {
		return nil, fmt.Errorf("reading the deployments of %s: %w", h.Sysroot, err)
	}
	return h, nil
}

// sameFile tells whether two paths lead to the same place.
func sameFile(a, b string) bool {
	infoA, errA := os.Stat(a)
	infoB, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(infoA, infoB)
}

func (h *Host) read(root string) error {
	if h.Running {
		h.ostree = exists(filepath.Join(root, "run/ostree-booted"))
	}
	dir, err := openDir(h.Sysroot)
	if errors.Is(err, fs.ErrNotExist) && h.Running {
		return h.notBootc(nil)
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	deploy, err := beneath.Open(dir, deployDir, unix.O_DIRECTORY)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return h.notBootc(dir)
	}
	if err != nil {
		return err
	}
	defer deploy.Close()
	names, err := deploy.Readdirnames(0)
	if err != nil {
		return err
	}
	for _, name := range names {
		if _, err := fsverity.Parse(name); err == nil {
			h.Deployments = append(h.Deployments, readDeployment(deploy, name))
		}
	}
	// A repository that is not there, or no longer read, is no fault of this host's
	// list: without its algorithm, the deployments tell which arguments are meant.
	h.algorithm, _ = composefsrepo.AlgorithmOf(filepath.Join(h.Sysroot, "composefs"))
	rootDir, err := openDir(root)
	if err != nil {
		return err
	}
	defer rootDir.Close()
	if h.Running {
		h.readBooted(root)
		h.readStaged(rootDir)
	}
	h.readBootMenu(dir, rootDir)
	h.sort()
	return nil
}

// notBootc returns the error of a physical root, nil if there is none, without
// bootc's deployments.
func (h *Host) notBootc(sysroot *os.File) error {
	if h.ostree {
		return ErrOSTree
	}
	if sysroot == nil {
		return fmt.Errorf("%w: there is no such directory", ErrNotBootc)
	}
	if d, err := beneath.Open(sysroot, "ostree/repo", unix.O_DIRECTORY); err == nil {
		d.Close()
		return ErrOSTree
	}
	return fmt.Errorf("%w: it has no %s", ErrNotBootc, deployDir)
}

func openDir(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY, 0)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// warn adds a warning.
func (h *Host) warn(doing string, err error) {
	h.Warnings = append(h.Warnings, fmt.Errorf("%s: %w", doing, err))
}

// sort puts the deployments into their order.
func (h *Host) sort() {
	position := func(d Deployment) int {
		if i := slices.Index(h.menu, d.ID); i >= 0 {
			return i
		}
		return len(h.menu)
	}
	slices.SortFunc(h.Deployments, func(a, b Deployment) int {
		return cmp.Or(
			cmp.Compare(slices.Index(states, a.State), slices.Index(states, b.State)),
			cmp.Compare(position(a), position(b)),
			b.Written.Compare(a.Written),
			cmp.Compare(a.ID, b.ID),
		)
	})
}

// shortID is the number of digits that stand for an ID in messages.
const shortID = 12

// ImageInfo returns the manifest in the .imginfo file beside a deployment's
// origin: not the bytes that were pulled, but a re-serialisation of them. The
// error is one of fs.ErrNotExist where there is none, or wraps ErrOrigin.
func (h *Host) ImageInfo(d *Deployment) (manifest []byte, err error) {
	name := filepath.Join(deployDir, d.ID, d.ID+".imginfo")
	dir, err := openDir(h.Sysroot)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	data, err := beneath.ReadFile(dir, name, maxImageInfoSize)
	if err == nil {
		manifest, err = parseImageInfo(data)
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", filepath.Join(h.Sysroot, name), err)
	}
	return manifest, nil
}
