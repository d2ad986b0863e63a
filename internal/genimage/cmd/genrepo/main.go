// Command genrepo writes a composefs repository with a generated image, for
// benchmarks of whole processes.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/genimage"
	"github.com/skopeo-cfs/skopeo-cfs/internal/repomaker"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "genrepo:", err)
		os.Exit(1)
	}
}

// listings are the names of what the manifest can list.
var listings = map[string]repomaker.Listing{
	"gzip": repomaker.Gzip, "zstd": repomaker.Zstd, "uncompressed": repomaker.Uncompressed, "pretended": repomaker.Pretended,
}

func run() error {
	var spec genimage.Spec
	flag.IntVar(&spec.Files, "files", 30000, "number of files")
	flag.Int64Var(&spec.Bytes, "bytes", 1<<30, "their size together")
	flag.IntVar(&spec.Layers, "layers", 4, "number of layers")
	flag.Uint64Var(&spec.Seed, "seed", 1, "another image for another number")
	algorithmName := flag.String("algorithm", fsverity.SHA512.String(), "fs-verity `algorithm` of the repository")
	listingName := flag.String("listing", "pretended", "what the manifest lists: gzip, zstd, uncompressed, or pretended: gzip without taking the time")
	tag := flag.String("tag", "localhost/generated:latest", "tag of the image")
	out := flag.String("o", "", "`path` of the repository, which must not exist")
	flag.Parse()

	listing, ok := listings[*listingName]
	algorithm, err := fsverity.ParseAlgorithm(*algorithmName)
	switch {
	case err != nil:
		return err
	case !ok:
		return fmt.Errorf("unknown listing %q", *listingName)
	case *out == "" || flag.NArg() > 0:
		return errors.New("want the flag -o and no arguments")
	}
	if err := os.Mkdir(*out, 0o700); err != nil {
		return err
	}
	repo, err := repomaker.Create(*out, algorithm, repomaker.Options{})
	if err != nil {
		return err
	}
	added, err := repo.AddGenerated(*tag, spec, listing)
	if err != nil {
		return err
	}
	fmt.Println(added.Manifest.Digest)
	return nil
}
