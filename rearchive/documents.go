package rearchive

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
)

// writeDocuments makes the new config and the new manifest.
func (s *Source) writeDocuments() error {
	image := s.src.Image()
	diffIDs := make([]digest.Digest, len(s.layers))
	for i, l := range s.layers {
		diffIDs[i] = image.Layers[i].DiffID
		if l.other != "" {
			diffIDs[i] = l.info.Digest
		}
	}
	var err error
	if s.config, err = newConfig(image.Config, diffIDs); err != nil {
		return fmt.Errorf("config %s: %w", image.ConfigDescriptor.Digest, err)
	}
	s.configDigest = digest.FromBytes(s.config)
	if s.manifest, err = s.newManifest(image); err != nil {
		return fmt.Errorf("manifest %s: %w", image.ManifestDigest, err)
	}
	return nil
}

// newConfig returns the config with other diff IDs.
func newConfig(config []byte, diffIDs []digest.Digest) ([]byte, error) {
	return edit(config, fields{"rootfs": func(rootFS json.RawMessage) (any, error) {
		return edit(rootFS, fields{"diff_ids": to(diffIDs)})
	}})
}

// newManifest returns the manifest with the new config and the layers that are
// served now.
func (s *Source) newManifest(image *composefsrepo.Image) ([]byte, error) {
	return edit(image.Manifest, fields{
		"config": func(config json.RawMessage) (any, error) {
			return edit(config, fields{"digest": to(s.configDigest), "size": to(len(s.config)), "data": remove})
		},
		"layers": func(raw json.RawMessage) (any, error) {
			var layers []json.RawMessage
			if err := json.Unmarshal(raw, &layers); err != nil {
				return nil, err
			}
			if len(layers) != len(s.layers) {
				return nil, fmt.Errorf("%w: it lists %d layers, not %d", errAmbiguous, len(layers), len(s.layers))
			}
			for i := range layers {
				var err error
				if layers[i], err = s.newDescriptor(layers[i], i); err != nil {
					return nil, err
				}
			}
			return layers, nil
		},
	})
}

// newDescriptor returns a layer's descriptor, unchanged where it is still right.
func (s *Source) newDescriptor(descriptor json.RawMessage, i int) (json.RawMessage, error) {
	info := s.layers[i].info
	if info.Digest == s.src.Image().Layers[i].Descriptor.Digest {
		return descriptor, nil
	}
	annotations := remove
	if len(info.Annotations) > 0 {
		annotations = to(info.Annotations)
	}
	return edit(descriptor, fields{
		"mediaType":   to(info.MediaType),
		"digest":      to(info.Digest),
		"size":        to(info.Size),
		"annotations": annotations,
		"urls":        remove, // they and the data are the old blob's
		"data":        remove,
	})
}

// fields says what becomes of the fields of a JSON object.
type fields map[string]func(old json.RawMessage) (any, error)

// to puts a value in the place of whatever there was.
func to(value any) func(json.RawMessage) (any, error) {
	return func(json.RawMessage) (any, error) { return value, nil }
}

// remove removes a field.
func remove(json.RawMessage) (any, error) { return nil, nil }

// errAmbiguous: what one program would read in a document, another would not.
var errAmbiguous = errors.New("ambiguous document")

// edit changes some fields of a JSON object and keeps all others, those too that
// this program knows nothing of.
func edit(object json.RawMessage, change fields) (json.RawMessage, error) {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(object, &all); err != nil {
		return nil, err
	}
	if all == nil {
		all = map[string]json.RawMessage{} // it was null
	}
	for _, name := range slices.Sorted(maps.Keys(change)) {
		for key := range all {
			if key != name && strings.EqualFold(key, name) {
				return nil, fmt.Errorf("%w: field %.100q is not %q", errAmbiguous, key, name)
			}
		}
		value, err := change[name](all[name])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if value == nil {
			delete(all, name)
			continue
		}
		if all[name], err = json.Marshal(value); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return json.Marshal(all)
}
