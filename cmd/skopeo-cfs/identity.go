package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containers/image/v5/docker/reference"
	"github.com/containers/image/v5/types"
	"github.com/containers/storage"
	"github.com/containers/storage/pkg/homedir"
	"github.com/containers/storage/pkg/unshare"
	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"
	"github.com/spf13/pflag"

	"github.com/skopeo-cfs/skopeo-cfs/bootc"
	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/identity"
	composefs "github.com/skopeo-cfs/skopeo-cfs/reference"
	"github.com/skopeo-cfs/skopeo-cfs/source"
)

// identityOptions say where the manifest is looked for that a registry has of an
// image in a composefs repository.
type identityOptions struct {
	level  string
	origin string
}

func (o *identityOptions) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&o.level, "identity", "", "`place` to look for the registry's manifest of an image: stored (only in the repository), local (on this machine) or origin (also in the registry that the image came from) (default: local, or origin if --origin is given)")
	flags.StringVar(&o.origin, "origin", "", "`name` of the image in its registry, or oci:PATH of a layout that has it (default: the name in the deployment)")
}

// asked tells whether the user has asked for more than is done by default.
func (o *identityOptions) asked() bool { return o.level != "" || o.origin != "" }

// search returns where to look for the manifest, as far as the flags say.
func (o *identityOptions) search(sys *types.SystemContext) (identity.Options, error) {
	search := identity.Options{Level: identity.Level(o.level), System: sys}
	switch search.Level {
	case identity.LevelStored, identity.LevelLocal, identity.LevelOrigin:
	case "":
		search.Level = identity.LevelLocal
		if o.origin != "" {
			search.Level = identity.LevelOrigin
		}
	default:
		return search, fmt.Errorf("--identity %q: must be stored, local or origin", o.level)
	}
	if search.Level == identity.LevelStored {
		return search, nil
	}
	if cache, err := os.UserCacheDir(); err == nil {
		search.Cache = filepath.Join(cache, "skopeo-cfs", "manifests")
	}
	if layout, ok := strings.CutPrefix(o.origin, "oci:"); ok {
		search.Layouts = []string{layout}
		return search, nil
	}
	if o.origin == "" {
		return search, nil
	}
	named, err := parseOrigin(o.origin)
	if err != nil {
		return search, fmt.Errorf("--origin %q: %w", o.origin, err)
	}
	search.Origins = []reference.Named{named}
	return search, nil
}

// parseOrigin returns the name in a registry that text is, with or without the
// transport.
func parseOrigin(text string) (reference.Named, error) {
	if image, ok := bootc.ParseImage(text); ok && image.Transport == "docker" {
		text = image.Name
	}
	return reference.ParseNormalizedNamed(text)
}

// defaultStores returns the roots of the user's containers-storage, and of bootc's.
func defaultStores() []string {
	stores := []string{}
	if os.Getenv("XDG_RUNTIME_DIR") == "" && unshare.IsRootless() {
		// containers/storage would make a directory for the store to run in, which is
		// not wanted here.
		if data, err := homedir.GetDataHome(); err == nil {
			stores = append(stores, filepath.Join(data, "containers", "storage"))
		}
		return append(stores, bootcStore)
	}
	options, err := storage.DefaultStoreOptions()
	if err != nil {
		logrus.Debugf("Looking for containers-storage: %v", err)
	} else {
		stores = append(stores, options.GraphRoot, options.ImageStore)
		for _, option := range options.GraphDriverOptions {
			if _, roots, ok := strings.Cut(option, "imagestore="); ok {
				stores = append(stores, strings.Split(roots, ",")...)
			}
		}
	}
	return append(stores, bootcStore)
}

// bootcStore is where bootc has its containers-storage on a running host.
const bootcStore = "/usr/lib/bootc/storage"

// storesBeside returns the roots of the containers-storages that bootc has in the
// physical root in which a repository is.
func storesBeside(repository string) []string {
	sysroot := filepath.Dir(repository)
	return []string{filepath.Join(sysroot, "ostree/bootc/storage"), filepath.Join(repository, "bootc/storage")}
}

// distinctStores returns the paths of directories, each once.
func distinctStores(paths []string) []string {
	var all []string
	for _, path := range paths {
		resolved, err := filepath.EvalSymlinks(path)
		if path == "" || err != nil || slices.Contains(all, resolved) {
			continue
		}
		all = append(all, resolved)
	}
	return all
}

// identified is what is known of the manifest of an image that is copied.
type identified struct {
	ref      types.ImageReference // with the manifest
	found    *identity.Found      // nil where the image is in no composefs repository, or an artifact
	refusals []identity.Refusal
	search   identity.Options
}

// identify looks for the manifest of the image that ref refers to.
func (o *identityOptions) identify(ctx context.Context, ref, dest types.ImageReference, sys *types.SystemContext) (*identified, error) {
	search, err := o.search(sys)
	if err != nil {
		return nil, err
	}
	if ref.Transport().Name() != "composefs" {
		return &identified{ref: ref, search: search}, nil
	}
	opened, err := ref.NewImageSource(ctx, sys)
	if err != nil {
		return nil, err
	}
	defer opened.Close()
	if dest != nil {
		search.Stores = append(search.Stores, storeRoot(dest))
	}
	return identifyOpened(ctx, ref, opened, search)
}

// identifyOpened looks for the manifest of the image that an open source serves.
func identifyOpened(ctx context.Context, ref types.ImageReference, opened types.ImageSource, search identity.Options) (*identified, error) {
	src, ok := opened.(*source.Source)
	if !ok {
		return &identified{ref: ref, search: search}, nil
	}
	if path := repositoryPath(src.Reference()); path != "" && search.Level != identity.LevelStored {
		search.Stores = append(search.Stores, storesBeside(path)...)
		addDeployments(ctx, &search, path, src.Image())
	}
	return identifyImage(ctx, ref, src.Image(), search)
}

// identifyImage looks for the manifest of an open image.
func identifyImage(ctx context.Context, ref types.ImageReference, image *composefsrepo.Image, search identity.Options) (*identified, error) {
	if search.Level != identity.LevelStored {
		search.Stores = append(defaultStores(), search.Stores...)
	}
	search.Stores = distinctStores(search.Stores)
	found, refusals, err := identity.Find(ctx, image, search)
	if err != nil {
		return nil, err
	}
	i := &identified{ref: ref, found: found, refusals: refusals, search: search}
	if found.Recovered() && ref != nil {
		i.ref = identity.With(ref, found.Image.Manifest)
	}
	return i, nil
}

// storeRoot returns the root of the store that a reference is in, "" if it is not
// in containers-storage.
func storeRoot(ref types.ImageReference) string {
	store, err := storeOf(ref)
	if err != nil {
		return ""
	}
	return store.GraphRoot()
}

// repositoryPath returns the path of the repository that a resolved reference names.
func repositoryPath(ref types.ImageReference) string {
	r, err := composefs.Parse(ref.StringWithinTransport())
	if err != nil {
		return ""
	}
	return r.Repository()
}

// addDeployments adds what the deployments of the image tell of where it came from,
// if its repository is a bootc host's.
func addDeployments(ctx context.Context, search *identity.Options, path string, image *composefsrepo.Image) {
	host, err := bootc.Open(filepath.Dir(path), nil)
	if err != nil {
		logrus.Debugf("Looking for deployments beside %s: %v", path, err)
		return
	}
	repo, err := composefsrepo.Open(ctx, path, nil)
	if err != nil {
		return
	}
	defer repo.Close()
	for i := range host.Deployments {
		d := &host.Deployments[i]
		deployed, err := host.OpenImage(ctx, repo, d)
		if err == nil && deployed.ConfigDescriptor.Digest == image.ConfigDescriptor.Digest {
			addDeployment(search, d)
		}
	}
}

// addDeployment adds what a deployment tells of where its image came from. A name
// that the user has given comes first.
func addDeployment(search *identity.Options, d *bootc.Deployment) {
	if d.ManifestDigest != "" && !slices.Contains(search.Digests, d.ManifestDigest) {
		search.Digests = append(slices.Clip(search.Digests), d.ManifestDigest)
	}
	if d.Image.Transport != "docker" {
		return
	}
	named, err := reference.ParseNormalizedNamed(d.Image.Name)
	if err != nil || slices.ContainsFunc(search.Origins, func(n reference.Named) bool { return n.String() == named.String() }) {
		return
	}
	search.Origins = append(slices.Clip(search.Origins), named)
}

// tell says on standard error which manifest is used and whence, where it is not
// simply the repository's; and, if the user has asked, why there is no other.
func (i *identified) tell(asked bool) {
	if i.found == nil {
		return
	}
	for _, r := range i.refusals {
		if asked || !errors.Is(r, identity.ErrNotThere) && !errors.Is(r, identity.ErrUncompressed) {
			logrus.Warnf("No manifest from %s", oneLine(r))
		}
	}
	switch {
	case i.found.Recovered() && i.found.Original:
		fmt.Fprintf(os.Stderr, "Manifest %s: the registry's, from %s\n", i.found.Digest(), i.found.Source)
	case i.found.Recovered():
		fmt.Fprintf(os.Stderr, "Manifest %s: from %s\n", i.found.Digest(), i.found.Source)
	case asked && i.found.Original:
		fmt.Fprintf(os.Stderr, "Manifest %s: the registry's, which the repository has\n", i.found.Digest())
	case asked:
		fmt.Fprintf(os.Stderr, "Manifest %s: made for this machine; a registry's is not known\n", i.found.Digest())
	}
}

// registryIdentity is what inspect and deployments say of an image in a registry.
type registryIdentity struct {
	// RegistryDigest is that of the registry's manifest, RegistryIndexDigest that of
	// an index which lists it; "" where they are not known.
	RegistryDigest      digest.Digest `json:"registryDigest,omitempty"`
	RegistryIndexDigest digest.Digest `json:"registryIndexDigest,omitempty"`
	// RegistrySource is where the registry's manifest comes from.
	RegistrySource string `json:"registrySource,omitempty"`
	// RegistryReasons are why places did not have it.
	RegistryReasons []string `json:"registryReasons,omitempty"`
}

// describe returns what there is to be said of the image in a registry.
func (i *identified) describe() registryIdentity {
	var described registryIdentity
	if i.found == nil {
		return described
	}
	if i.found.Original {
		described.RegistryDigest, described.RegistryIndexDigest = i.found.Digest(), i.found.IndexDigest()
		described.RegistrySource = i.found.Source.String()
	}
	for _, r := range i.refusals {
		described.RegistryReasons = append(described.RegistryReasons, oneLine(r))
	}
	return described
}

// inspectedIdentity is registryIdentity with names in the style of inspect.
type inspectedIdentity struct {
	RegistryDigest      digest.Digest `json:",omitempty"`
	RegistryIndexDigest digest.Digest `json:",omitempty"`
	RegistrySource      string        `json:",omitempty"`
	RegistryReasons     []string      `json:",omitempty"`
}

// inspect returns what there is to be said of the image that an open source serves.
func (o *identityOptions) inspect(ctx context.Context, src types.ImageSource, sys *types.SystemContext) (inspectedIdentity, error) {
	search, err := o.search(sys)
	if err != nil {
		return inspectedIdentity{}, err
	}
	i, err := identifyOpened(ctx, src.Reference(), src, search)
	if err != nil {
		return inspectedIdentity{}, err
	}
	return inspectedIdentity(i.describe()), nil
}

// names returns the names that the image may have in registries, which then have its
// compressed layers: one of each repository.
func (i *identified) names() []reference.Named {
	names := slices.Clone(i.search.Origins)
	if i.found != nil && i.found.Reference != nil {
		names = append(names, i.found.Reference)
	}
	seen := map[string]bool{}
	return slices.DeleteFunc(names, func(n reference.Named) bool {
		again := seen[n.Name()]
		seen[n.Name()] = true
		return again
	})
}
