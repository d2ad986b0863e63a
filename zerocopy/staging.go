package zerocopy

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strconv"

	"github.com/containers/storage"
	drivers "github.com/containers/storage/drivers"
	"github.com/containers/storage/pkg/archive"
	"github.com/containers/storage/pkg/idtools"
	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/zerocopy/unpack"
)

// All that depends on the interface by which layers are staged is in this file:
// containers/storage calls it experimental.

// errNotStageable is why a layer is extracted by the store instead.
var errNotStageable = errors.New("can't be staged")

// stager makes layers of a store out of directories that are made here.
type stager struct {
	store    storage.Store
	driver   drivers.Driver
	work     *workDir
	options  unpack.Options      // as the driver would extract a layer
	mappings *idtools.IDMappings // of the files in layers
	lowest   fs.FileMode         // the permissions of the root directory of a lowest layer
}

// newStager returns a stager, or an error that wraps errNotStageable where the
// store's driver can't take staged layers.
func newStager(store storage.Store, driver drivers.Driver, work *workDir) (*stager, error) {
	if _, ok := driver.(drivers.DriverWithDiffer); !ok {
		return nil, fmt.Errorf("%w: the store's driver %s takes no staged layers", errNotStageable, driver)
	}
	s := &stager{store: store, driver: driver, work: work, mappings: storeMappings(store, driver)}
	// Other programs may remove the directory that the driver makes, or those above
	// it, at any moment.
	var err error
	for range 20 {
		if err = s.probe(); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return s, err
}

// storeMappings returns the ID mappings of the files in the store's layers: none
// where the driver maps them when it mounts.
func storeMappings(store storage.Store, driver drivers.Driver) *idtools.IDMappings {
	if driver.SupportsShifting(store.UIDMap(), store.GIDMap()) {
		return &idtools.IDMappings{}
	}
	return idtools.NewIDMappingsFromMaps(store.UIDMap(), store.GIDMap())
}

// probe asks the driver how it would have a layer extracted, by having it prepare
// one that is given up at once.
func (s *stager) probe() error {
	d := &probingDiffer{stager: s}
	_, err := s.store.PrepareStagedLayer(&drivers.ApplyDiffWithDifferOpts{
		ApplyDiffOpts: drivers.ApplyDiffOpts{Mappings: s.mappings},
	}, d)
	if err == nil {
		err = errors.New("the driver has not asked for the layer")
	}
	if d.dest != "" {
		err = errors.Join(ignoring(err, errProbed), d.err, s.work.removeProbe(filepath.Dir(d.dest)))
	}
	if err != nil {
		return fmt.Errorf("preparing to stage layers: %w", err)
	}
	return nil
}

// errProbed ends a probe.
var errProbed = errors.New("this was only a question")

// ignoring returns err unless it wraps ignored.
func ignoring(err, ignored error) error {
	if errors.Is(err, ignored) {
		return nil
	}
	return err
}

// probingDiffer learns what a driver has a layer extracted with.
type probingDiffer struct {
	*stager
	dest string
	err  error
}

// ApplyDiff implements drivers.Differ.
func (d *probingDiffer) ApplyDiff(dest string, options *archive.TarOptions, differOptions *drivers.DifferOptions) (drivers.DriverWithDifferOutput, error) {
	d.dest, d.err = dest, d.learn(dest, options, differOptions)
	return drivers.DriverWithDifferOutput{}, errProbed
}

func (d *probingDiffer) learn(dest string, options *archive.TarOptions, differOptions *drivers.DifferOptions) error {
	if err := d.work.noteProbe(dest); err != nil {
		return err
	}
	if differOptions != nil && differOptions.Format != drivers.DifferOutputFormatDir {
		return fmt.Errorf("%w: the store's layers are composefs images", errNotStageable)
	}
	if filepath.Dir(filepath.Dir(dest)) != filepath.Join(d.work.home, stagingDir) {
		return fmt.Errorf("%w: the driver stages in %s", errNotStageable, dest)
	}
	if options.WhiteoutFormat != archive.OverlayWhiteoutFormat && options.WhiteoutFormat != archive.AUFSWhiteoutFormat {
		return fmt.Errorf("%w: whiteout format %v is not supported", errNotStageable, options.WhiteoutFormat)
	}
	info, err := os.Lstat(dest)
	if err != nil {
		return err
	}
	d.lowest = info.Mode().Perm()
	dotRoot, err := takesDotForRoot(d.work.path)
	if err != nil {
		return fmt.Errorf("asking how containers-storage unpacks: %w", err)
	}
	d.options = unpack.Options{
		TempDir:           d.work.path,
		UIDMaps:           unpackMap(options.UIDMaps),
		GIDMaps:           unpackMap(options.GIDMaps),
		IgnoreChownErrors: options.IgnoreChownErrors,
		InUserNS:          options.InUserNS,
		OverlayWhiteouts:  options.WhiteoutFormat == archive.OverlayWhiteoutFormat,
		ForceMask:         options.ForceMask,
		DotRoot:           dotRoot,
		Cloner:            &unpack.Cloner{},
	}
	return nil
}

// takesDotForRoot tells whether this containers/storage has an entry called "."
// set the root directory's metadata, which it does since 1.64. It has a directory
// unpacked below dir to see it: the version of a linked library can be unknown.
func takesDotForRoot(dir string) (_ bool, err error) {
	const mode = 0o711
	var content bytes.Buffer
	tw := tar.NewWriter(&content)
	if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "./", Mode: mode}); err != nil {
		return false, err
	}
	if err := tw.Close(); err != nil {
		return false, err
	}
	dest, err := os.MkdirTemp(dir, "dot")
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, os.Remove(dest)) }()
	if err := archive.Unpack(&content, dest, &archive.TarOptions{NoLchown: true}); err != nil {
		return false, err
	}
	info, err := os.Lstat(dest)
	return err == nil && info.Mode().Perm() == mode, err
}

func unpackMap(maps []idtools.IDMap) []unpack.IDMap {
	var out []unpack.IDMap
	for _, m := range maps {
		out = append(out, unpack.IDMap(m))
	}
	return out
}

// Close implements drivers.Differ.
func (d *probingDiffer) Close() error { return nil }

// tree is a layer's directory that is complete but not yet the store's. Its
// record is closed when it is added or removed.
type tree struct {
	dir    string
	result *unpack.Result
}

// stage makes the tree of the i-th layer.
func (s *stager) stage(ctx context.Context, i int, feed unpack.Feed, options unpack.Options) (*tree, error) {
	dir := filepath.Join(s.work.path, strconv.Itoa(i))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, fmt.Errorf("staging: %w", err)
	}
	result, err := unpack.Layer(ctx, feed, dir, options)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return &tree{dir, result}, nil
}

// remove removes a tree that will not be added.
func (t *tree) remove() error {
	t.result.TarSplit.Close() // the store may have closed it already
	return os.RemoveAll(t.dir)
}

// fits returns an error that wraps errNotStageable where layers of other ID
// mappings than the store's are below.
func (s *stager) fits(parent *storage.Layer) error {
	if parent == nil || sameMap(parent.UIDMap, s.mappings.UIDs()) && sameMap(parent.GIDMap, s.mappings.GIDs()) {
		return nil
	}
	return fmt.Errorf("%w: layer %s has other ID mappings than the store", errNotStageable, parent.ID)
}

func sameMap(a, b []idtools.IDMap) bool {
	return len(a) == 0 && len(b) == 0 || reflect.DeepEqual(a, b)
}

// add makes the tree a layer of the store, on top of parent, nil for the lowest,
// and returns the layer; or nil, where the store has one of that ID by now. The
// caller holds the workDir's lock: ApplyStagedLayer takes the directory of a
// layer that the store has away from whoever uses it, and nothing else prevents
// that between the question and the act. For programs other than this one that
// moment remains.
func (s *stager) add(t *tree, id string, parent *storage.Layer) (*storage.Layer, error) {
	if err := s.finishRoot(t, parent); err != nil {
		return nil, fmt.Errorf("preparing the root directory of layer %s: %w", id, err)
	}
	if _, err := s.store.Layer(id); !errors.Is(err, storage.ErrLayerUnknown) {
		return nil, err
	}
	return addLayer(s.store, id, func() (*storage.Layer, error) {
		return s.store.ApplyStagedLayer(storage.ApplyStagedLayerOptions{
			ID:          id,
			ParentLayer: layerID(parent),
			DiffOutput: &drivers.DriverWithDifferOutput{
				Target:             t.dir,
				Size:               t.result.Size,
				UIDs:               t.result.UIDs,
				GIDs:               t.result.GIDs,
				UncompressedDigest: t.result.Digest,
				// As the store has it of a layer that came uncompressed.
				CompressedDigest: t.result.Digest,
				TarSplit:         t.result.TarSplit,
				RootDirMode:      t.result.RootMode,
			},
			DiffOptions: &drivers.ApplyDiffWithDifferOpts{},
		})
	})
}

func layerID(layer *storage.Layer) string {
	if layer == nil {
		return ""
	}
	return layer.ID
}

// finishRoot gives the tree's root directory the owner and the permissions that
// the store would give it, where the tar does not set them: those of the parent's.
// It creates the directory with the parent's permissions, so the process's umask
// applies, and no more than permissions are taken.
func (s *stager) finishRoot(t *tree, parent *storage.Layer) error {
	if t.result.RootMode != nil {
		return nil
	}
	mode, owner := s.lowest, s.mappings.RootPair()
	if parent != nil {
		metadata, err := s.driver.Metadata(parent.ID)
		if err != nil {
			return err
		}
		var stat unix.Stat_t
		if err := unix.Stat(metadata["UpperDir"], &stat); err != nil {
			return fmt.Errorf("looking at the directory of layer %s: %w", parent.ID, err)
		}
		owner = idtools.IDPair{UID: int(stat.Uid), GID: int(stat.Gid)}
		if s.options.ForceMask == nil {
			if mode, err = s.masked(fs.FileMode(stat.Mode & 0o777)); err != nil {
				return err
			}
		}
	}
	if err := os.Lchown(t.dir, owner.UID, owner.GID); err != nil {
		return err
	}
	t.result.RootMode = &mode // else the driver would set the parent's
	return os.Chmod(t.dir, mode)
}

// masked returns the permissions that a new directory gets.
func (s *stager) masked(mode fs.FileMode) (fs.FileMode, error) {
	dir := filepath.Join(s.work.path, "masked")
	if err := os.Mkdir(dir, mode); err != nil {
		return 0, err
	}
	info, err := os.Lstat(dir)
	if err = errors.Join(err, os.Remove(dir)); err != nil {
		return 0, err
	}
	return info.Mode().Perm(), nil
}

// errIncomplete: a layer has lost files while it was added.
var errIncomplete = errors.New("another program has removed files of the layer")

// checkCount returns an error that wraps errIncomplete unless the layer's
// directory has as many names as were made.
func (s *stager) checkCount(layer *storage.Layer, want int64) error {
	metadata, err := s.driver.Metadata(layer.ID)
	if err != nil {
		return fmt.Errorf("looking at layer %s: %w", layer.ID, err)
	}
	got := int64(-1) // the root directory
	err = filepath.WalkDir(metadata["UpperDir"], func(_ string, _ fs.DirEntry, err error) error {
		got++
		return err
	})
	if err != nil || got != want {
		return errors.Join(fmt.Errorf("layer %s: %w: it has %d names, not %d", layer.ID, errIncomplete, got, want), err)
	}
	return nil
}
