package zerocopy

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/containers/image/v5/copy"
	"github.com/containers/image/v5/image"
	"github.com/containers/image/v5/signature"
	imagestorage "github.com/containers/image/v5/storage"
	"github.com/containers/image/v5/types"
	"github.com/containers/storage"
	drivers "github.com/containers/storage/drivers"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/internal/await"
	"github.com/skopeo-cfs/skopeo-cfs/internal/keepannotations"
	"github.com/skopeo-cfs/skopeo-cfs/source"
)

// Copy copies an image, as copy.Image does. An image of a composefs repository
// comes into containers-storage without its contents being copied, as described
// for the package, and always with its own manifest; every other image, and to
// every other destination, is copied by copy.Image itself.
//
// Into other destinations, an image of a composefs repository keeps the annotations
// of its layers, which copy.Image loses where it compresses them.
//
// All options of copy.Options are honored, or refused by name with an error that
// wraps ErrOption. Into containers-storage, those that have no use there are refused:
// signing, encryption and compression. Elsewhere, what can't be done together with
// annotations is refused: signing a copy that is not in a registry, and timestamps in
// archives.
//
// The policy is asked for an image of a composefs repository with all the signatures that
// source.Signed has found of it, of which copy.Image gets only those of OpenPGP.
//
// Copy returns the bytes of the manifest that is stored. It ends soon after ctx
// does.
func Copy(ctx context.Context, policyContext *signature.PolicyContext, destRef, srcRef types.ImageReference, options *copy.Options) ([]byte, error) {
	manifest, _, err := Image(ctx, policyContext, destRef, srcRef, options, nil)
	return manifest, err
}

// Image is Copy with further options, and tells what the copy came to. On an error
// too, Stats has what became of the layers.
func Image(ctx context.Context, policyContext *signature.PolicyContext, destRef, srcRef types.ImageReference, copyOptions *copy.Options, options *Options) (manifest []byte, stats Stats, err error) {
	if copyOptions == nil {
		copyOptions = &copy.Options{}
	}
	if options == nil {
		options = &Options{}
	}
	if srcRef.Transport().Name() != composefsTransport {
		manifest, err = copy.Image(ctx, policyContext, destRef, srcRef, copyOptions)
		return manifest, Stats{}, err
	}
	src, err := srcRef.NewImageSource(ctx, copyOptions.SourceCtx)
	if err != nil {
		return nil, Stats{}, err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	store := storeOf(destRef)
	composefs, ok := src.(*source.Source)
	if ok {
		judged, refused := judge(ctx, policyContext, composefs, copyOptions.SourceCtx)
		if refused != nil {
			return nil, Stats{}, refused
		}
		if judged != policyContext {
			defer func() { err = errors.Join(err, judged.Destroy()) }()
			policyContext = judged
		}
	}
	if store == nil || !ok || !isImage(composefs.Image()) {
		manifest, err = copyRegularly(ctx, policyContext, destRef, openReference{srcRef, src}, copyOptions)
		return manifest, Stats{}, err
	}
	c := &copier{policyContext, store, destRef, composefs, copyOptions, options}
	return c.copy(ctx)
}

// copyRegularly copies an image of a composefs repository as copy.Image does it,
// and keeps the annotations of layers that are compressed on the way.
func copyRegularly(ctx context.Context, policyContext *signature.PolicyContext, dest types.ImageReference, src openReference, options *copy.Options) ([]byte, error) {
	annotations, err := keepannotations.Of(ctx, src.source)
	if err != nil {
		return nil, err
	}
	manifest, err := keepannotations.Image(ctx, policyContext, dest, src, options, annotations)
	if errors.Is(err, keepannotations.ErrUnsupported) {
		err = fmt.Errorf("%w: %w", ErrOption, err)
	}
	return manifest, err
}

// composefsTransport is the name of the transport whose sources are
// *source.Source.
const composefsTransport = "composefs"

// storeOf returns the store that a reference is in, nil if it is not in
// containers-storage.
func storeOf(ref types.ImageReference) storage.Store {
	if transport, ok := ref.Transport().(imagestorage.StoreTransport); ok {
		return transport.GetStoreIfSet()
	}
	return nil
}

// isImage tells whether the image has layers, and all of them are tars.
func isImage(image *composefsrepo.Image) bool {
	for _, l := range image.Layers {
		if l.DiffID == "" {
			return false
		}
	}
	return len(image.Layers) > 0
}

// copier copies an image of a composefs repository into containers-storage.
type copier struct {
	policy      *signature.PolicyContext
	store       storage.Store
	dest        types.ImageReference
	src         *source.Source
	copyOptions *copy.Options
	options     *Options
}

func (c *copier) copy(ctx context.Context) (_ []byte, _ Stats, err error) {
	if err := checkOptions(c.copyOptions); err != nil {
		return nil, Stats{}, err
	}
	image := c.src.Image()
	if err := checkImage(image); err != nil {
		return nil, Stats{}, err
	}
	if err := c.checkPolicy(ctx); err != nil {
		return nil, Stats{}, err
	}
	var driver drivers.Driver
	err = await.Do(ctx, func() (err error) {
		driver, err = c.store.GraphDriver()
		return err
	})
	if err != nil {
		return nil, Stats{}, fmt.Errorf("looking at the store's driver: %w", err)
	}
	work, err := c.newWorkDir(ctx, driver)
	if err != nil {
		return nil, Stats{}, err
	}
	defer func() {
		// A copy that is complete has not failed because of that: the next one
		// removes what is left.
		if removeErr := work.remove(); err != nil && removeErr != nil {
			err = errors.Join(err, fmt.Errorf("removing what the copy has staged: %w", removeErr))
		}
	}()
	stager, err := c.newStager(ctx, driver, work)
	if err != nil {
		return nil, Stats{}, err
	}
	report := newReport(ctx, c.copyOptions, c.options, image)
	layers := newLayers(c.store, image, stager, limitOf(c.copyOptions), report.note)
	defer layers.close()
	manifest, err := c.commit(ctx, layers, work, report)
	return manifest, layers.result(), err
}

// newWorkDir returns a directory for the copy.
func (c *copier) newWorkDir(ctx context.Context, driver drivers.Driver) (*workDir, error) {
	return newWorkDir(ctx, driverHome(c.store, driver), func(abandoned *workDir) error {
		return await.Do(ctx, func() error { return abandoned.completeRecord(c.store) })
	})
}

// checkPolicy returns an error where the policy does not allow the image.
// copy.Image asks it again; this is before anything is staged.
func (c *copier) checkPolicy(ctx context.Context) error {
	allowed, err := c.policy.IsRunningImageAllowed(ctx, image.UnparsedInstance(c.src, nil))
	if !allowed || err != nil {
		return fmt.Errorf("source image rejected: %w", err)
	}
	return nil
}

// driverHome returns the directory in which a driver has the layers of images.
func driverHome(store storage.Store, driver drivers.Driver) string {
	root := store.ImageStore()
	if root == "" {
		root = store.GraphRoot()
	}
	return filepath.Join(root, driver.String())
}

// newStager returns nil where no layer can be staged, or is to be.
func (c *copier) newStager(ctx context.Context, driver drivers.Driver, work *workDir) (*stager, error) {
	if c.options.Extract {
		return nil, nil
	}
	var s *stager
	err := await.Do(ctx, func() (err error) {
		s, err = newStager(c.store, driver, work)
		return err
	})
	switch {
	case errors.Is(err, errNotStageable):
		return nil, ctx.Err()
	case err != nil:
		return nil, err
	}
	return s, nil
}

// commit brings the layers into the store and has copy.Image make the image of
// them.
func (c *copier) commit(ctx context.Context, layers *layers, work *workDir, report *report) ([]byte, error) {
	if err := work.noteImage(layers.image); err != nil {
		return nil, fmt.Errorf("noting the image that is copied: %w", err)
	}
	for attempt := 1; ; attempt++ {
		if err := layers.bring(ctx); err != nil {
			return nil, err
		}
		var manifest []byte
		err := await.Do(ctx, func() (err error) {
			options := c.finalOptions(work)
			defer report.rest(options)()
			manifest, err = copy.Image(ctx, c.policy, destinationOf(c.dest, layers.image, c.options.Index), sourceOf(c.src), options)
			return err
		})
		// Until the image is there, other programs may remove the layers.
		if err != nil && attempt < attempts && layers.missing(ctx) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return manifest, c.resolve()
	}
}

// finalOptions returns the options for copy.Image, which finds all layers there.
func (c *copier) finalOptions(work *workDir) *copy.Options {
	options := *c.copyOptions
	options.ReportResolvedReference = nil
	sys := types.SystemContext{}
	if options.DestinationCtx != nil {
		sys = *options.DestinationCtx
	}
	// All that is left is the config. Here it goes with the rest, even if a copy
	// that was cancelled is still waiting for the store.
	sys.BigFilesTemporaryDir = work.path
	options.DestinationCtx = &sys
	return &options
}

// resolve serves copy.Options.ReportResolvedReference, as containers-storage does.
func (c *copier) resolve() error {
	if c.copyOptions.ReportResolvedReference == nil {
		return nil
	}
	_, image, err := imagestorage.ResolveReference(c.dest)
	if err != nil {
		return fmt.Errorf("looking for the image that was copied: %w", err)
	}
	ref, err := imagestorage.Transport.NewStoreReference(c.store, nil, image.ID)
	if err != nil {
		return fmt.Errorf("making a reference to the image that was copied: %w", err)
	}
	*c.copyOptions.ReportResolvedReference = ref
	return nil
}
