package zerocopy

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/containers/image/v5/manifest"
	"github.com/containers/storage"
	"github.com/opencontainers/go-digest"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
)

// The store writes an image's record first, and the image's manifest and config
// after it. A process that is killed in between leaves a record without them, and
// podman then can't list the images of the store. So a copy notes both in its
// workDir before it makes the image, and the next copy gives them to such a record:
// the image is then complete, only without a name.

// Files in a workDir with the manifest and the config of the image that its process
// was about to make.
const (
	manifestNote = "manifest"
	configNote   = "config"
)

// maxNote bounds in bytes what is read of a note: more than containers/image takes
// for a manifest or a config.
const maxNote = 8 << 20

// noteImage notes the image whose record is about to be made.
func (w *workDir) noteImage(image *composefsrepo.Image) error {
	return errors.Join(
		os.WriteFile(filepath.Join(w.path, configNote), image.Config, 0o600),
		os.WriteFile(filepath.Join(w.path, manifestNote), image.Manifest, 0o600),
	)
}

// completeRecord adds what the record of the noted image lacks of manifest and
// config. It changes nothing where no image was noted, or a note is not whole, or
// the store has no such image, or all of it.
func (w *workDir) completeRecord(store storage.Store) error {
	manifestBytes, config, ok := w.notedImage()
	if !ok {
		return nil
	}
	id := digest.FromBytes(config).Encoded()
	image, err := store.Image(id)
	if errors.Is(err, storage.ErrImageUnknown) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking for image %s: %w", id, err)
	}
	manifestDigest := digest.FromBytes(manifestBytes)
	// The order is that of containers/image's storage transport.
	for _, item := range []struct {
		key  string
		data []byte
	}{
		{digest.FromBytes(config).String(), config},
		{storage.ImageDigestManifestBigDataNamePrefix + "-" + manifestDigest.String(), manifestBytes},
		{storage.ImageDigestBigDataKey, manifestBytes},
	} {
		if slices.Contains(image.BigDataNames, storage.ImageDigestBigDataKey) || slices.Contains(image.BigDataNames, item.key) {
			continue
		}
		err := store.SetImageBigData(id, item.key, item.data, manifest.Digest)
		if errors.Is(err, storage.ErrImageUnknown) {
			return nil // it is another store's, which can't be changed, or has been removed
		}
		if err != nil {
			return fmt.Errorf("completing the record of image %s, which a killed process has begun: %w", id, err)
		}
	}
	return nil
}

// notedImage returns the manifest and the config that were noted, which belong
// together: a note can be cut short.
func (w *workDir) notedImage() (manifestBytes, config []byte, ok bool) {
	manifestBytes, manifestErr := readNote(filepath.Join(w.path, manifestNote))
	config, configErr := readNote(filepath.Join(w.path, configNote))
	if manifestErr != nil || configErr != nil {
		return nil, nil, false
	}
	parsed, err := manifest.FromBlob(manifestBytes, manifest.GuessMIMEType(manifestBytes))
	if err != nil || parsed.ConfigInfo().Digest != digest.FromBytes(config) {
		return nil, nil, false
	}
	return manifestBytes, config, true
}

func readNote(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxNote))
}
