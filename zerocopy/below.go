package zerocopy

import (
	"errors"
	"fmt"
	"strings"

	"github.com/containers/storage"
	drivers "github.com/containers/storage/drivers"
)

// errCutOff: a layer does not have all layers below it that it should have.
var errCutOff = errors.New("the store has lost the layers below")

// checkBelow returns an error that wraps errCutOff unless the layer is on top of
// its parent and all that the parent is on top of. The driver overlay notes them in
// a file, and takes the parent's for empty if it can't read it.
func checkBelow(store storage.Store, layer, parent *storage.Layer) error {
	driver, err := store.GraphDriver()
	if err != nil {
		return fmt.Errorf("looking at the layers below layer %s: %w", layer.ID, err)
	}
	if parent == nil || driver.String() != "overlay" {
		return nil
	}
	want, err := countBelow(driver, parent.ID)
	if err != nil {
		return err
	}
	got, err := countBelow(driver, layer.ID)
	if err != nil {
		return err
	}
	if got != want+1 {
		return fmt.Errorf("layer %s: %w: it is on top of %d layers, not %d", layer.ID, errCutOff, got, want+1)
	}
	return nil
}

// countBelow returns how many layers the driver has below a layer.
func countBelow(driver drivers.Driver, id string) (int, error) {
	metadata, err := driver.Metadata(id)
	if err != nil {
		return 0, fmt.Errorf("looking at the layers below layer %s: %w", id, err)
	}
	if metadata["LowerDir"] == "" {
		return 0, nil
	}
	return 1 + strings.Count(metadata["LowerDir"], ":"), nil
}
