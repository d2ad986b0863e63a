package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containers/image/v5/signature"
	"github.com/containers/image/v5/types"
	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/skopeo-cfs/skopeo-cfs/internal/sources"
)

// errTimeout is the cause of the end that --command-timeout puts to a command.
var errTimeout = errors.New("the command has reached its --command-timeout")

// globalOptions are the flags that every subcommand has.
type globalOptions struct {
	debug          bool
	policyPath     string
	insecurePolicy bool
	tmpDir         string
	authFile       string
	timeout        time.Duration
	// These choose an image of a list, "" being this platform's.
	architecture, os, variant string
	registriesDir             string
	registriesConf            string
	userAgentPrefix           string
}

func newRootCommand() *cobra.Command {
	var options globalOptions
	root := &cobra.Command{
		Use:   "skopeo-cfs",
		Short: "Take container images out of composefs repositories",
		Long: `Take container images out of composefs repositories, as they were pulled.

An image in a repository is named composefs:[REPOSITORY]NAME. REPOSITORY is the path
of the repository; by default it is /sysroot/composefs for root, and
~/.var/lib/composefs for other users. NAME is a tag ("skopeo-cfs list" shows them) or
@DIGEST, the digest of a manifest or a config. On a bootc host, NAME can also be
@booted, @staged, @rollback, @ID, or the image of a deployment ("skopeo-cfs
deployments" shows them).
All other transports (containers-storage, docker, oci, dir, oci-archive,
docker-archive, …) are those of skopeo; see containers-transports(5).`,
		Version:       versions(),
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRun: func(cmd *cobra.Command, _ []string) {
			setLogColors()
			logrus.SetLevel(logrus.WarnLevel) // as podman does it
			if options.debug {
				logrus.SetLevel(logrus.DebugLevel)
			}
			if options.timeout > 0 {
				ctx, cancel := context.WithCancelCause(cmd.Context())
				time.AfterFunc(options.timeout, func() { cancel(fmt.Errorf("%w of %s", errTimeout, options.timeout)) })
				cmd.SetContext(ctx)
			}
		},
	}
	flags := root.PersistentFlags()
	flags.BoolVar(&options.debug, "debug", false, "print debug messages to standard error")
	flags.StringVar(&options.policyPath, "policy", "", "`path` of the trust policy (default: the system's)")
	flags.BoolVar(&options.insecurePolicy, "insecure-policy", false, "accept any image, and don't use the trust policy")
	flags.StringVar(&options.tmpDir, "tmpdir", "", "`directory` for temporary files that destinations need")
	flags.StringVar(&options.authFile, "authfile", "", "`path` of the file with registry credentials")
	flags.DurationVar(&options.timeout, "command-timeout", 0, "stop the command after this `time`, such as 90s (default: never)")
	flags.StringVar(&options.architecture, "override-arch", "", "`architecture` to choose from a list of images (default: this machine's)")
	flags.StringVar(&options.os, "override-os", "", "operating `system` to choose from a list of images (default: this machine's)")
	flags.StringVar(&options.variant, "override-variant", "", "`variant` of the architecture to choose from a list of images (default: this machine's)")
	flags.StringVar(&options.registriesDir, "registries.d", "", "`directory` with the configuration of signatures in registries (default: the system's)")
	flags.StringVar(&options.registriesConf, "registries-conf", "", "`path` of the configuration of registries (default: the system's)")
	flags.StringVar(&options.userAgentPrefix, "user-agent-prefix", "", "`prefix` of the user agent that registries see")
	root.AddCommand(newCopyCommand(&options), newInspectCommand(&options), newListCommand(), newListTagsCommand(&options),
		newDeploymentsCommand(&options), newCopyToStorageCommand(&options), newDiffCommand(&options),
		newFilesCommand(&options), newCatCommand(&options), newExtractCommand(&options), newLayerCommand(&options),
		newVerifyCommand(), newServeCommand(&options), newSyncCommand(&options))
	return root
}

// systemContext returns what the flags mean to containers/image.
func (o *globalOptions) systemContext() *types.SystemContext {
	agent := "skopeo-cfs/" + version()
	if o.userAgentPrefix != "" {
		agent = o.userAgentPrefix + " " + agent
	}
	return &types.SystemContext{
		AuthFilePath:                o.authFile,
		BigFilesTemporaryDir:        o.tmpDir,
		SignaturePolicyPath:         o.policyPath,
		RegistriesDirPath:           o.registriesDir,
		SystemRegistriesConfPath:    o.registriesConf,
		ArchitectureChoice:          o.architecture,
		OSChoice:                    o.os,
		VariantChoice:               o.variant,
		DockerRegistryUserAgent:     agent,
		DockerInsecureSkipTLSVerify: types.OptionalBoolUndefined,
	}
}

// policyContext returns the trust policy that the flags ask for. The caller
// destroys it.
func (o *globalOptions) policyContext() (*signature.PolicyContext, error) {
	if o.insecurePolicy {
		return sources.AcceptAll()
	}
	policy, err := signature.DefaultPolicy(&types.SystemContext{SignaturePolicyPath: o.policyPath})
	if err != nil {
		return nil, explainPolicy(err)
	}
	return signature.NewPolicyContext(policy)
}
