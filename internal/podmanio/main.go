// Command podmanio makes the second major version of this module, which is built
// on go.podman.io/image/v5 and go.podman.io/storage, from the first, which is
// built on the same libraries under their old names. It copies the tree with the
// import paths rewritten. Nothing else differs.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

func main() {
	if err := run(os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "podmanio:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	flags := flag.NewFlagSet("podmanio", flag.ContinueOnError)
	from := flags.String("from", ".", "`directory` of the tree that the module is made from")
	to := flags.String("o", "build/podmanio", "`directory` to write the module to; what else is in it is removed")
	update := flags.Bool("update", false, "choose the versions of all dependencies anew, before")
	list := flags.Bool("list", false, "only print the versions of go.podman.io/image/v5 that it is checked against, the newest last")
	resolve := flags.String("resolve", "", "also write VERSION.mod and VERSION.sum next to the module, with this `version` of go.podman.io/image/v5")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unknown argument %q", flags.Arg(0))
	}
	if *list {
		for _, r := range releases {
			fmt.Println(r.image)
		}
		return nil
	}
	module, err := filepath.Abs(*to)
	if err != nil {
		return err
	}
	if err := writeSources(*from, module); err != nil {
		return fmt.Errorf("making the module in %s: %w", module, err)
	}
	if *update {
		for _, r := range []release{oldest(), newest()} {
			if err := r.resolve(*from, module, pinned(*from, r)); err != nil {
				return fmt.Errorf("choosing versions for go.podman.io/image/v5 %s: %w", r.image, err)
			}
		}
	}
	if err := writeModFiles(*from, module); err != nil {
		return err
	}
	if *resolve == "" {
		return nil
	}
	r, err := find(*resolve)
	if err != nil {
		return err
	}
	path := filepath.Join(filepath.Dir(module), r.image)
	if r == oldest() || r == newest() {
		return copyModFiles(pinned(*from, r), path)
	}
	return r.resolve(*from, module, path)
}

// find returns the release with a version of go.podman.io/image/v5.
func find(version string) (release, error) {
	known := make([]string, len(releases))
	for i, r := range releases {
		if r.image == version {
			return r, nil
		}
		known[i] = r.image
	}
	return release{}, fmt.Errorf("unknown version %q of go.podman.io/image/v5: must be one of %s", version, strings.Join(known, ", "))
}
