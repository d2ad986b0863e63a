package attached

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/containers/image/v5/manifest"
	"github.com/containers/storage"
	"github.com/opencontainers/go-digest"

	"github.com/skopeo-cfs/skopeo-cfs/internal/beneath"
)

// A containers-storage has an image's signatures one behind the other, those of the
// image's own manifest under the key "signatures" and those of each manifest under
// "signature-DIGEST", and their sizes in the image's metadata. The format is that of
// containers/image.

const (
	signaturesKey = "signatures"
	maxRecords    = 64 << 20 // bytes of an images.json
)

// keyOf returns the key of the signatures of a manifest.
func keyOf(d digest.Digest) string { return "signature-" + d.Encoded() }

// sizes are the sizes in bytes of signatures, as metadata has them.
type sizes struct {
	Own []int                   `json:"signature-sizes,omitempty"`
	Of  map[digest.Digest][]int `json:"signatures-sizes,omitempty"`
}

// split returns the signatures in what a store keeps under a key.
func split(raw []byte, sizes []int) ([]Signature, error) {
	if len(sizes) > maxSignatures {
		return nil, fmt.Errorf("%w: %d of them", ErrInvalid, len(sizes))
	}
	var all []Signature
	for _, size := range sizes {
		if size <= 0 || size > len(raw) {
			return nil, fmt.Errorf("%w: wrong sizes", ErrInvalid)
		}
		all = append(all, Signature(raw[:size:size]))
		raw = raw[size:]
	}
	if len(raw) > 0 {
		return nil, fmt.Errorf("%w: %d bytes more than they have", ErrInvalid, len(raw))
	}
	return all, nil
}

// FromStore returns the signatures that the containers-storage with a root directory has
// of a manifest of the image with an ID; none where it has none. Nobody's locks are
// waited for, and nothing is written. The error wraps ErrInvalid or is that of reading.
func FromStore(root, id string, d digest.Digest) ([]Signature, error) {
	dir, err := os.Open(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := beneath.Names(dir, ".")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if !strings.HasSuffix(name, "-images") {
			continue
		}
		signatures, err := fromImages(dir, name, id, d)
		if err != nil {
			return nil, fmt.Errorf("signatures of image %s in %s: %w", id, root, err)
		}
		if len(signatures) > 0 {
			return signatures, nil
		}
	}
	return nil, nil
}

// fromImages looks at the images of a driver.
func fromImages(root *os.File, images, id string, d digest.Digest) ([]Signature, error) {
	recorded, err := sizesIn(root, images, id)
	if err != nil || len(recorded.Of[d]) == 0 {
		return nil, err
	}
	file := "=" + base64.StdEncoding.EncodeToString([]byte(keyOf(d)))
	raw, err := beneath.ReadFile(root, path.Join(images, id, file), maxAll)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return split(raw, recorded.Of[d])
}

// sizesIn returns what the metadata of an image has, nothing where there is no image.
func sizesIn(root *os.File, images, id string) (sizes, error) {
	raw, err := beneath.ReadFile(root, path.Join(images, "images.json"), maxRecords)
	if errors.Is(err, fs.ErrNotExist) {
		return sizes{}, nil
	}
	if err != nil {
		return sizes{}, err
	}
	var records []struct {
		ID       string `json:"id"`
		Metadata string `json:"metadata"`
	}
	if err := json.Unmarshal(raw, &records); err != nil {
		return sizes{}, fmt.Errorf("images.json: %w: %.200q", ErrInvalid, err.Error())
	}
	for _, r := range records {
		if r.ID == id && r.Metadata != "" {
			var s sizes
			if err := json.Unmarshal([]byte(r.Metadata), &s); err != nil {
				return sizes{}, fmt.Errorf("metadata: %w: %.200q", ErrInvalid, err.Error())
			}
			return s, nil
		}
	}
	return sizes{}, nil
}

// ToStore adds signatures of a manifest to the image with an ID in a store, beside those
// that are there, and returns how many it has added. The manifest must be one of the
// image's.
func ToStore(store storage.Store, id string, d digest.Digest, signatures []Signature) (added int, err error) {
	img, err := store.Image(id)
	if err != nil {
		return 0, fmt.Errorf("adding signatures to image %s: %w", id, err)
	}
	metadata := map[string]json.RawMessage{}
	var recorded sizes
	if img.Metadata != "" {
		if err := errors.Join(json.Unmarshal([]byte(img.Metadata), &metadata), json.Unmarshal([]byte(img.Metadata), &recorded)); err != nil {
			return 0, fmt.Errorf("metadata of image %s: %w: %.200q", id, ErrInvalid, err.Error())
		}
	}
	var there []Signature
	if len(recorded.Of[d]) > 0 {
		raw, err := store.ImageBigData(id, keyOf(d))
		if err != nil {
			return 0, fmt.Errorf("reading signatures of image %s: %w", id, err)
		}
		if there, err = split(raw, recorded.Of[d]); err != nil {
			return 0, fmt.Errorf("signatures of image %s: %w", id, err)
		}
	}
	all := Union(there, signatures)
	if added = len(all) - len(there); added == 0 {
		return 0, nil
	}
	var joined []byte
	var lengths []int
	for _, s := range all {
		joined, lengths = append(joined, s...), append(lengths, len(s))
	}
	keys := []string{keyOf(d)}
	if recorded.Of == nil {
		recorded.Of = map[digest.Digest][]int{}
	}
	recorded.Of[d] = lengths
	if img.Digest == d {
		keys = append(keys, signaturesKey)
		recorded.Own = lengths
	}
	for _, key := range keys {
		if err := store.SetImageBigData(id, key, joined, manifest.Digest); err != nil {
			return 0, fmt.Errorf("adding signatures to image %s: %w", id, err)
		}
	}
	raw, err := json.Marshal(recorded)
	if err == nil {
		err = json.Unmarshal(raw, &metadata) // which keeps all other fields
	}
	if err == nil {
		raw, err = json.Marshal(metadata)
	}
	if err == nil {
		err = store.SetMetadata(img.ID, string(raw))
	}
	if err != nil {
		return 0, fmt.Errorf("adding signatures to image %s: %w", id, err)
	}
	return added, nil
}
