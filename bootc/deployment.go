package bootc

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"

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
