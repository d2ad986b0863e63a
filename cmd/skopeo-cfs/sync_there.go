package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containers/image/v5/docker/reference"
	"github.com/containers/image/v5/manifest"
	imagestorage "github.com/containers/image/v5/storage"
	"github.com/containers/image/v5/transports"
	"github.com/containers/image/v5/types"
	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/identity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/await"
	"github.com/skopeo-cfs/skopeo-cfs/internal/beneath"
	"github.com/skopeo-cfs/skopeo-cfs/internal/registries"
)

// skip returns the manifest at the destination of the image that src refers to, if the
// image is there, whole and as the flags want it; nil if a copy has to be made, as on a
// nil batch.
func (b *batch) skip(ctx context.Context, dest, src types.ImageReference) ([]byte, error) {
	if b == nil {
		return nil, nil
	}
	raw, err := b.find(ctx, dest, src)
	if err != nil {
		return nil, err
	}
	if b.say != nil { // which a repeated attempt need not be told of
		b.say(raw != nil)
		b.say = nil
	}
	if b.there = raw != nil; b.there {
		for _, l := range b.layers {
			b.progress <- types.ProgressProperties{Event: types.ProgressEventSkipped, Artifact: l}
		}
	}
	return raw, nil
}

// find returns the manifest at the destination of the image that src refers to, nil if
// a copy has to be made.
func (b *batch) find(ctx context.Context, dest, src types.ImageReference) ([]byte, error) {
	from, err := openComposefs(ctx, src, b.p.options.SourceCtx)
	if errors.Is(err, errNotComposefs) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer from.Close()
	b.layers = nil
	for _, l := range from.Image().Layers {
		b.layers = append(b.layers, types.BlobInfo{Digest: l.Digest(), Size: l.Size})
	}
	if len(b.p.options.Signers) > 0 || b.p.options.SignBySigstorePrivateKeyFile != "" {
		return nil, nil // a signature that is asked for is part of the copy
	}
	raw, err := manifestAt(ctx, dest, b.p.options.DestinationCtx)
	if err == nil {
		err = b.isImage(ctx, dest, raw, from.Image())
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		logrus.Debugf("Not at %s yet: %v", transports.ImageName(dest), err)
		return nil, nil
	}
	return raw, nil
}

// errOther: what is at the destination is not what a copy would make.
var errOther = errors.New("another image is there, or not all of it")

// isImage returns an error unless the manifest at a destination is the image's, and
// what it names is there, too.
func (b *batch) isImage(ctx context.Context, dest types.ImageReference, raw []byte, image *composefsrepo.Image) error {
	mediaType := manifest.GuessMIMEType(raw)
	m, err := manifest.FromBlob(raw, mediaType)
	if err != nil {
		return err
	}
	if forced := b.p.options.ForceManifestMIMEType; forced != "" && mediaType != forced {
		return fmt.Errorf("%w: its manifest is of type %s", errOther, mediaType)
	}
	if !b.isCompressed(m) {
		return fmt.Errorf("%w: its layers are not compressed as asked for", errOther)
	}
	exact := b.p.preserveDigests || b.p.fetchMissing || dest.Transport().Name() == imagestorage.Transport.Name()
	sameConfig := m.ConfigInfo().Digest == image.ConfigDescriptor.Digest && len(m.LayerInfos()) == len(image.Layers)
	if digest.FromBytes(raw) != image.ManifestDigest && (exact || !sameConfig) {
		return fmt.Errorf("%w: it is %s", errOther, digest.FromBytes(raw))
	}
	return b.hasBlobs(ctx, dest, m)
}

// isCompressed tells whether all layers are compressed in the format that is asked
// for, if one is.
func (b *batch) isCompressed(m manifest.Manifest) bool {
	format := b.p.options.DestinationCtx.CompressionFormat
	if format == nil || !b.p.options.ForceCompressionFormat {
		return true
	}
	name, _, _ := strings.Cut(format.Name(), ":")
	for _, l := range m.LayerInfos() {
		if !strings.HasSuffix(l.MediaType, name) {
			return false
		}
	}
	return true
}

// hasBlobs returns an error unless a destination has all that a manifest there names.
// A registry takes no manifest before.
func (b *batch) hasBlobs(ctx context.Context, dest types.ImageReference, m manifest.Manifest) error {
	if dest.Transport().Name() == imagestorage.Transport.Name() {
		return await.Do(ctx, func() error { return hasLayers(dest) })
	}
	dir, _ := localPath(dest)
	if dir == "" {
		return nil
	}
	blobs := []types.BlobInfo{m.ConfigInfo()}
	for _, l := range m.LayerInfos() {
		blobs = append(blobs, l.BlobInfo)
	}
	for _, blob := range blobs {
		path, err := b.blobPath(dest.Transport().Name(), dir, blob.Digest)
		if err != nil {
			return err
		}
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		if info.Size() != blob.Size {
			return fmt.Errorf("%w: %s has %d bytes", errOther, path, info.Size())
		}
	}
	return nil
}

// blobPath returns the path of a blob in a layout or a directory.
func (b *batch) blobPath(transport, dir string, d digest.Digest) (string, error) {
	if err := d.Validate(); err != nil {
		return "", err
	}
	switch shared := b.p.options.DestinationCtx.OCISharedBlobDirPath; {
	case transport == "dir":
		return filepath.Join(dir, d.Encoded()), nil
	case shared != "":
		return filepath.Join(shared, d.Algorithm().String(), d.Encoded()), nil
	}
	return filepath.Join(dir, "blobs", d.Algorithm().String(), d.Encoded()), nil
}

// hasLayers returns an error unless containers-storage has all layers of an image.
func hasLayers(ref types.ImageReference) error {
	store, err := storeOf(ref)
	if err != nil {
		return err
	}
	_, image, err := imagestorage.ResolveReference(ref)
	if err != nil {
		return err
	}
	for id := image.TopLayer; id != ""; {
		layer, err := store.Layer(id)
		if err != nil {
			return err
		}
		id = layer.Parent
	}
	return nil
}

// manifestAt returns the manifest of the image at a destination.
func manifestAt(ctx context.Context, dest types.ImageReference, sys *types.SystemContext) (raw []byte, err error) {
	if dest.Transport().Name() == "docker" {
		return manifestInRegistry(ctx, dest.DockerReference(), sys)
	}
	err = await.Do(ctx, func() error {
		src, err := dest.NewImageSource(ctx, sys)
		if err != nil {
			return err
		}
		defer src.Close()
		raw, _, err = src.GetManifest(ctx, nil)
		return err
	})
	return raw, err
}

// manifestInRegistry returns the manifest of a tag in a registry itself: what
// containers/image reads may come from a mirror of it, to which nothing is sent.
func manifestInRegistry(ctx context.Context, named reference.Named, sys *types.SystemContext) ([]byte, error) {
	tagged, ok := named.(reference.Tagged)
	if !ok {
		return nil, fmt.Errorf("%s has no tag", named)
	}
	repository, err := registries.Open(ctx, sys, named)
	if err != nil {
		return nil, err
	}
	_, content, err := repository.Manifests().FetchReference(ctx, tagged.Tag())
	if err != nil {
		return nil, err
	}
	defer content.Close()
	return beneath.ReadAll(content, identity.MaxManifest)
}
