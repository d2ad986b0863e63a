package bootc

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/internal/beneath"
)

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
		id = h.choose(idsOfCommandLine(string(data), h.algorithm))
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

// choose returns the first of the IDs that a deployment has, else the first, else
// "".
func (h *Host) choose(ids []string) string {
	for _, id := range ids {
		if h.byID(id) != nil {
			return id
		}
	}
	if len(ids) > 0 {
		return ids[0]
	}
	return ""
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
		ids, err := h.readMenu(boot)
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
