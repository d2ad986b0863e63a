package main

import (
	"github.com/containers/image/v5/signature"
	"github.com/containers/image/v5/types"
	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
)

// globalOptions are the flags that every subcommand has.
type globalOptions struct {
	debug          bool
	policyPath     string
	insecurePolicy bool
	tmpDir         string
	authFile       string
}

func newRootCommand() *cobra.Command {
	var options globalOptions
	root := &cobra.Command{
		Use:   "skopeo-cfs",
		Short: "Take container images out of composefs repositories",
		Long: `Take container images out of composefs repositories, as they were pulled.

An image in a repository is composefs:[REPOSITORY]NAME, REPOSITORY being the
path of its directory and NAME a tag ("skopeo-cfs list" shows them) or @DIGEST,
the digest of a manifest or of a config. Without [REPOSITORY] it is looked up in
/sysroot/composefs, or for users other than root in ~/.var/lib/composefs.
On a bootc host NAME may also be @booted, @staged, @rollback, @ID, or the image of
a deployment ("skopeo-cfs deployments" shows them).
All other transports (containers-storage, docker, oci, dir, oci-archive,
docker-archive, …) are those of skopeo; see containers-transports(5).`,
		Version:       versions(),
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRun: func(*cobra.Command, []string) {
			if options.debug {
				logrus.SetLevel(logrus.DebugLevel)
			}
		},
	}
	flags := root.PersistentFlags()
	flags.BoolVar(&options.debug, "debug", false, "say on standard error what is being done")
	flags.StringVar(&options.policyPath, "policy", "", "`path` of the trust policy instead of the system's")
	flags.BoolVar(&options.insecurePolicy, "insecure-policy", false, "accept any image, without a look at the trust policy")
	flags.StringVar(&options.tmpDir, "tmpdir", "", "`directory` for temporary files that destinations need")
	flags.StringVar(&options.authFile, "authfile", "", "`path` of the file with registry credentials")
	root.AddCommand(newCopyCommand(&options), newInspectCommand(&options), newListCommand(),
		newDeploymentsCommand(&options), newCopyToStorageCommand(&options))
	return root
}

// systemContext returns what the flags mean to containers/image.
func (o *globalOptions) systemContext() *types.SystemContext {
	return &types.SystemContext{
		AuthFilePath:                o.authFile,
		BigFilesTemporaryDir:        o.tmpDir,
		SignaturePolicyPath:         o.policyPath,
		DockerRegistryUserAgent:     "skopeo-cfs/" + version(),
		DockerInsecureSkipTLSVerify: types.OptionalBoolUndefined,
	}
}

// policyContext returns the trust policy that the flags ask for. The caller
// destroys it.
func (o *globalOptions) policyContext() (*signature.PolicyContext, error) {
	if o.insecurePolicy {
		return signature.NewPolicyContext(&signature.Policy{
			Default: []signature.PolicyRequirement{signature.NewPRInsecureAcceptAnything()},
		})
	}
	policy, err := signature.DefaultPolicy(&types.SystemContext{SignaturePolicyPath: o.policyPath})
	if err != nil {
		return nil, explainPolicy(err)
	}
	return signature.NewPolicyContext(policy)
}
