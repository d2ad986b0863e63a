// Command bench measures what the project promises, on generated images: how
// fast layers are read from a repository, and what bringing an image into
// containers-storage costs, one way and another. All that is compared runs as
// processes of their own, in turns, and what counts is the ratio of runs that
// were neighbours: whatever else the machine is doing, it does to both.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/internal/genimage"
)

// options are the flags.
type options struct {
	spec     genimage.Spec // the image that is brought into containers-storage
	runs     int
	quick    bool
	dir      string
	command  string
	many     int    // number of files of the image that has many
	baseline string // a commit whose skopeo-cfs is measured, too
	only     string
	jsonPath string
	svgPath  string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 {
		if part, ok := parts[args[0]]; ok {
			return part(ctx, args[1:])
		}
	}
	o, err := parseOptions(args)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := enterNamespace(); err != nil {
		return err
	}
	results, err := measureAll(ctx, o)
	if err != nil {
		if ctx.Err() != nil {
			return errors.New("interrupted")
		}
		return err
	}
	return report(results, o)
}

func parseOptions(args []string) (options, error) {
	o := options{spec: genimage.Spec{Seed: 1}}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.IntVar(&o.spec.Files, "files", 30000, "number of files of the image")
	flags.Int64Var(&o.spec.Bytes, "bytes", 2e9, "their size together; what is only read has half of it")
	flags.IntVar(&o.spec.Layers, "layers", 4, "number of layers of the image")
	flags.IntVar(&o.runs, "runs", 5, "how often each is measured, but for the slowest")
	flags.StringVar(&o.dir, "dir", os.TempDir(), "`directory` for seven times the size of the image")
	flags.StringVar(&o.command, "command", "bin/skopeo-cfs", "`path` of the skopeo-cfs to be measured")
	flags.IntVar(&o.many, "many", 250000, "number of files of an image that has many, of 8 KiB each, to compare with one of as many as -files")
	flags.StringVar(&o.baseline, "baseline", "", "measure the skopeo-cfs of this `commit`, too, beside the other")
	flags.StringVar(&o.only, "only", "", "measure only this: "+sections)
	flags.StringVar(&o.jsonPath, "json", "", "write the results to the file at `path`")
	flags.StringVar(&o.svgPath, "svg", "", "draw the results into the file at `path`")
	flags.BoolVar(&o.quick, "quick", false, "a small image and one run, to see that it works: 1,500 files and 100 MB")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if o.quick {
		for name, value := range map[string]string{"files": "1500", "bytes": "100000000", "runs": "1", "many": "6000"} {
			if !isGiven(flags, name) {
				_ = flags.Set(name, value) // is one that it takes
			}
		}
	}
	switch {
	case flags.NArg() > 0:
		return o, fmt.Errorf("unknown argument %q", flags.Arg(0))
	case o.runs < 1:
		return o, errors.New("nothing comes of no runs")
	case o.only != "" && !slices.Contains(strings.Fields(sections), o.only):
		return o, fmt.Errorf("-only %s: must be one of %s", o.only, sections)
	}
	return o, nil
}

// sections are what -only may be.
const sections = "reading storage files comparing verify serving"

// isGiven tells whether a flag was on the command line.
func isGiven(flags *flag.FlagSet, name string) bool {
	given := false
	flags.Visit(func(f *flag.Flag) { given = given || f.Name == name })
	return given
}

// measureAll makes the images and measures everything that was asked for.
func measureAll(ctx context.Context, o options) (_ *Results, err error) {
	b, err := newBench(ctx, o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	results := b.results()
	if o.only == "" || o.only == "reading" {
		if err := b.reading(ctx, results); err != nil {
			return nil, fmt.Errorf("measuring how layers are read: %w", err)
		}
	}
	if o.only == "" || o.only == "storage" {
		if err := b.storage(ctx, results); err != nil {
			return nil, fmt.Errorf("measuring copies into containers-storage: %w", err)
		}
	}
	if o.only == "" || o.only == "files" {
		if err := b.manyFiles(ctx, results); err != nil {
			return nil, fmt.Errorf("measuring copies of images of many files: %w", err)
		}
	}
	if o.only == "" || o.only == "comparing" {
		if err := b.comparing(ctx, results); err != nil {
			return nil, fmt.Errorf("measuring comparisons of images: %w", err)
		}
	}
	if o.only == "" || o.only == "verify" {
		if err := b.verify(ctx, results); err != nil {
			return nil, fmt.Errorf("measuring how repositories are checked: %w", err)
		}
	}
	if o.only == "" || o.only == "serving" {
		if err := b.serving(ctx, results); err != nil {
			return nil, fmt.Errorf("measuring how an image is served: %w", err)
		}
	}
	return results, nil
}
