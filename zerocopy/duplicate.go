package zerocopy

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"path"

	tarsplit "github.com/vbatts/tar-split/tar/storage"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
)

// explainDuplicate says of the store's error about a path that occurs twice in a
// layer which path that is. Other errors it returns as they are.
func explainDuplicate(ctx context.Context, err error, image *composefsrepo.Image, i int) error {
	if !errors.Is(err, tarsplit.ErrDuplicatePath) {
		return err
	}
	if twice := duplicate(ctx, image, i); twice != "" {
		return fmt.Errorf("layer %s has %q twice, which containers-storage does not support: %w", image.Layers[i].DiffID, twice, tarsplit.ErrDuplicatePath)
	}
	return err
}

// duplicate returns the first path that occurs in a layer for the second time,
// "" if there is none.
func duplicate(ctx context.Context, image *composefsrepo.Image, i int) string {
	content, err := image.OpenLayer(ctx, i)
	if err != nil {
		return ""
	}
	defer content.Close()
	seen := map[string]bool{}
	for entries := tar.NewReader(content); ; {
		header, err := entries.Next()
		if err != nil {
			return ""
		}
		name := path.Clean(header.Name) // as tar-split compares them
		if seen[name] {
			return name
		}
		seen[name] = true
	}
}
