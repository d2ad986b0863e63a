package main

import (
	"errors"
	"strings"

	"github.com/containers/storage/pkg/unshare"
)

// enterUserNamespace starts the command again in a user namespace where one of
// the names is in containers-storage, which needs one for whoever is not root.
// It returns only where the command can go on. Before, it calls prepare, if that is not
// nil.
func enterUserNamespace(prepare func() error, names ...string) error {
	for _, name := range names {
		if !strings.HasPrefix(name, "containers-storage:") || !unshare.IsRootless() {
			continue
		}
		if !hasCgo {
			return errors.New("containers-storage without root needs a user namespace, and this skopeo-cfs can't make one: it was built without cgo")
		}
		if prepare != nil {
			if err := prepare(); err != nil {
				return err
			}
		}
		unshare.MaybeReexecUsingUserNamespace(false)
	}
	return nil
}
