package identity

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/containers/image/v5/docker/reference"
	"github.com/opencontainers/go-digest"

	"github.com/skopeo-cfs/skopeo-cfs/internal/beneath"
)

// A containers-storage has for each image a directory DRIVER-images/ID, with the
// manifests of the image in files: one under the key "manifest", and that and the
// index that it was pulled by under "manifest-DIGEST". The names of files are the
// keys, those with other characters than digits, small letters and periods in
// Base64 behind an equals sign. DRIVER-images/images.json has the images' names.
//
// All of them are replaced by renames, so they can be read without locks. The
// library would take the locks, and make files.

const (
	manifestKey = "manifest"
	maxRecords  = 64 << 20 // bytes of an images.json
	maxItems    = 1000     // files of an image that are looked at
)

// store looks for the image in a containers-storage.
func (s *search) store(root string) *Found {
	at := Source{Kind: Store, Where: root}
	dir, err := os.Open(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		s.refuse(at, err)
		return nil
	}
	defer dir.Close()
	names, err := beneath.Names(dir, ".")
	if err != nil {
		s.refuse(at, err)
		return nil
	}
	slices.Sort(names)
	reasons := []error{}
	for _, name := range names {
		if !strings.HasSuffix(name, "-images") {
			continue
		}
		found, errs := s.storeImage(dir, name, at)
		if found != nil {
			return found
		}
		reasons = append(reasons, errs...)
	}
	if len(reasons) == 0 {
		reasons = append(reasons, ErrNotThere)
	}
	for _, err := range reasons {
		s.refuse(at, err)
	}
	return nil
}

// storeImage looks at what the images directory of a driver has of the image, and
// returns why none of it will do.
func (s *search) storeImage(root *os.File, images string, at Source) (*Found, []error) {
	id := s.image.ConfigDescriptor.Digest.Encoded()
	items, err := beneath.Names(root, path.Join(images, id))
	if err != nil {
		return nil, []error{err}
	}
	slices.SortFunc(items, func(a, b string) int { return len(a) - len(b) }) // "manifest" first
	var found *Found
	var indexes [][]byte
	var reasons []error
	for _, item := range items[:min(len(items), maxItems)] {
		key, want, ok := parseItem(item)
		if !ok {
			continue
		}
		raw, err := readBounded(root, path.Join(images, id, item), MaxManifest)
		if err == nil {
			err = checkDigest(raw, want)
		}
		if err != nil {
			reasons = append(reasons, fmt.Errorf("%s of image %s: %w", key, id, err))
			continue
		}
		if _, err := parseIndex(raw); err == nil {
			indexes = append(indexes, raw)
			continue
		}
		if found != nil {
			continue
		}
		if found, err = s.accept(at, raw, want); err != nil {
			reasons = append(reasons, fmt.Errorf("%s of image %s: %w", key, id, err))
		}
	}
	if found == nil {
		return nil, reasons
	}
	for _, raw := range indexes {
		if lists(raw, found.Digest()) {
			found.Index = raw
		}
	}
	found.Reference = nameIn(root, images, id)
	return found, nil
}

// parseItem returns the key that a file of an image's directory has, and the digest
// in it, if it is that of a manifest.
func parseItem(file string) (key string, want digest.Digest, ok bool) {
	key = file
	if encoded, ok := strings.CutPrefix(file, "="); ok {
		decoded, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			return "", "", false
		}
		key = string(decoded)
	}
	if key == manifestKey {
		return key, "", true
	}
	text, ok := strings.CutPrefix(key, manifestKey+"-")
	if !ok {
		return "", "", false
	}
	want, err := digest.Parse(text)
	return key, want, err == nil
}

// nameIn returns the first name that an image has in a store, nil if it has none.
func nameIn(root *os.File, images, id string) reference.Named {
	data, err := readBounded(root, path.Join(images, "images.json"), maxRecords)
	if err != nil {
		return nil
	}
	var records []struct {
		ID    string   `json:"id"`
		Names []string `json:"names"`
	}
	if err := json.Unmarshal(data, &records); err != nil {
		return nil
	}
	for _, r := range records {
		if r.ID != id {
			continue
		}
		for _, name := range r.Names {
			named, err := reference.ParseNormalizedNamed(name)
			if err == nil && reference.Domain(named) != "localhost" {
				return named
			}
		}
	}
	return nil
}
