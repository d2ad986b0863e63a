package zerocopy

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"

	"github.com/containers/storage"
	drivers "github.com/containers/storage/drivers"
	"github.com/containers/storage/pkg/archive"
	"github.com/containers/storage/pkg/idtools"
	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/zerocopy/unpack"
)

// All that depends on the interface by which layers are staged is in this file:
// it is experimental, and its makers may change it.

// checkStore refuses stores that have no such interface. It returns the ID
// mappings of the files in the store's layers: none where the driver maps them
// when it mounts.
func checkStore(store storage.Store) (*idtools.IDMappings, error) {
	driver, err := store.GraphDriver()
	if err != nil {
		return nil, fmt.Errorf("looking at the store's driver: %w", err)
	}
	if _, ok := driver.(drivers.DriverWithDiffer); !ok {
		return nil, fmt.Errorf("%w: the store's driver %s can't have layers staged", ErrUnsupported, driver)
	}
	if driver.SupportsShifting(store.UIDMap(), store.GIDMap()) {
		return &idtools.IDMappings{}, nil
	}
	return idtools.NewIDMappingsFromMaps(store.UIDMap(), store.GIDMap()), nil
}

// staged is a layer that is complete but not yet the store's. Whoever has it
// calls clean.
type staged struct {
	store    storage.Store
	mappings *idtools.IDMappings

	output *drivers.DriverWithDifferOutput
	result *unpack.Result
}

// stageLayer has a directory filled by fill that is to become a layer.
func stageLayer(store storage.Store, mappings *idtools.IDMappings, fill func(dest string, options *archive.TarOptions) (*unpack.Result, error)) (*staged, error) {
	d := &differ{fill: fill}
	output, err := store.PrepareStagedLayer(&drivers.ApplyDiffWithDifferOpts{
		ApplyDiffOpts: drivers.ApplyDiffOpts{Mappings: mappings},
	}, d)
	s := &staged{store, mappings, output, d.result}
	if err != nil {
		return nil, errors.Join(err, s.clean())
	}
	return s, nil
}

// unpackOptions returns the options of containers/storage for a staged directory
// as those of package unpack. The record of the tar is written beside it.
func unpackOptions(dest string, options *archive.TarOptions) unpack.Options {
	return unpack.Options{
		TempDir:           filepath.Dir(dest),
		UIDMaps:           unpackMaps(options.UIDMaps),
		GIDMaps:           unpackMaps(options.GIDMaps),
		IgnoreChownErrors: options.IgnoreChownErrors,
		InUserNS:          options.InUserNS,
		OverlayWhiteouts:  options.WhiteoutFormat == archive.OverlayWhiteoutFormat,
		ForceMask:         options.ForceMask,
	}
}

func unpackMaps(maps []idtools.IDMap) (unpackMaps []unpack.IDMap) {
	for _, m := range maps {
		unpackMaps = append(unpackMaps, unpack.IDMap(m))
	}
	return unpackMaps
}

// differ is what the store's driver calls to have a directory filled.
type differ struct {
	fill   func(dest string, options *archive.TarOptions) (*unpack.Result, error)
	result *unpack.Result
}

// ApplyDiff implements drivers.Differ.
func (d *differ) ApplyDiff(dest string, options *archive.TarOptions, differOptions *drivers.DifferOptions) (drivers.DriverWithDifferOutput, error) {
	if differOptions != nil && differOptions.Format != drivers.DifferOutputFormatDir {
		return drivers.DriverWithDifferOutput{}, fmt.Errorf("%w: the store's layers are composefs images", ErrUnsupported)
	}
	result, err := d.fill(dest, options)
	if err != nil {
		return drivers.DriverWithDifferOutput{}, err
	}
	d.result = result
	return drivers.DriverWithDifferOutput{
		Differ:             d,
		Target:             dest,
		Size:               result.Size,
		UIDs:               result.UIDs,
		GIDs:               result.GIDs,
		UncompressedDigest: result.Digest,
		// As the store has it of a layer that came uncompressed.
		CompressedDigest: result.Digest,
		TarSplit:         result.TarSplit,
		RootDirMode:      result.RootMode,
	}, nil
}

// Close implements drivers.Differ.
func (d *differ) Close() error { return nil }

// clean removes what is left of the staged layer, whether it was applied or not.
func (s *staged) clean() error {
	if s.output == nil || !filepath.IsAbs(s.output.Target) {
		return nil // what the store would remove is the working directory
	}
	if err := s.store.CleanupStagedLayer(s.output); err != nil {
		return fmt.Errorf("removing a staged layer: %w", err)
	}
	return nil
}

// apply makes the staged layer one of the store, on top of parent, "" if it is
// the lowest. The caller holds the lock on staged layers: applying a layer that
// the store has would take its directory away from whoever uses it, and between
// the question and the act there is nothing else that could prevent it.
func (s *staged) apply(id, parent string) (applied bool, err error) {
	if err := s.inherit(parent); err != nil {
		return false, err
	}
	if _, err := s.store.Layer(id); !errors.Is(err, storage.ErrLayerUnknown) {
		return false, err
	}
	_, err = s.store.ApplyStagedLayer(storage.ApplyStagedLayerOptions{
		ID:          id,
		ParentLayer: parent,
		DiffOutput:  s.output,
		DiffOptions: &drivers.ApplyDiffWithDifferOpts{},
	})
	if err != nil && !errors.Is(err, storage.ErrDuplicateID) {
		return false, fmt.Errorf("adding layer %s to the store: %w", id, err)
	}
	return err == nil, nil
}

// inherit gives the staged root directory the owner that a layer's has which
// the store makes itself: the parent's. The mode is the store's business.
func (s *staged) inherit(parent string) error {
	if s.result.RootMode != nil {
		return nil
	}
	owner := s.mappings.RootPair()
	if parent != "" {
		var err error
		if owner, err = s.parentOwner(parent); err != nil {
			return err
		}
	}
	if err := os.Lchown(s.output.Target, owner.UID, owner.GID); err != nil {
		return fmt.Errorf("giving a staged layer its parent's owner: %w", err)
	}
	return nil
}

// parentOwner returns the owner of a layer's root directory, if the layer is one
// that ours can be put upon.
func (s *staged) parentOwner(parent string) (idtools.IDPair, error) {
	layer, err := s.store.Layer(parent)
	if err != nil {
		return idtools.IDPair{}, fmt.Errorf("looking at layer %s: %w", parent, err)
	}
	if !sameMap(layer.UIDMap, s.mappings.UIDs()) || !sameMap(layer.GIDMap, s.mappings.GIDs()) {
		return idtools.IDPair{}, fmt.Errorf("%w: layer %s has other ID mappings than the store", ErrUnsupported, parent)
	}
	dir, err := s.store.DifferTarget(parent)
	if err != nil {
		return idtools.IDPair{}, fmt.Errorf("%w: layer %s is not the store's own: %w", ErrUnsupported, parent, err)
	}
	var stat unix.Stat_t
	if err := unix.Lstat(dir, &stat); err != nil {
		return idtools.IDPair{}, fmt.Errorf("looking at the directory of layer %s: %w", parent, err)
	}
	return idtools.IDPair{UID: int(stat.Uid), GID: int(stat.Gid)}, nil
}

func sameMap(a, b []idtools.IDMap) bool {
	return len(a) == 0 && len(b) == 0 || reflect.DeepEqual(a, b)
}
