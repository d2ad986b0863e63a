package tree_test

import (
	"context"
	"fmt"
	"io/fs"
	"log"
	"os"
	"path/filepath"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
	"github.com/skopeo-cfs/skopeo-cfs/tree"
)

// The files of an image, and the content of one.
func Example() {
	dir, err := os.MkdirTemp("", "tree")
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
	files, err := tree.Read(ctx, image)
	if err != nil {
		log.Fatal(err)
	}
	err = fs.WalkDir(files.FS(ctx), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Println(info.Mode(), info.Size(), path)
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	content, err := fs.ReadFile(files.FS(ctx), "usr/share/doc/new")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%q\n", content)
	// Output:
	// -rwxr-xr-x 188 bin/hello
	// -rw-r--r-- 300 etc/os-release
	// -rw-r--r-- 4 usr/share/doc/new
	// -rw-r--r-- 200000 var/lib/big
	// "new\n"
}

// The entries of a layer, and the objects that have their contents.
func ExampleReadLayer() {
	dir, err := os.MkdirTemp("", "tree")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := fixtures.UnpackTo(dir, "sha256"); err != nil {
		log.Fatal(err)
	}

	ctx := context.Background()
	repo, err := composefsrepo.Open(ctx, filepath.Join(dir, "sha256"), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer repo.Close()
	image, err := repo.ImageByTag(ctx, "localhost/hello:latest")
	if err != nil {
		log.Fatal(err)
	}
	err = tree.ReadLayer(ctx, image, 2, func(e *tree.Entry) error {
		fmt.Println(e.Name)
		for piece, err := range e.Pieces() {
			if err != nil {
				return err
			}
			if piece.Inline == nil {
				fmt.Printf("  %d bytes of object %.12s\n", piece.Size, piece.Object)
			}
		}
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output:
	// var/
	// var/lib/
	// var/lib/big
	//   200000 bytes of object f2853f7fbd1d
	// usr/share/doc/.wh..wh..opq
	// usr/share/doc/new
}
