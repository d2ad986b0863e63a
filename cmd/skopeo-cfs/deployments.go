package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/skopeo-cfs/skopeo-cfs/bootc"
	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/identity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/hosts"
)

// hostOptions say which bootc host is meant.
type hostOptions struct {
	sysroot string
	root    string // of the running system, "" for /
}

func (o *hostOptions) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&o.sysroot, "sysroot", "", "`directory` of the physical root of a host that is not running; its deployments are named by image or ID (default: the running host's, /sysroot)")
}

// open opens the host.
func (o *hostOptions) open() (*bootc.Host, error) {
	return hosts.Open(o.sysroot, o.root)
}

// repositoryOf returns the path of a host's repository.
func repositoryOf(host *bootc.Host) string { return filepath.Join(host.Sysroot, "composefs") }

type deploymentsOptions struct {
	global   *globalOptions
	host     hostOptions
	asJSON   bool
	registry endpoint
	identity identityOptions
}

func newDeploymentsCommand(global *globalOptions) *cobra.Command {
	options := deploymentsOptions{global: global}
	cmd := &cobra.Command{
		Use:   "deployments",
		Short: "List the deployments of a bootc host",
		Long: `List the deployments of a bootc host: the state, the image, the digest of the image's
manifest, and whether all of its layers are in the repository, so that it can be
copied. If a registry is known to have the image with another manifest, the list has
the digest of that one, too.

Each deployment can be named as composefs:@ID, with 12 digits of the ID or more.

If no boot entries can be read, for example because the EFI partition is not mounted,
it is not known which deployment is the rollback. The state of those that may be it is
then unknown.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return options.run(cmd.Context(), cmd.OutOrStdout())
		},
	}
	options.host.addFlags(cmd.Flags())
	options.registry.addFlags(cmd.Flags(), "", "the registry")
	options.identity.addFlags(cmd.Flags())
	cmd.Flags().BoolVar(&options.asJSON, "json", false, "print JSON")
	return cmd
}

// deployed is a deployment of the list.
type deployed struct {
	ID             string         `json:"id"`
	State          bootc.State    `json:"state"`
	Image          string         `json:"image,omitempty"`
	Transport      string         `json:"transport,omitempty"`
	ManifestDigest digest.Digest  `json:"manifestDigest,omitempty"`
	ImageID        digest.Digest  `json:"imageID,omitempty"` // of the config
	BootType       bootc.BootType `json:"bootType,omitempty"`
	Locked         bool           `json:"locked,omitempty"` // staged, and not to be finalised
	Deployed       *time.Time     `json:"deployed,omitempty"`
	Complete       bool           `json:"complete"`        // all layers are in the repository
	Error          string         `json:"error,omitempty"` // why something is missing above
	registryIdentity
}

func (o *deploymentsOptions) run(ctx context.Context, stdout io.Writer) error {
	host, err := o.host.open()
	if err != nil {
		return err
	}
	repo, err := composefsrepo.Open(ctx, repositoryOf(host), nil)
	if err != nil {
		return err
	}
	defer repo.Close()
	identify, err := o.identifier(ctx, repositoryOf(host))
	if err != nil {
		return err
	}
	list := []deployed{}
	for i := range host.Deployments {
		entry, err := describeDeployment(ctx, repo, host, &host.Deployments[i], identify)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			entry.Error = oneLine(err)
		}
		list = append(list, entry)
	}
	if o.asJSON {
		encoder := json.NewEncoder(stdout)
		encoder.SetIndent("", "    ")
		return encoder.Encode(list)
	}
	return printDeployments(list, stdout)
}

// describeDeployment returns what is to be said of a deployment, and what is
// wrong with it.
func describeDeployment(ctx context.Context, repo *composefsrepo.Repo, host *bootc.Host, d *bootc.Deployment, identify identifier) (deployed, error) {
	entry := deployed{
		ID: d.ID, State: d.State, Image: d.Image.Name, Transport: d.Image.Transport,
		ManifestDigest: d.ManifestDigest, BootType: d.BootType, Locked: d.Locked,
	}
	if !d.Written.IsZero() {
		entry.Deployed = &d.Written
	}
	image, err := host.OpenImage(ctx, repo, d)
	if err != nil {
		if errors.Is(err, d.Err) {
			return entry, err // which says that too
		}
		return entry, errors.Join(d.Err, err)
	}
	entry.ImageID = image.ConfigDescriptor.Digest
	if !image.Synthesised {
		entry.ManifestDigest = image.ManifestDigest
	}
	if entry.registryIdentity, err = identify(image, d); err != nil {
		return entry, err
	}
	for n := range image.Layers {
		if err := image.CheckObjects(ctx, n); err != nil {
			return entry, errors.Join(d.Err, err)
		}
	}
	entry.Complete = true
	return entry, d.Err
}

// isAnotherInRegistry tells whether a registry is known to have the image with
// another manifest than the one that is shown.
func (d deployed) isAnotherInRegistry() bool {
	return d.RegistryDigest != "" && d.RegistryDigest != d.ManifestDigest
}

// identifier says what there is to be said of a deployment's image in a registry.
type identifier func(*composefsrepo.Image, *bootc.Deployment) (registryIdentity, error)

// identifier returns what does that for a host with a repository at path.
func (o *deploymentsOptions) identifier(ctx context.Context, path string) (identifier, error) {
	sys := o.global.systemContext()
	if err := o.registry.apply(sys); err != nil {
		return nil, err
	}
	search, err := o.identity.search(sys)
	if err != nil {
		return nil, err
	}
	if search.Level != identity.LevelStored {
		search.Stores = append(search.Stores, storesBeside(path)...)
	}
	return func(image *composefsrepo.Image, d *bootc.Deployment) (registryIdentity, error) {
		search := search
		addDeployment(&search, d)
		i, err := identifyImage(ctx, nil, image, search)
		if err != nil {
			return registryIdentity{}, err
		}
		return i.describe(), nil
	}, nil
}

func printDeployments(list []deployed, stdout io.Writer) error {
	table := tabwriter.NewWriter(stdout, 0, 8, 2, ' ', 0)
	others := slices.ContainsFunc(list, deployed.isAnotherInRegistry)
	header := "ID\tSTATE\tIMAGE\tMANIFEST DIGEST\tLAYERS"
	if others {
		header += "\tREGISTRY DIGEST"
	}
	fmt.Fprintln(table, header)
	for _, d := range list {
		state, layers := string(d.State), "all"
		if d.Locked {
			state += ", locked"
		}
		if !d.Complete {
			layers = "missing"
		}
		fmt.Fprintf(table, "%.12s\t%s\t%s\t%s\t%s", d.ID, state, orDash(printable(d.Image)), orDash(d.ManifestDigest.String()), layers)
		if others {
			fmt.Fprintf(table, "\t%s", orDash(d.RegistryDigest.String()))
		}
		fmt.Fprintln(table)
	}
	err := table.Flush()
	for _, d := range list {
		if d.Error != "" {
			logrus.Warnf("Deployment %.12s: %s", d.ID, d.Error)
		}
	}
	return err
}

// orDash returns what a table has for a text that may be empty.
func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
