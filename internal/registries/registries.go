// Package registries opens repositories in registries for operations that
// containers/image has no interface for: mounting blobs, and finding what refers to an
// image. Credentials, certificates and registries.conf are those of containers/image.
package registries

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"

	"github.com/containers/image/v5/docker/reference"
	"github.com/containers/image/v5/pkg/docker/config"
	"github.com/containers/image/v5/pkg/sysregistriesv2"
	"github.com/containers/image/v5/pkg/tlsclientconfig"
	"github.com/containers/image/v5/types"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
)

// certificates are where containers/image looks for certificates of registries, by
// host and port.
var certificates = []string{"/etc/containers/certs.d", "/etc/docker/certs.d"}

// Open returns the repository of a registry in which a name is. It asks the registry
// over HTTP instead of HTTPS only where certificates need not be verified and it is
// not to be reached otherwise. sys may be nil.
func Open(ctx context.Context, sys *types.SystemContext, named reference.Named) (*remote.Repository, error) {
	if sys == nil {
		sys = &types.SystemContext{}
	}
	registry, err := sysregistriesv2.FindRegistry(sys, named.Name())
	if err != nil {
		return nil, fmt.Errorf("reading the configuration of registries: %w", err)
	}
	if registry != nil && registry.Blocked {
		return nil, fmt.Errorf("registry %s is blocked", registry.Prefix)
	}
	insecure := registry != nil && registry.Insecure
	if sys.DockerInsecureSkipTLSVerify != types.OptionalBoolUndefined {
		insecure = sys.DockerInsecureSkipTLSVerify == types.OptionalBoolTrue
	}
	client, err := newClient(sys, named, insecure)
	if err != nil {
		return nil, err
	}
	repository, err := remote.NewRepository(named.Name())
	if err != nil {
		return nil, err
	}
	repository.Client = client
	if insecure && !client.reachesTLS(ctx, repository.Reference.Host()) {
		repository.PlainHTTP = true
	}
	return repository, ctx.Err()
}

type client struct{ *auth.Client }

// newClient returns what makes requests, with the user's credentials.
func newClient(sys *types.SystemContext, named reference.Named, insecure bool) (client, error) {
	tlsConfig := &tls.Config{InsecureSkipVerify: insecure}
	if dir := certificatesOf(sys, reference.Domain(named)); dir != "" {
		if err := tlsclientconfig.SetupCertificates(dir, tlsConfig); err != nil {
			return client{}, err
		}
	}
	credentials := sys.DockerAuthConfig
	if credentials == nil {
		stored, err := config.GetCredentialsForRef(sys, named)
		if err != nil {
			return client{}, fmt.Errorf("reading credentials: %w", err)
		}
		credentials = &stored
	}
	transport := tlsclientconfig.NewTransport()
	transport.TLSClientConfig = tlsConfig
	c := client{&auth.Client{
		Client: &http.Client{Transport: transport},
		Cache:  auth.NewCache(),
		Header: http.Header{},
		Credential: auth.StaticCredential(reference.Domain(named), auth.Credential{
			Username: credentials.Username, Password: credentials.Password, RefreshToken: credentials.IdentityToken,
			AccessToken: sys.DockerBearerRegistryToken,
		}),
	}}
	if reference.Domain(named) == "docker.io" {
		c.Credential = auth.StaticCredential("registry-1.docker.io", auth.Credential{
			Username: credentials.Username, Password: credentials.Password, RefreshToken: credentials.IdentityToken,
		})
	}
	if sys.DockerRegistryUserAgent != "" {
		c.SetUserAgent(sys.DockerRegistryUserAgent)
	}
	return c, nil
}

// reachesTLS tells whether a host speaks HTTPS.
func (c client) reachesTLS(ctx context.Context, host string) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host+"/v2/", nil)
	if err != nil {
		return false
	}
	response, err := c.Client.Client.Do(request)
	if err != nil {
		return false
	}
	return response.Body.Close() == nil
}

// certificatesOf returns the directory with a host's certificates, "" if there is
// none.
func certificatesOf(sys *types.SystemContext, host string) string {
	switch {
	case sys.DockerCertPath != "":
		return sys.DockerCertPath
	case sys.DockerPerHostCertDirPath != "":
		return filepath.Join(sys.DockerPerHostCertDirPath, host)
	}
	for _, parent := range certificates {
		dir := filepath.Join(sys.RootForImplicitAbsolutePaths, parent, host)
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			return dir
		}
	}
	return ""
}
