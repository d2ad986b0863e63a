package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/containers/image/v5/docker/reference"
	"github.com/containers/image/v5/signature"
	imagestorage "github.com/containers/image/v5/storage"
	"github.com/containers/image/v5/transports"
	"github.com/containers/image/v5/types"
	"github.com/sirupsen/logrus"

	"github.com/skopeo-cfs/skopeo-cfs/attached"
	"github.com/skopeo-cfs/skopeo-cfs/identity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/await"
	"github.com/skopeo-cfs/skopeo-cfs/internal/sources"
	"github.com/skopeo-cfs/skopeo-cfs/source"
)

// attachmentsTimeout is how long a registry has for its answers about signatures.
const attachmentsTimeout = 10 * time.Second

// signatures are those of the registry's manifest of an image that is copied.
type signatures struct {
	found []attached.Signature
	// origins are the repositories to ask for what else is attached.
	origins []reference.Named
}

// gather looks for signatures of the registry's manifest, where the manifest is looked
// for: in the stores, and in the registries that are asked.
func (o *copyOptions) gather(ctx context.Context, i *identified, dest types.ImageReference, sys *types.SystemContext) (signatures, error) {
	var s signatures
	if i.found == nil || !i.found.Original {
		return s, nil
	}
	d, id := i.found.Digest(), i.found.Image.ConfigDescriptor.Digest.Encoded()
	for _, root := range distinctStores(i.search.Stores) {
		var found []attached.Signature
		err := await.Do(ctx, func() (err error) {
			found, err = attached.FromStore(root, id, d)
			return err
		})
		if ctx.Err() != nil {
			return s, context.Cause(ctx)
		}
		if err != nil {
			logrus.Warnf("No signatures from %s: %s", root, oneLine(err))
			continue
		}
		s.found = attached.Union(s.found, found)
	}
	// A push needs the network anyway, so the origin may be asked.
	if i.search.Level != identity.LevelOrigin && (o.identity.level != "" || dest.Transport().Name() != "docker") {
		return s, nil
	}
	for _, named := range i.names() {
		limited, cancel := context.WithTimeout(ctx, attachmentsTimeout)
		found, err := attached.FromRegistry(limited, sys, named, d)
		if err == nil {
			var others []attached.Signature
			others, err = attached.FromLookaside(limited, sys, named, d)
			found = append(found, others...)
		}
		cancel()
		if ctx.Err() != nil {
			return s, context.Cause(ctx)
		}
		if err != nil {
			if !o.quiet {
				logrus.Warnf("No signatures from %s: %s", named, oneLine(err))
			}
			continue
		}
		s.origins = append(s.origins, named)
		s.found = attached.Union(s.found, found)
	}
	return s, nil
}

// judge asks the policy for the image with the signatures that were found, and returns
// the policy for the copy: one that accepts the image that was accepted.
func (o *copyOptions) judge(ctx context.Context, policy *signature.PolicyContext, i *identified, s signatures) (*signature.PolicyContext, error) {
	if len(s.found) == 0 {
		return policy, nil
	}
	opened, err := i.ref.NewImageSource(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer opened.Close()
	if _, ok := opened.(*source.Source); !ok {
		return policy, nil
	}
	if err := attached.Signed(ctx, policy, opened.Reference(), i.found.Image.Manifest, s.found, o.global.tmpDir); err != nil {
		return nil, err
	}
	return sources.AcceptAll()
}

// send brings the signatures, and what else is attached, to where the image was copied
// to with its manifest; and says what stays behind.
func (o *copyOptions) send(ctx context.Context, i *identified, s signatures, dest types.ImageReference, kept bool, fromSys, toSys *types.SystemContext) error {
	if !o.signatures || o.signing.remove || len(s.found) == 0 && len(s.origins) == 0 {
		return nil
	}
	if !kept {
		o.staysBehind(s, "manifest "+i.found.Digest().String()+" was not kept")
		return nil
	}
	switch dest.Transport().Name() {
	case imagestorage.Transport.Name():
		return o.sendToStore(ctx, i, s, dest)
	case "docker":
		return o.sendToRegistry(ctx, i, s, dest, fromSys, toSys)
	}
	o.staysBehind(s, transports.ImageName(dest)+" can't store signatures")
	return nil
}

// staysBehind says that signatures are not copied.
func (o *copyOptions) staysBehind(s signatures, why string) {
	if n := len(s.found); n > 0 && !o.quiet {
		fmt.Fprintf(os.Stderr, "Not copied: %s, because %s\n", count(n, "signature"), why)
	}
}

func (o *copyOptions) sendToStore(ctx context.Context, i *identified, s signatures, dest types.ImageReference) error {
	if len(s.found) == 0 {
		return nil
	}
	store, err := storeOf(dest)
	if err != nil {
		o.staysBehind(s, err.Error())
		return nil
	}
	return await.Do(ctx, func() error {
		added, err := attached.ToStore(store, i.found.Image.ConfigDescriptor.Digest.Encoded(), i.found.Digest(), s.found)
		if err == nil && added > 0 && !o.quiet {
			fmt.Fprintf(os.Stderr, "Copied: %s\n", count(added, "signature"))
		}
		return err
	})
}

func (o *copyOptions) sendToRegistry(ctx context.Context, i *identified, s signatures, dest types.ImageReference, fromSys, toSys *types.SystemContext) error {
	to, d := dest.DockerReference(), i.found.Digest()
	var other signatures
	for _, one := range s.found {
		if !one.IsSigstore() {
			other.found = append(other.found, one)
		}
	}
	o.staysBehind(other, "registries have none of OpenPGP")
	added := 0
	if len(s.found) > len(other.found) {
		var err error
		if added, err = attached.ToRegistry(ctx, toSys, to, d, s.found); err != nil {
			return err
		}
	}
	copied := 0
	var errs []error
	for _, from := range s.origins {
		if from.Name() == to.Name() {
			continue
		}
		n, err := attached.CopyReferrers(ctx, fromSys, from, toSys, to, d)
		copied += n
		errs = append(errs, err)
	}
	if added+copied > 0 && !o.quiet {
		fmt.Fprintf(os.Stderr, "Copied: %s, and %s that refer to the image\n", count(added, "signature"), count(copied, "artifact"))
	}
	return errors.Join(errs...)
}
