package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/containers/image/v5/types"
	"github.com/docker/go-units"
	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/skopeo-cfs/skopeo-cfs/internal/fullname"
)

type syncOptions struct {
	copyOptions
	root           string // of the running system, "" for /
	scoped         bool
	appendSuffix   string
	dryRun         bool
	keepGoing      bool
	allDeployments bool
}

func newSyncCommand(global *globalOptions) *cobra.Command {
	options := syncOptions{copyOptions: copyOptions{global: global}}
	cmd := &cobra.Command{
		Use:   "sync composefs:[REPOSITORY]PATTERN DESTINATION",
		Short: "Copy the images of a composefs repository to a registry, a directory or containers-storage",
		Long: `Copy the images of a composefs repository to another place, each as "copy" does it.

The brackets are part of the name; "composefs:" is the default repository. PATTERN is
of the tags to copy, with or without their version: * and ? as in a shell, without a
slash. Without PATTERN all tagged images are copied.

The destination is one of
  docker://REGISTRY[/PATH]   a registry
  dir:DIRECTORY              a directory with a directory for each image
  oci:DIRECTORY              an OCI layout that holds all images
  containers-storage:        podman's storage

In a layout and in containers-storage an image keeps its name. In a registry and in a
directory it has the last part of it, or with --scoped the whole. If two images would
have the same name, nothing is copied.

An image that the destination has is not copied again, so a sync that was ended goes
on where it was. What images share is compressed and sent once.`,
		Example: `  skopeo-cfs sync composefs: docker://registry.example.com/mirror
  skopeo-cfs sync 'composefs:[/srv/repo]quay.io/org/*' oci:/media/usb/images
  skopeo-cfs sync --all-deployments --dry-run composefs: containers-storage:`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: completeSync,
		RunE: func(cmd *cobra.Command, args []string) error {
			return options.run(cmd.Context(), args[0], args[1], cmd.OutOrStdout())
		},
	}
	flags := cmd.Flags()
	options.addFlagsOfMany(flags)
	flags.BoolVar(&options.scoped, "scoped", false, "keep the whole name of images, behind the path in the registry or directory")
	flags.StringVar(&options.appendSuffix, "append-suffix", "", "append this `text` to the tags at the destination")
	flags.BoolVar(&options.dryRun, "dry-run", false, "write nothing; print what would be copied, and where to")
	flags.BoolVar(&options.keepGoing, "keep-going", false, "if an image can't be copied, go on with the others, and fail at the end")
	flags.BoolVar(&options.allDeployments, "all-deployments", false, "also copy the images of the bootc host's deployments that no tag names")
	return cmd
}

// completeSync completes the repository with its tags, and the transports that images
// can go to.
func completeSync(cmd *cobra.Command, args []string, begin string) ([]cobra.Completion, cobra.ShellCompDirective) {
	switch {
	case len(args) == 0 && !strings.HasPrefix(begin, "composefs:"):
		return []cobra.Completion{"composefs:"}, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	case len(args) == 0:
		return completeImages(1)(cmd, args, begin)
	case len(args) > 1:
		return nil, cobra.ShellCompDirectiveNoFileComp
	case strings.Contains(begin, ":"):
		return nil, cobra.ShellCompDirectiveDefault
	}
	return []cobra.Completion{"containers-storage:", "dir:", "docker://", "oci:"}, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}

func (o *syncOptions) run(ctx context.Context, from, to string, stdout io.Writer) error {
	source, err := parseSyncSource(from)
	if err != nil {
		return err
	}
	target, err := o.target(to)
	if err != nil {
		return err
	}
	if err := o.enterUserNamespace(to); err != nil {
		return err
	}
	p, err := o.prepare(ctx, target.transport, stdout)
	if err != nil {
		return err
	}
	defer p.close()
	images, err := o.find(ctx, source)
	if err != nil {
		return err
	}
	if images, err = target.nameAll(images); err != nil {
		return err
	}
	if err := unnamed(images); err != nil && !o.keepGoing {
		return err
	}
	s := &syncing{o: o, p: p, target: target, images: images, out: stdout}
	if o.quiet && !o.dryRun {
		s.out = io.Discard
	}
	return s.all(ctx)
}

// unnamed returns why images can't be copied, as far as that is known before any is.
func unnamed(images []*synced) error {
	var errs []error
	for _, i := range images {
		if i.err != nil {
			errs = append(errs, i.err)
		}
	}
	return someOf(errs)
}

// maxReasons is how many of several errors an error has.
const maxReasons = 10

// someOf joins errors, but not more than a reader wants; it returns nil if there are
// none.
func someOf(errs []error) error {
	if more := len(errs) - maxReasons; more > 0 {
		errs = append(errs[:maxReasons:maxReasons], fmt.Errorf("and %d more", more))
	}
	return errors.Join(errs...)
}

// synced is an image that is to be copied.
type synced struct {
	name   string // a tag, or what a deployment is called
	ref    types.ImageReference
	config digest.Digest // by which images are told apart; "" where it is not known
	full   fullname.Name // where err is nil
	to     string        // the destination's name, with a transport, where err is nil
	err    error         // why it can't be copied
}

// syncing is a sync under way.
type syncing struct {
	o      *syncOptions
	p      *prepared
	batch  *batch
	target target
	images []*synced
	out    io.Writer

	copied, there, untried int
	failures               []error
}

// all copies the images one after the other, or says what would be copied, and then
// what it came to.
func (s *syncing) all(ctx context.Context) error {
	s.batch = newBatch(s.p, s.target)
	defer s.batch.end()
	s.p.batch = s.batch
	for n, i := range s.images {
		err := s.one(ctx, n, i)
		if err == nil {
			continue
		}
		s.failures = append(s.failures, err)
		if ctx.Err() != nil || !s.o.keepGoing {
			s.untried = len(s.images) - n - 1
			break
		}
		fmt.Fprintf(s.out, "Failed: %s\n", printable(i.name))
	}
	fmt.Fprintln(s.out, s.summary())
	switch {
	case len(s.failures) == 0:
		return nil
	case !s.o.keepGoing:
		return s.failures[0]
	}
	for _, failure := range s.failures {
		fmt.Fprintln(os.Stderr, "Not copied: "+oneLine(failure))
	}
	return fmt.Errorf("%d of %s could not be copied", len(s.failures), count(len(s.images), "image"))
}

// one copies the n-th image, if it is not there, or says that it would be copied.
func (s *syncing) one(ctx context.Context, n int, i *synced) error {
	if i.err != nil {
		return i.err
	}
	if s.o.dryRun {
		return s.tell(ctx, i)
	}
	if err := s.target.makeRoom(i.to); err != nil {
		return err
	}
	dest, err := parseImageName(ctx, i.to)
	if err != nil {
		return err
	}
	s.batch.begin(func(there bool) {
		say := "Copying %s to %s (%d of %d)\n"
		if there {
			say = "Already there: %s at %s (%d of %d)\n"
		}
		fmt.Fprintf(s.out, say, printable(i.name), i.to, n+1, len(s.images))
	})
	if _, err := s.p.copy(ctx, dest, i.ref); err != nil {
		return err
	}
	if s.batch.there {
		s.there++
		return nil
	}
	s.copied++
	return nil
}

// tell says whether an image would be copied. It writes nothing.
func (s *syncing) tell(ctx context.Context, i *synced) error {
	if s.target.mayHave(i.to) {
		dest, err := parseImageName(ctx, i.to)
		if err != nil {
			return err
		}
		raw, err := s.batch.find(ctx, dest, i.ref)
		if err != nil {
			return err
		}
		if raw != nil {
			s.there++
			fmt.Fprintf(s.out, "Already there: %s at %s\n", printable(i.name), i.to)
			return nil
		}
	}
	s.copied++
	fmt.Fprintf(s.out, "Would copy %s to %s\n", printable(i.name), i.to)
	return nil
}

// summary says what became of the images.
func (s *syncing) summary() string {
	copied := "copied"
	if s.o.dryRun {
		copied = "to copy"
	}
	parts := []string{fmt.Sprintf("%d %s", s.copied, copied), fmt.Sprintf("%d already there", s.there), fmt.Sprintf("%d failed", len(s.failures))}
	if s.untried > 0 {
		parts = append(parts, fmt.Sprintf("%d not tried", s.untried))
	}
	text := count(len(s.images), "image") + ": " + strings.Join(parts, ", ")
	if s.o.dryRun {
		return text
	}
	text += "; " + units.HumanSize(float64(s.batch.written)) + " written"
	if s.batch.shared > 0 {
		text += ", " + units.HumanSize(float64(s.batch.shared)) + " shared with the repository"
	}
	return text
}
