package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/containers/image/v5/transports"
	"github.com/spf13/cobra"

	"github.com/skopeo-cfs/skopeo-cfs/bootc"
	"github.com/skopeo-cfs/skopeo-cfs/internal/hosts"
	"github.com/skopeo-cfs/skopeo-cfs/reference"
	"github.com/skopeo-cfs/skopeo-cfs/transport"
)

// defaultTarget is what bootc calls the image that it copies.
const defaultTarget = "containers-storage:localhost/bootc"

type copyToStorageOptions struct {
	copyOptions
	host       hostOptions
	name       string // of what is copied
	targetName string
	unified    bool
}

func newCopyToStorageCommand(global *globalOptions) *cobra.Command {
	options := copyToStorageOptions{copyOptions: copyOptions{global: global}}
	cmd := &cobra.Command{
		Use:   "copy-to-storage",
		Short: "Copy the image of a bootc deployment into containers-storage",
		Long: `Copy the image of a bootc deployment into containers-storage, or to another target.
The command replaces "bootc image copy-to-storage" and has its defaults.

By default, it copies the image of the booted deployment, even if another deployment
has the same image name. (Current versions of bootc take the first deployment with the
name, which may be the staged one.) --source names another deployment: @booted,
@staged, @rollback, @ID, or the name of its image. If several deployments have an
image of this name, the booted one comes first, then the staged one, the rollback, and
the others. A transport before the name makes no difference.

With --sysroot, no deployment is booted. Use --source, unless there is only one
deployment.`,
		Example: `  skopeo-cfs copy-to-storage
  skopeo-cfs copy-to-storage --source @rollback --target containers-storage:localhost/old
  skopeo-cfs copy-to-storage --unified
  skopeo-cfs copy-to-storage --sysroot /mnt/disk --source quay.io/org/os:42`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return options.run(cmd.Context(), cmd.OutOrStdout())
		},
	}
	flags := cmd.Flags()
	options.addFlags(flags)
	options.host.addFlags(flags)
	flags.StringVar(&options.name, "source", "", "deployment to copy, by the `name` of its image, or @booted, @staged, @rollback or @ID (default: @booted)")
	flags.StringVar(&options.targetName, "target", defaultTarget, "`reference` to copy to")
	flags.BoolVar(&options.unified, "unified", false, "copy into the containers-storage that bootc has for itself, instead of --target; needs root")
	return cmd
}

func (o *copyToStorageOptions) run(ctx context.Context, stdout io.Writer) error {
	if o.unified {
		return o.runUnified(ctx, stdout)
	}
	to := storageName(o.targetName)
	if o.recipient.name != "" {
		if _, err := o.recipient.find(to); err != nil {
			return err
		}
	}
	if err := o.enterUserNamespace(to); err != nil {
		return err
	}
	host, err := o.host.open()
	if err != nil {
		return err
	}
	deployment, err := findSource(host, o.name)
	if err != nil {
		return err
	}
	from, err := reference.WithDeployment(repositoryOf(host), deployment.ID)
	if err != nil {
		return err
	}
	if !o.quiet {
		fmt.Fprintf(stdout, "Copying the %s deployment %.12s, %s\n", deployment.State, deployment.ID, printable(deployment.Image.Name))
	}
	return o.copyOptions.run(ctx, transports.ImageName(transport.NewReference(from)), to, stdout)
}

// findSource returns the deployment that --source names.
func findSource(host *bootc.Host, name string) (*bootc.Deployment, error) {
	if name == "" {
		if !host.Running && len(host.Deployments) == 1 {
			return &host.Deployments[0], nil
		}
		return host.Find(string(bootc.Booted))
	}
	if deployment, ok := strings.CutPrefix(name, "@"); ok {
		r, err := reference.WithDeployment("", deployment)
		if err != nil {
			return nil, fmt.Errorf("--source %q: %w", name, err)
		}
		return host.Find(r.Deployment())
	}
	if image, ok := bootc.ParseImage(name); ok {
		name = image.Name
	}
	return hosts.FindDeployment(host, name)
}

// storageName returns the name with a transport that --target is: one without
// is in containers-storage, and registry, as bootc has it, is docker.
func storageName(target string) string {
	transportName, rest, ok := strings.Cut(target, ":")
	switch {
	case ok && transportName == "registry":
		return "docker://" + strings.TrimPrefix(rest, "//")
	case ok && transports.Get(transportName) != nil:
		return target
	default:
		return "containers-storage:" + target
	}
}
