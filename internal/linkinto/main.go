// Command linkinto adds the transport composefs: to a source tree of podman,
// buildah or skopeo: the module, an import, the entries in vendor, and with
// --share-blocks the call that makes images share their blocks with a repository.
//
// It prepares everything before it changes a file. If it does not understand a tree,
// it changes nothing.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
)

func main() {
	err := run(os.Args[1:], os.Stdout, os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "link-into:", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	moduleDir   string // where the module is, "" for a released version
	version     string // the released version
	shareBlocks bool
	dryRun      bool
	undo        bool
}

func run(args []string, stdout, stderr io.Writer) error {
	var o options
	flags := flag.NewFlagSet("link-into", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.moduleDir, "module-dir", "", "link the module that is in `directory`, instead of a released version")
	flags.StringVar(&o.version, "version", "latest", "link this released `version` of the module")
	flags.BoolVar(&o.shareBlocks, "share-blocks", false, "also change the call that copies images, so that they share blocks with the repository")
	flags.BoolVar(&o.dryRun, "dry-run", false, "print what would change, and change nothing")
	flags.BoolVar(&o.undo, "undo", false, "restore what was before")
	flags.Usage = func() {
		fmt.Fprintln(stderr, "usage: link-into [--module-dir DIRECTORY | --version VERSION] [--share-blocks] [--dry-run] TREE\n       link-into --undo [--dry-run] TREE")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 {
		flags.Usage()
		return fmt.Errorf("needs one source tree, not %d", flags.NArg())
	}
	dir := flags.Arg(0)
	if o.undo {
		return undo(dir, o.dryRun, stdout)
	}
	changes, err := prepare(dir, o)
	if err != nil {
		return fmt.Errorf("%s: %w; nothing was changed", dir, err)
	}
	if err := changes.describe(stdout); err != nil || o.dryRun {
		return err
	}
	return changes.apply(dir)
}

// prepare returns the changes that link the module into the tree at dir.
func prepare(dir string, o options) (changeSet, error) {
	t, err := readTree(dir)
	if err != nil {
		return nil, err
	}
	m, err := findModule(t.generation, o)
	if err != nil {
		return nil, err
	}
	if o.shareBlocks { // before what takes longer
		if err := t.changeCall(changeSet{}, m); err != nil {
			return nil, err
		}
	}
	changes := changeSet{}
	if err := t.addImport(changes, m); err != nil {
		return nil, err
	}
	packages := []string{m.path + "/transport"}
	if o.shareBlocks {
		packages = append(packages, m.path+"/zerocopy")
	}
	if err := t.addModule(changes, m, packages); err != nil {
		return nil, err
	}
	if o.shareBlocks {
		if err := t.changeCall(changes, m); err != nil {
			return nil, err
		}
	}
	return changes, nil
}
