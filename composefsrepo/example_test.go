package composefsrepo_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
)

// The layers of an image, read as tars. Reading ends with an error where a tar does
// not have its diff ID.
func Example() {
	dir, err := os.MkdirTemp("", "composefsrepo")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := fixtures.UnpackTo(dir, "sha512"); err != nil {
		log.Fatal(err)
	}

	ctx := context.Background()
	repo, err := composefsrepo.Open(ctx, filepath.Join(dir, "sha512"), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer repo.Close()
	image, err := repo.ImageByTag(ctx, "localhost/hello:latest")
	if err != nil {
		log.Fatal(err)
	}
	for n, layer := range image.Layers {
		tar, err := image.OpenLayer(ctx, n)
		if err != nil {
			log.Fatal(err)
		}
		size, err := io.Copy(io.Discard, tar)
		if err != nil {
			log.Fatal(err)
		}
		tar.Close()
		fmt.Printf("%.19s %d bytes\n", layer.DiffID, size)
	}
	// Output:
	// sha256:6d252805c7ca 18944 bytes
	// sha256:6d0511e7dfb9 3072 bytes
	// sha256:c91639bd9a88 204288 bytes
}
