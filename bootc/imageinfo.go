package bootc

import (
	"encoding/json"
	"fmt"
)

// parseImageInfo returns the manifest in an .imginfo file, which older versions
// of bootc have written beside the origin: not the bytes that were pulled, but
// what another program has made of them.
func parseImageInfo(data []byte) (manifest []byte, err error) {
	var info struct {
		Manifest json.RawMessage `json:"manifest"`
	}
	if err := json.Unmarshal(data, &info); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOrigin, err)
	}
	if len(info.Manifest) == 0 || string(info.Manifest) == "null" {
		return nil, fmt.Errorf("%w: it has no manifest", ErrOrigin)
	}
	return info.Manifest, nil
}
