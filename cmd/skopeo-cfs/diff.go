package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/containers/image/v5/transports/alltransports"
	"github.com/containers/image/v5/types"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/bootc"
	"github.com/skopeo-cfs/skopeo-cfs/diff"
	"github.com/skopeo-cfs/skopeo-cfs/reference"
	"github.com/skopeo-cfs/skopeo-cfs/source"
	"github.com/skopeo-cfs/skopeo-cfs/transport"
)

type diffOptions struct {
	global                *globalOptions
	host                  hostOptions
	files, packages, stat bool
	asJSON, exitCode      bool
	format                string
}

func newDiffCommand(global *globalOptions) *cobra.Command {
	options := diffOptions{global: global}
	cmd := &cobra.Command{
		Use:   "diff [OLD NEW]",
		Short: "Show how two images differ: in packages, config and files",
		Long: `Show how two images of composefs repositories differ: which packages were upgraded,
downgraded, removed and added, what changed in the config, and how many files.

An image is composefs:[REPOSITORY]NAME, and composefs: can be left out. On a bootc host,
without arguments, diff compares the booted deployment with the staged one, or if none is
staged, the rollback with the booted one.

Packages are those of rpm, dpkg, apk and pacman. Files are compared by type, content,
mode, owner, extended attributes, target, device and links, not by time. Contents are
compared by the names of their objects and not read, unless the two repositories have
different algorithms. "New content" is the size of the contents that only the new image
has, each counted once. That is about what it adds to a repository with the old one.

--files lists each file that differs: A added, D removed, C changed. With --files or
--packages, diff compares nothing else.

In a template the fields are .Old and .New (.Name .Digest .ID), .Config (.Field .Key .Old
.New .Kind), .Packages (.Upgraded and .Downgraded with .Old and .New, .Removed, .Added:
.Name .Version .Arch .Kind) and .Files (.Added .Removed .Changed .AddedBytes .RemovedBytes
.NewBytes .Changes: .Path .Kind .What .Old .New).`,
		Example: `  skopeo-cfs diff
  skopeo-cfs diff --packages @rollback @booted
  skopeo-cfs diff --files '[/srv/repo]os:41' '[/srv/repo]os:42'
  skopeo-cfs diff --exit-code --stat quay.io/org/os:41 quay.io/org/os:42
  skopeo-cfs diff --format '{{range .Packages.Upgraded}}{{.New.Name}}\n{{end}}' os:41 os:42`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 0 && len(args) != 2 {
				return fmt.Errorf("diff takes two images, or none on a bootc host, not %d", len(args))
			}
			return nil
		},
		ValidArgsFunction: completeImages(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return options.run(cmd.Context(), args, cmd.OutOrStdout())
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&options.files, "files", false, "list only the files that differ")
	flags.BoolVar(&options.packages, "packages", false, "list only the packages that differ")
	flags.BoolVar(&options.stat, "stat", false, "print only numbers")
	flags.BoolVar(&options.asJSON, "json", false, "print all differences as JSON")
	flags.StringVar(&options.format, "format", "", "print with the Go `template`, or \"json\"")
	flags.BoolVar(&options.exitCode, "exit-code", false, "exit with 1 if the images differ; errors also exit with 1")
	cmd.MarkFlagsMutuallyExclusive("stat", "json", "format")
	return cmd
}

// exitCode ends the command with a code, and says nothing.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

func (o *diffOptions) run(ctx context.Context, args []string, stdout io.Writer) error {
	if o.format != "" && o.format != "json" {
		if _, err := newFormat(o.format); err != nil {
			return err // before the work
		}
	}
	images, err := o.open(ctx, args)
	defer func() {
		for _, i := range images {
			i.src.Close() // whatever was read is read
		}
	}()
	if err != nil {
		return err
	}
	old, new := images[0], images[1]
	result, err := diff.Images(ctx, old.src.Image(), new.src.Image(), o.sections())
	if result == nil || result.Packages == nil && result.Files == nil && err != nil {
		return fmt.Errorf("comparing %s with %s: %w", old.name, new.name, err)
	}
	result.Old.Name, result.New.Name = old.name, new.name
	printErr := o.print(result, stdout)
	if errors.Is(printErr, unix.EPIPE) {
		printErr = nil // the reader has seen enough
	}
	if err := errors.Join(err, printErr); err != nil {
		return err
	}
	if o.exitCode && !result.Equal() {
		return exitCode(1)
	}
	return nil
}

func (o *diffOptions) sections() diff.Sections {
	if !o.files && !o.packages {
		return diff.All
	}
	return diff.Sections{Files: o.files, Packages: o.packages}
}

func (o *diffOptions) print(result *diff.Result, stdout io.Writer) error {
	switch {
	case o.asJSON, o.format == "json":
		return printJSON(result, printableJSON{stdout})
	case o.format != "":
		if isTerminal(stdout) {
			result = result.Printable()
		}
		return printFormat(o.format, []*diff.Result{result}, stdout)
	case o.stat:
		return result.WriteText(stdout, diff.Counts)
	case o.files || o.packages:
		return result.WriteText(stdout, diff.Lists)
	default:
		return result.WriteText(stdout, diff.Summary)
	}
}

// openedImage is an image that is compared.
type openedImage struct {
	name string
	src  *source.Source
}

// open opens the two images. Of those that it could open it returns the sources on an
// error too.
func (o *diffOptions) open(ctx context.Context, args []string) (images []openedImage, err error) {
	refs, names, err := o.references(args)
	if err != nil {
		return nil, err
	}
	for i, ref := range refs {
		src, err := openComposefs(ctx, ref, o.global.systemContext())
		if errors.Is(err, errNotComposefs) {
			err = fmt.Errorf("%s: %w", names[i], err)
		}
		if err != nil {
			return images, err
		}
		images = append(images, openedImage{names[i], src})
	}
	return images, nil
}

// references returns what the arguments name, and the names.
func (o *diffOptions) references(args []string) (refs []types.ImageReference, names []string, err error) {
	if len(args) == 0 {
		return o.deployments()
	}
	for _, name := range args {
		ref, err := composefsReference(name)
		if err != nil {
			return nil, nil, err
		}
		refs = append(refs, ref)
	}
	return refs, args, nil
}

// composefsReference returns the reference that a name is whose transport, composefs,
// may be left out.
func composefsReference(name string) (types.ImageReference, error) {
	named := alltransports.TransportFromImageName(name)
	if named != nil && named.Name() != transport.Transport.Name() {
		return nil, fmt.Errorf("image name %q: only images of composefs repositories can be compared", name)
	}
	if named == nil {
		name = transport.Transport.Name() + ":" + name
	}
	ref, err := alltransports.ParseImageName(name)
	if err != nil {
		return nil, fmt.Errorf("image name %q: %w", name, err)
	}
	return ref, nil
}

// deployments returns what is compared on a bootc host where nothing is named.
func (o *diffOptions) deployments() (refs []types.ImageReference, names []string, err error) {
	host, err := o.host.open()
	if err != nil {
		return nil, nil, fmt.Errorf("looking for images to compare: %w", err)
	}
	booted, err := host.Find(string(bootc.Booted))
	if err != nil {
		return nil, nil, err
	}
	compared := []*bootc.Deployment{booted, nil}
	if compared[1], err = host.Find(string(bootc.Staged)); errors.Is(err, bootc.ErrNotFound) {
		rollback, err := host.Find(string(bootc.Rollback))
		if err != nil {
			return nil, nil, fmt.Errorf("nothing is staged: %w", err)
		}
		compared = []*bootc.Deployment{rollback, booted}
	} else if err != nil {
		return nil, nil, err
	}
	for _, d := range compared {
		ref, err := reference.WithDeployment(repositoryOf(host), d.ID)
		if err != nil {
			return nil, nil, err
		}
		refs = append(refs, transport.NewReference(ref))
		names = append(names, "@"+string(d.State))
	}
	return refs, names, nil
}

// printableJSON writes JSON, in which characters that are not printable stand only
// within strings, with these spelled out: a terminal may obey those that JSON itself
// does not mind.
type printableJSON struct{ io.Writer }

// Write implements io.Writer for whole characters.
func (w printableJSON) Write(p []byte) (int, error) {
	var b bytes.Buffer
	for rest := p; len(rest) > 0; {
		r, size := utf8.DecodeRune(rest)
		switch {
		case r == '\n' || strconv.IsPrint(r):
			b.Write(rest[:size])
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
		rest = rest[size:]
	}
	if _, err := w.Writer.Write(b.Bytes()); err != nil {
		return 0, err
	}
	return len(p), nil
}
