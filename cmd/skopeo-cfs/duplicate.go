package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"path"

	"github.com/containers/image/v5/types"
	"github.com/vbatts/tar-split/tar/storage"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/source"
)

// explainDuplicate adds to the error of containers-storage about a path that
// occurs twice in a layer which path of which layer that is.
func explainDuplicate(ctx context.Context, err error, ref types.ImageReference) error {
	if !errors.Is(err, storage.ErrDuplicatePath) || ref.Transport().Name() != "composefs" {
		return err
	}
	opened, openErr := ref.NewImageSource(ctx, nil)
	if openErr != nil {
		return err
	}
	defer opened.Close()
	src, ok := opened.(*source.Source)
	if !ok {
		return err
	}
	for i, l := range src.Image().Layers {
		if twice := duplicate(ctx, src.Image(), i); twice != "" {
			return fmt.Errorf("containers-storage takes no layer that has a path twice, and layer %s has %q twice: %w", l.Digest(), twice, err)
		}
	}
	return err
}

// duplicate returns the first path that occurs in a layer for the second time,
// "" if there is none.
func duplicate(ctx context.Context, image *composefsrepo.Image, layer int) string {
	content, err := image.OpenLayer(ctx, layer)
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
