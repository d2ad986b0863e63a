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

// endpoint is the flags that concern one end of a copy.
type endpoint struct {
	prefix    string // of the flags' names
	creds     string
	tlsVerify bool
	flags     *pflag.FlagSet
}

// addFlags adds the flags, for the end that what says.
func (e *endpoint) addFlags(flags *pflag.FlagSet, prefix, what string) {
	e.prefix, e.flags = prefix, flags
	flags.StringVar(&e.creds, prefix+"creds", "", "`USERNAME[:PASSWORD]` for "+what)
	flags.BoolVar(&e.tlsVerify, prefix+"tls-verify", true, "require HTTPS and verify certificates of "+what)
}

// apply sets what the flags say in a SystemContext.
func (e *endpoint) apply(sys *types.SystemContext) error {
	if e.creds != "" {
		user, password, _ := strings.Cut(e.creds, ":")
		if user == "" {
			return fmt.Errorf("--%screds: no user name", e.prefix)
		}
		sys.DockerAuthConfig = &types.DockerAuthConfig{Username: user, Password: password}
	}
	if e.flags.Changed(e.prefix + "tls-verify") {
		sys.DockerInsecureSkipTLSVerify = types.NewOptionalBool(!e.tlsVerify)
		sys.DockerDaemonInsecureSkipTLSVerify = !e.tlsVerify
		sys.OCIInsecureSkipTLSVerify = !e.tlsVerify
	}
	return nil
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
