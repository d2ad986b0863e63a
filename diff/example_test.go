package diff_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/diff"
	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
)

// A program that tells how two images of a repository differ.
func ExampleImages() {
	dir, err := os.MkdirTemp("", "skopeo-cfs-diff")
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
	old, err := repo.ImageByTag(ctx, "localhost/rootdir:latest")
	if err != nil {
		log.Fatal(err)
	}
	new, err := repo.ImageByTag(ctx, "localhost/hello:latest")
	if err != nil {
		log.Fatal(err)
	}
	result, err := diff.Images(ctx, old, new, diff.All)
	if err != nil {
		log.Fatal(err)
	}
	if err := result.WriteText(os.Stdout, diff.Lists); err != nil {
		log.Fatal(err)
	}
	fmt.Println(result.Files.NewBytes, "bytes are new")
	// Output:
	// Config:
	//   label org.example.fixture: rootdir -> hello
	// C / (mode 0711 -> 0755, owner 56:0 -> 0:0)
	// A /bin (directory)
	// A /bin/hello (188B)
	// A /etc (directory)
	// A /etc/os-release (300B)
	// A /tmp (directory)
	// D /usr/a (90B)
	// D /usr/b (90B)
	// D /usr/c (90B)
	// A /usr/share (directory)
	// A /usr/share/doc (directory)
	// A /usr/share/doc/new (4B)
	// A /var (directory)
	// A /var/lib (directory)
	// A /var/lib/big (200kB)
	// 200492 bytes are new
}
