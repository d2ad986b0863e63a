package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/containers/image/v5/transports/alltransports"
	"github.com/containers/image/v5/types"
	"github.com/spf13/pflag"

	"github.com/skopeo-cfs/skopeo-cfs/internal/await"
	_ "github.com/skopeo-cfs/skopeo-cfs/transport" // composefs:
)

// endpoint is the flags that concern one end of a copy, or the one place that a
// command looks at: with skopeo's names, behind a prefix where there are two ends.
type endpoint struct {
	prefix                    string // of the flags' names
	creds, username, password string
	noCreds                   bool
	registryToken             string
	authFile                  string
	tlsVerify                 bool
	certDir                   string
	sharedBlobDir             string
	daemonHost                string
	flags                     *pflag.FlagSet
}

// addFlags adds the flags, for the end that what says.
func (e *endpoint) addFlags(flags *pflag.FlagSet, prefix, what string) {
	e.prefix, e.flags = prefix, flags
	flags.StringVar(&e.creds, prefix+"creds", "", "`USERNAME[:PASSWORD]` for "+what)
	flags.StringVar(&e.username, prefix+"username", "", "`username` for "+what)
	flags.StringVar(&e.password, prefix+"password", "", "`password` for "+what)
	flags.BoolVar(&e.noCreds, prefix+"no-creds", false, "access "+what+" anonymously")
	flags.StringVar(&e.registryToken, prefix+"registry-token", "", "bearer `token` for "+what)
	if prefix != "" { // else it is the global flag
		flags.StringVar(&e.authFile, prefix+"authfile", "", "`path` of the file with the credentials for "+what)
	}
	flags.BoolVar(&e.tlsVerify, prefix+"tls-verify", true, "require HTTPS and verify certificates of "+what)
	flags.StringVar(&e.certDir, prefix+"cert-dir", "", "`directory` with certificates (*.crt, *.cert, *.key) to connect to "+what)
	flags.StringVar(&e.sharedBlobDir, prefix+"shared-blob-dir", "", "`directory` in which OCI layouts share their blobs")
	flags.StringVar(&e.daemonHost, prefix+"daemon-host", "", "`host` of the docker daemon (docker-daemon: only)")
}

// apply sets what the flags say in a SystemContext.
func (e *endpoint) apply(sys *types.SystemContext) error {
	auth, err := e.auth()
	if err != nil {
		return err
	}
	if auth != nil {
		sys.DockerAuthConfig = auth
	}
	sys.DockerBearerRegistryToken = e.registryToken
	if e.authFile != "" {
		sys.AuthFilePath = e.authFile
	}
	if e.flags.Changed(e.prefix + "tls-verify") {
		sys.DockerInsecureSkipTLSVerify = types.NewOptionalBool(!e.tlsVerify)
		sys.DockerDaemonInsecureSkipTLSVerify = !e.tlsVerify
		sys.OCIInsecureSkipTLSVerify = !e.tlsVerify
	}
	sys.DockerCertPath, sys.DockerDaemonCertPath, sys.OCICertPath = e.certDir, e.certDir, e.certDir
	sys.OCISharedBlobDirPath = e.sharedBlobDir
	sys.DockerDaemonHost = e.daemonHost
	return nil
}

// auth returns the credentials that the flags give: empty ones for anonymous access,
// nil where the file with credentials is to be asked.
func (e *endpoint) auth() (*types.DockerAuthConfig, error) {
	ways := 0
	for _, given := range []bool{e.creds != "", e.username != "" || e.password != "", e.noCreds, e.registryToken != ""} {
		if given {
			ways++
		}
	}
	if ways > 1 {
		return nil, fmt.Errorf("only one of --%screds, --%[1]susername with --%[1]spassword, --%[1]sregistry-token and --%[1]sno-creds can be given", e.prefix)
	}
	switch {
	case e.noCreds:
		return &types.DockerAuthConfig{}, nil
	case e.creds != "":
		user, password, _ := strings.Cut(e.creds, ":")
		if user == "" {
			return nil, fmt.Errorf("--%screds: no user name", e.prefix)
		}
		return &types.DockerAuthConfig{Username: user, Password: password}, nil
	case e.username != "" && e.password != "":
		return &types.DockerAuthConfig{Username: e.username, Password: e.password}, nil
	case e.username != "" || e.password != "":
		return nil, fmt.Errorf("--%susername and --%[1]spassword must be given together", e.prefix)
	}
	return nil, nil
}

// parseImageName returns the reference that a name with a transport is. For a name
// in containers-storage it opens the store, which may wait for other programs.
func parseImageName(ctx context.Context, name string) (types.ImageReference, error) {
	var ref types.ImageReference
	err := await.Do(ctx, func() (err error) {
		ref, err = alltransports.ParseImageName(name)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("image name %q: %w", name, err)
	}
	return ref, nil
}
