// Package hosts finds the deployments of bootc hosts that a user means.
package hosts

import (
	"errors"
	"fmt"

	"github.com/skopeo-cfs/skopeo-cfs/bootc"
	"github.com/skopeo-cfs/skopeo-cfs/internal/notice"
	"github.com/skopeo-cfs/skopeo-cfs/reference"
)

// Open opens the bootc host with the physical root sysroot, "" for that of the
// system whose root directory is root, and gives notice of what could not be read.
func Open(sysroot, root string) (*bootc.Host, error) {
	host, err := bootc.Open(sysroot, &bootc.Options{Root: root})
	if err != nil {
		return nil, err
	}
	for _, w := range host.Warnings {
		notice.Printf("Host %s: %v", host.Sysroot, w)
	}
	return host, nil
}

// FindDeployment returns the host's deployment of the image with a name, in
// full or as people type it, whatever the transport; of several the first, in
// the order booted, staged, rollback, others, and it gives notice of which that is. The
// error wraps bootc.ErrNotFound, or reference.ErrAmbiguous.
func FindDeployment(host *bootc.Host, name string) (*bootc.Deployment, error) {
	var names []string
	for _, d := range host.Deployments {
		names = append(names, d.Image.Name)
	}
	image, err := reference.Find(name, distinct(names))
	if errors.Is(err, reference.ErrAmbiguous) {
		return nil, fmt.Errorf("image of a deployment in %s: %w", host.Sysroot, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w in %s: none has the image %.300q; there is %.1000q", bootc.ErrNotFound, host.Sysroot, name, distinct(names))
	}
	var found []*bootc.Deployment
	for i := range host.Deployments {
		if host.Deployments[i].Image.Name == image {
			found = append(found, &host.Deployments[i])
		}
	}
	if len(found) > 1 {
		notice.Printf("%d deployments are of image %q: taking the %s one, %s", len(found), image, found[0].State, found[0].ID)
	}
	return found[0], nil
}

// distinct returns the names that are not empty, each once.
func distinct(names []string) []string {
	var out []string
	seen := map[string]bool{"": true}
	for _, name := range names {
		if !seen[name] {
			seen[name] = true
			out = append(out, name)
		}
	}
	return out
}
