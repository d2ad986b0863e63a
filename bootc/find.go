package bootc

import (
	"fmt"
	"strings"
)

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
		return nil, fmt.Errorf("%w: %s is not the running system, so nothing there is %s; %s", ErrNotFound, h.Sysroot, state, h.list())
	case h.ostree:
		return nil, fmt.Errorf("no deployment in %s is %s: %w", h.Sysroot, state, ErrOSTree)
	case state == Rollback && len(h.menu) == 0:
		return nil, fmt.Errorf("%w: no boot entries can be read; the boot or EFI partition may not be mounted; %s", ErrRollbackUnknown, h.list())
	default:
		return nil, fmt.Errorf("%w in %s: none is %s; %s", ErrNotFound, h.Sysroot, state, h.list())
	}
}

// list spells the deployments out for a message.
func (h *Host) list() string {
	if len(h.Deployments) == 0 {
		return "it has no deployments"
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
