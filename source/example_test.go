package source_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
	"github.com/skopeo-cfs/skopeo-cfs/source"
	"github.com/skopeo-cfs/skopeo-cfs/transport"
)

// The source of a composefs image gives access to the image in its repository.
func Example() {
	dir, err := os.MkdirTemp("", "source")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := fixtures.UnpackTo(dir, "sha512"); err != nil {
		log.Fatal(err)
	}

	ref, err := transport.ParseReference("[" + filepath.Join(dir, "sha512") + "]hello")
	if err != nil {
		log.Fatal(err)
	}
	opened, err := ref.NewImageSource(context.Background(), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer opened.Close()
	if src, ok := opened.(*source.Source); ok {
		fmt.Println("manifest:", src.Image().ManifestDigest)
		fmt.Println("layers that are compressed in the manifest:", src.ChangesManifest())
	}
	// Output:
	// manifest: sha256:c0a62f56137b0a5aa908d520815a8218ec58472826badadbddd45dfc24fddc3e
	// layers that are compressed in the manifest: true
}
