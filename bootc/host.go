// Package bootc reads the deployments of a host that bootc has installed, and
// that boots from a composefs repository: which there are, of which images, and
// what each is to the running system.
//
// What is below the physical root is not trusted: no path leads out of it, and
// sizes are bounded. A deployment that can't be understood hides no other.
package bootc

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/beneath"
)

// State is what a deployment is to the running system.
type State string

// The states.
const (
	Booted   State = "booted"   // the system that runs
	Staged   State = "staged"   // what the next shutdown makes the default
	Rollback State = "rollback" // the first of the boot menu that is neither
	Other    State = "other"    // any other
	Unknown  State = "unknown"  // rollback or other, which no boot entries tell
)

// states are in the order in which deployments are listed and searched.
var states = []State{Booted, Staged, Rollback, Unknown, Other}

// Deployment is a system that the host can boot.
type Deployment struct {
	// ID is the fs-verity digest of the deployment's EROFS image, in hex.
	ID    string
	State State
	// Image is the image that the deployment was made of, as its origin has
	// it; the zero Image where Err says why not.
	Image Image
	// ManifestDigest is that of the image, "" in older deployments, which have
	// an ImageInfo instead, and where Err says why not.
	ManifestDigest digest.Digest
	// BootType and BootDigest are how it boots and the digest of what it
	// boots; "" where the origin does not tell.
	BootType   BootType
	BootDigest string
	// Locked: it is staged, but shutting down will not make it the default.
	Locked bool
	// Written is when its origin was written, zero where there is none.
	Written time.Time
	// Err is what is wrong with its origin, and wraps ErrOrigin or the error of
	// reading it; nil where nothing is.
	Err error
}

// Verity returns the ID as a digest.
func (d *Deployment) Verity() fsverity.Digest {
	v, err := fsverity.Parse(d.ID)
	if err != nil {
		return fsverity.Digest{} // not an ID of Open's
	}
	return v
}

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

	ostree bool     // the running system has booted from ostree
	menu   []string // IDs in the order of the boot menu, none where it can't be read
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

// readDeployment reads what lies in the directory of a deployment.
func readDeployment(deploy *os.File, id string) Deployment {
	d := Deployment{ID: id, State: Other}
	if err := d.readOrigin(deploy); err != nil {
		d.Err = fmt.Errorf("deployment %s: %w", id, err)
	}
	return d
}

func (d *Deployment) readOrigin(deploy *os.File) error {
	f, info, err := beneath.OpenRegular(deploy, filepath.Join(d.ID, d.ID+".origin"))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: there is none", ErrOrigin)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	d.Written = info.ModTime()
	data, err := beneath.ReadAll(f, maxOriginSize)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrOrigin, err)
	}
	o, err := parseOrigin(data)
	d.Image, d.ManifestDigest, d.BootType, d.BootDigest = o.image, o.manifestDigest, o.bootType, o.bootDigest
	return err
}

// warn adds a warning.
func (h *Host) warn(doing string, err error) {
	h.Warnings = append(h.Warnings, fmt.Errorf("%s: %w", doing, err))
}

// readBooted finds the booted deployment: the one that is mounted at /, or else
// that which the kernel was started for. They differ after a soft reboot, which
// starts no other kernel.
func (h *Host) readBooted(root string) {
	mounts := filepath.Join(root, "proc/self/mountinfo")
	id, err := readMounts(mounts)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		h.warn("looking for the booted deployment in "+mounts, err)
	}
	if id == "" {
		line := filepath.Join(root, "proc/cmdline")
		data, err := readPath(line, maxCommandLine)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			h.warn("looking for the booted deployment in "+line, err)
		}
		id = idOfCommandLine(string(data))
	}
	if id == "" {
		return
	}
	if d := h.byID(id); d != nil {
		d.State = Booted
		return
	}
	h.warn("looking for the booted deployment", fmt.Errorf("%s: %w below %s", id, ErrNotFound, filepath.Join(h.Sysroot, deployDir)))
}

func readMounts(path string) (id string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return idOfMounts(f)
}

// readPath reads a file of the running system's.
func readPath(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return beneath.ReadAll(f, limit)
}

// byID returns the deployment with an ID, nil if there is none.
func (h *Host) byID(id string) *Deployment {
	for i := range h.Deployments {
		if h.Deployments[i].ID == id {
			return &h.Deployments[i]
		}
	}
	return nil
}

// readStaged finds the staged deployment.
func (h *Host) readStaged(root *os.File) {
	const path = "run/composefs/staged-deployment"
	data, err := beneath.ReadFile(root, path, maxStagedSize)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var s staged
	if err == nil {
		s, err = parseStaged(data)
	}
	if err != nil {
		h.warn("looking for the staged deployment in /"+path, err)
		return
	}
	d := h.byID(s.ID)
	if d == nil {
		h.warn("looking for the staged deployment", fmt.Errorf("%s: %w below %s", s.ID, ErrNotFound, filepath.Join(h.Sysroot, deployDir)))
		return
	}
	if d.State != Booted {
		d.State, d.Locked = Staged, s.Locked
	}
}

// readBootMenu finds the boot menu and the deployment to roll back to.
func (h *Host) readBootMenu(sysroot, root *os.File) {
	h.menu = h.findBootMenu(sysroot, root)
	if !h.Running {
		return
	}
	if len(h.menu) == 0 {
		for i := range h.Deployments {
			if h.Deployments[i].State == Other {
				h.Deployments[i].State = Unknown
			}
		}
		return
	}
	for _, id := range h.menu {
		if d := h.byID(id); d.State == Other {
			d.State = Rollback
			return
		}
	}
}

// findBootMenu returns the IDs of deployments in the order of the boot menu that
// lies on the boot partition, or else on the EFI partition, wherever one of
// them is mounted.
func (h *Host) findBootMenu(sysroot, root *os.File) []string {
	type place struct {
		dir  *os.File
		path string
	}
	places := []place{{sysroot, "boot"}, {sysroot, "boot/efi"}, {sysroot, "efi"}}
	if h.Running {
		places = append(places, place{root, "boot"}, place{root, "efi"}, place{root, "boot/efi"})
	}
	for _, p := range places {
		boot, err := beneath.Open(p.dir, p.path, unix.O_DIRECTORY)
		if err != nil {
			continue
		}
		ids, err := readMenu(boot)
		boot.Close()
		if err != nil {
			continue
		}
		// A menu that has none of the deployments is another system's.
		if ids = slices.DeleteFunc(ids, func(id string) bool { return h.byID(id) == nil }); len(ids) > 0 {
			return ids
		}
	}
	return nil
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

// Find returns the deployment that name stands for: booted, staged or rollback,
// or the beginning of an ID. The error wraps ErrNotFound, ErrAmbiguous,
// ErrRollbackUnknown or ErrOSTree.
func (h *Host) Find(name string) (*Deployment, error) {
	switch state := State(name); state {
	case Booted, Staged, Rollback:
		return h.inState(state)
	}
	var found []*Deployment
	for i := range h.Deployments {
		if strings.HasPrefix(h.Deployments[i].ID, name) {
			found = append(found, &h.Deployments[i])
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return nil, fmt.Errorf("%w in %s: %.140q; %s", ErrNotFound, h.Sysroot, name, h.list())
	default:
		return nil, fmt.Errorf("%w: %.140q is the beginning of %d IDs", ErrAmbiguous, name, len(found))
	}
}

// inState returns the deployment in a state that only one can be in.
func (h *Host) inState(state State) (*Deployment, error) {
	for i := range h.Deployments {
		if h.Deployments[i].State == state {
			return &h.Deployments[i], nil
		}
	}
	switch {
	case !h.Running:
		return nil, fmt.Errorf("%w: %s is not the running system's, so that nothing there is %s; %s", ErrNotFound, h.Sysroot, state, h.list())
	case h.ostree:
		return nil, fmt.Errorf("no deployment in %s is %s: %w", h.Sysroot, state, ErrOSTree)
	case state == Rollback && len(h.menu) == 0:
		return nil, fmt.Errorf("%w: no boot entries of its deployments can be read where the boot and EFI partitions would be mounted; %s", ErrRollbackUnknown, h.list())
	default:
		return nil, fmt.Errorf("%w in %s: none is %s; %s", ErrNotFound, h.Sysroot, state, h.list())
	}
}

// shortID is the number of digits that stand for an ID in messages.
const shortID = 12

// list spells the deployments out for a message.
func (h *Host) list() string {
	if len(h.Deployments) == 0 {
		return "it has no deployments at all"
	}
	const most = 10
	var all []string
	for i, d := range h.Deployments {
		if i == most {
			all = append(all, "…")
			break
		}
		all = append(all, fmt.Sprintf("@%.*s (%s, %q)", shortID, d.ID, d.State, d.Image.Name))
	}
	return "there is " + strings.Join(all, ", ")
}

// RollbackKnown tells whether the boot menu was found, which tells the rollback
// from the others.
func (h *Host) RollbackKnown() bool { return h.Running && len(h.menu) > 0 }

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
