package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/skopeo-cfs/skopeo-cfs/bootc"
	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/internal/defaultrepo"
	"github.com/skopeo-cfs/skopeo-cfs/internal/hosts"
	"github.com/skopeo-cfs/skopeo-cfs/internal/notice"
	"github.com/skopeo-cfs/skopeo-cfs/reference"
	"github.com/skopeo-cfs/skopeo-cfs/verify"
)

type verifyOptions struct {
	repository string
	asJSON     bool
	quiet      bool
	root       string // of the running system, "" for /
}

func newVerifyCommand() *cobra.Command {
	var options verifyOptions
	cmd := &cobra.Command{
		Use:   "verify [IMAGE…]",
		Short: "Check a composefs repository, or images of it",
		Long: `Check a composefs repository: every object against its name, by the kernel's
measurement where it has fs-verity; manifests and configs against their digests; each
layer against its diff ID; and that every link, tag and reference leads to something
that exists. On a bootc host, every deployment must have its EROFS image.

With IMAGEs, only these and what they refer to are checked. An IMAGE is
composefs:[REPOSITORY]NAME or NAME alone.

For each damage, the report says which images and files it touches, and what to do.
Objects that nothing refers to are counted, but are not a damage. The exit code is 0
only if nothing is damaged.`,
		Example: `  skopeo-cfs verify
  skopeo-cfs verify @booted
  skopeo-cfs verify --repository /srv/repo --json | jq .damages`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return options.run(cmd.Context(), args, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&options.repository, "repository", "", "`path` of the repository, if no IMAGE names one (default: /sysroot/composefs, or ~/.var/lib/composefs)")
	flags.BoolVar(&options.asJSON, "json", false, "print JSON")
	flags.BoolVarP(&options.quiet, "quiet", "q", false, "show no progress")
	return cmd
}

func (o *verifyOptions) run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	refs, path, err := o.parse(args)
	if err != nil {
		return err
	}
	repo, err := composefsrepo.Open(ctx, path, &composefsrepo.Options{
		Waiting: func(path string) {
			notice.Printf("Waiting for composefs repository %s: another program is collecting its garbage", path)
		},
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, repo.Close()) }()
	host, hostErr := hosts.Open(filepath.Dir(repo.Path()), o.root)
	if hostErr != nil && !isNoHost(hostErr) {
		notice.Printf("The deployments are not checked: %v", hostErr)
	}
	finder := imageFinder{repo, host, hostErr}
	options := verify.Options{Host: host}
	for _, ref := range refs {
		d, err := finder.find(ctx, ref)
		if err != nil {
			return fmt.Errorf("%s of composefs repository %s: %w", ref.Name(), repo.Path(), err)
		}
		options.Images = append(options.Images, d)
	}
	var bar *verifyBar
	if !o.quiet {
		bar = newVerifyBar(stderr)
		options.Progress = bar.note
	}
	report, err := verify.Repository(ctx, repo, &options)
	bar.end()
	if err != nil {
		return err
	}
	return o.print(report, stdout)
}

// isNoHost tells whether an error is that of a repository which is of no bootc host.
func isNoHost(err error) bool {
	return errors.Is(err, bootc.ErrNotBootc) || errors.Is(err, bootc.ErrOSTree) || errors.Is(err, os.ErrNotExist)
}

// parse returns the images that are meant, and the path of their repository.
func (o *verifyOptions) parse(args []string) (refs []reference.Reference, path string, err error) {
	for _, arg := range args {
		ref, err := reference.Parse(strings.TrimPrefix(arg, "composefs:"))
		if err != nil {
			return nil, "", fmt.Errorf("image name %q: %w", arg, err)
		}
		at := ref.Repository()
		if at == "" {
			at = o.repository
		}
		if len(refs) > 0 && at != path {
			return nil, "", errors.New("the images are in several repositories: verify one repository at a time")
		}
		refs, path = append(refs, ref), at
	}
	if len(args) == 0 {
		path = o.repository
	}
	if path == "" {
		path, err = defaultrepo.Path()
	}
	return refs, path, err
}

// imageFinder finds the images of a repository that references mean.
type imageFinder struct {
	repo    *composefsrepo.Repo
	host    *bootc.Host // nil where hostErr says why
	hostErr error
}

// find returns what to check for a reference. What is meant may be damaged: only
// what leads to it is looked at.
func (f *imageFinder) find(ctx context.Context, ref reference.Reference) (verify.Wanted, error) {
	switch {
	case ref.Deployment() != "":
		if f.hostErr != nil {
			return verify.Wanted{}, f.hostErr
		}
		d, err := f.host.Find(ref.Deployment())
		if err != nil {
			return verify.Wanted{}, err
		}
		return f.deployment(ctx, d)
	case ref.Digest() != "":
		return verify.Wanted{Name: ref.Name(), Digest: ref.Digest()}, nil
	}
	tags, err := f.repo.Tags()
	if err != nil {
		return verify.Wanted{}, err
	}
	tag, err := reference.Find(ref.Tag(), tags)
	if errors.Is(err, reference.ErrUnknownTag) && f.host != nil {
		d, hostErr := hosts.FindDeployment(f.host, ref.Tag())
		if hostErr != nil {
			return verify.Wanted{}, fmt.Errorf("%w; %w", err, hostErr)
		}
		return f.deployment(ctx, d)
	}
	if err != nil {
		return verify.Wanted{}, err
	}
	d, err := f.repo.Resolve(tag)
	return verify.Wanted{Name: tag, Digest: d}, err
}

// deployment returns what to check for a deployment.
func (f *imageFinder) deployment(ctx context.Context, d *bootc.Deployment) (verify.Wanted, error) {
	name := fmt.Sprintf("@%.12s (%s)", d.ID, d.State)
	image, err := f.host.OpenImage(ctx, f.repo, d)
	if err == nil {
		return verify.Wanted{Name: name, Digest: image.Name()}, nil
	}
	if d.ManifestDigest != "" && !errors.Is(err, bootc.ErrImageGone) && ctx.Err() == nil {
		return verify.Wanted{Name: name, Digest: d.ManifestDigest}, nil // it is damaged
	}
	return verify.Wanted{}, err
}

// print prints the report. The error says that something is damaged.
func (o *verifyOptions) print(report *verify.Report, stdout io.Writer) error {
	var err error
	if o.asJSON {
		encoder := json.NewEncoder(stdout)
		encoder.SetIndent("", "    ")
		err = encoder.Encode(report)
	} else {
		_, err = io.WriteString(stdout, verifyText(report))
	}
	if err == nil && report.IsDamaged() {
		err = fmt.Errorf("%s is damaged", report.Repository)
	}
	return err
}
