// Package transport makes composefs repositories a transport of
// containers/image, composefs:, for reading. A blank import is all that a
// program needs to have it:
//
//	import _ "github.com/skopeo-cfs/skopeo-cfs/transport"
//
// A program that also writes to containers-storage has to call reexec.Init of
// containers/storage first in main, and return if that returns true.
package transport

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/containers/image/v5/transports"
	"github.com/containers/image/v5/types"

	"github.com/skopeo-cfs/skopeo-cfs/bootc"
	"github.com/skopeo-cfs/skopeo-cfs/reference"
)

func init() { transports.Register(Transport) }

// Transport is the types.ImageTransport of composefs repositories.
var Transport types.ImageTransport = composefsTransport{}

type composefsTransport struct{}

func (composefsTransport) Name() string { return "composefs" }

// ParseReference parses what stands behind "composefs:"; see package reference.
func (composefsTransport) ParseReference(text string) (types.ImageReference, error) {
	return ParseReference(text)
}

// ValidatePolicyConfigurationScope accepts what the identities and namespaces
// of references look like: PATH:NAME, and the absolute path of a repository or
// of a directory above it.
func (composefsTransport) ValidatePolicyConfigurationScope(scope string) error {
	path, name, named := strings.Cut(scope, ":")
	switch {
	case !filepath.IsAbs(path):
		return fmt.Errorf("composefs scope %q: must begin with an absolute path", scope)
	case path == "/":
		return errors.New(`composefs scope "/": use the default scope ""`)
	case filepath.Clean(path) != path:
		return fmt.Errorf("composefs scope %q: the path must be in its shortest form, %q", scope, filepath.Clean(path))
	case named && name == "":
		return fmt.Errorf("composefs scope %q: no name follows the colon", scope)
	case strings.HasPrefix(name, "@"):
		r, err := reference.Parse(name)
		if err != nil {
			return fmt.Errorf("composefs scope %q: %w", scope, err)
		}
		if r.Deployment() != "" {
			return fmt.Errorf("composefs scope %q: policies are applied to the tag or digest of a deployment's image, such as %s", scope, bootc.TagOf("sha256:…"))
		}
	}
	return nil
}
