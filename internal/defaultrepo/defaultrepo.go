// Package defaultrepo knows the path of the default composefs repository.
package defaultrepo

import (
	"fmt"
	"os"
	"path/filepath"
)

// Path returns the path of the default repository: /sysroot/composefs for root,
// ~/.var/lib/composefs for other users, also in the user namespaces that container
// tools make for them.
func Path() (string, error) {
	if os.Getuid() == 0 && !isRootless() {
		return "/sysroot/composefs", nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("finding the default composefs repository: %w", err)
	}
	return filepath.Join(home, ".var/lib/composefs"), nil
}

// isRootless tells whether this process is root only in a user namespace of a
// container tool (containers/storage/pkg/unshare, podman unshare), which says in
// the environment who that is outside.
func isRootless() bool {
	uid := os.Getenv("_CONTAINERS_ROOTLESS_UID")
	return uid != "" && uid != "0"
}
