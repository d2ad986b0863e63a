package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containers/image/v5/docker/reference"
	"github.com/containers/image/v5/types"
	"github.com/opencontainers/go-digest"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sirupsen/logrus"
	"github.com/spf13/pflag"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/identity"
	"github.com/skopeo-cfs/skopeo-cfs/serve"
)

// originalsOptions say which images serve has as their registries have them.
type originalsOptions struct {
	identity identityOptions
	registry endpoint
}

func (o *originalsOptions) addFlags(flags *pflag.FlagSet) {
	o.registry.prefix, o.registry.flags = "origin-", flags
	flags.StringVar(&o.identity.level, "identity", "", "`place` from which to pass on compressed layers, so that images keep their registry's digest: stored (none), local (the layout that --origin names) or origin (also their registry) (default: stored, or origin if --origin is given)")
	flags.StringVar(&o.identity.origin, "origin", "", "`name` that images may have in a registry, or oci:PATH of a layout that has them, in addition to the names in tags and deployments")
	flags.BoolVar(&o.registry.tlsVerify, "origin-tls-verify", true, "require HTTPS and verify certificates of the registries that images came from")
}

// open returns the originals of the images in a repository, nil where there shall be
// none.
func (o *originalsOptions) open(sys *types.SystemContext, repository string) (serve.Originals, error) {
	if !o.identity.asked() {
		return nil, nil
	}
	if err := o.registry.apply(sys); err != nil {
		return nil, err
	}
	search, err := o.identity.search(sys)
	if err != nil || search.Level == identity.LevelStored {
		return nil, err
	}
	search.Timeout = originTimeout
	return &originals{
		repository: repository, search: search,
		images: map[digest.Digest]map[digest.Digest]originalBlob{}, verdicts: map[originalBlobID]verdict{}, reasons: map[digest.Digest]string{},
	}, nil
}

const (
	// originTimeout is how long a registry may take to say what it has.
	originTimeout = 4 * time.Second
	// originalsKept and verdictsKept bound what is remembered.
	originalsKept = 1000
	verdictsKept  = 10000
	// wrongFor is how long a blob that was wrong is not asked for again.
	wrongFor = time.Hour
)

var (
	errArtifact = errors.New("it is an artifact, and the repository has all of it")
	errUnknown  = errors.New("no registry's manifest is known")
	errNowhere  = errors.New("not all compressed layers are available")
)

// originals has images as their registries have them: the manifests that package
// identity finds, and compressed layers from layouts and registries.
type originals struct {
	repository string           // path
	search     identity.Options // what the flags say

	mu       sync.Mutex
	images   map[digest.Digest]map[digest.Digest]originalBlob // by digest of the manifest, then of the blob
	verdicts map[originalBlobID]verdict
	reasons  map[digest.Digest]string // why images have no original, by image ID
}

// verdict is whether a blob decompresses to its layer.
type verdict struct {
	err  error // nil where it does
	made time.Time
}

// Manifest implements serve.Originals.
func (o *originals) Manifest(ctx context.Context, name string, image *composefsrepo.Image) ([]byte, string, error) {
	found, blobs, err := o.find(ctx, image)
	if err != nil {
		if !errors.Is(err, errArtifact) && !errors.Is(ctx.Err(), context.Canceled) {
			o.explain(name, image.ConfigDescriptor.Digest, err)
		}
		return nil, "", err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.images) >= originalsKept {
		clear(o.images)
	}
	o.images[found.ManifestDigest] = blobs
	delete(o.reasons, image.ConfigDescriptor.Digest)
	return found.Manifest, found.ManifestType, nil
}

// explain says why an image has no original, once for each reason.
func (o *originals) explain(name string, id digest.Digest, err error) {
	text := oneLine(err)
	o.mu.Lock()
	told := o.reasons[id] == text
	if len(o.reasons) >= originalsKept {
		clear(o.reasons)
	}
	o.reasons[id] = text
	o.mu.Unlock()
	if !told {
		logrus.Warnf("Image %s of %s is served with uncompressed layers: %s", id, printable(name), text)
	}
}

// find returns the image with the registry's manifest, and where its compressed layers
// can be had.
func (o *originals) find(ctx context.Context, image *composefsrepo.Image) (*composefsrepo.Image, map[digest.Digest]originalBlob, error) {
	if slices.ContainsFunc(image.Layers, func(l composefsrepo.Layer) bool { return l.DiffID == "" }) {
		return nil, nil, errArtifact
	}
	search := o.search
	search.Stores = storesBeside(o.repository)
	if search.Level == identity.LevelOrigin {
		addDeployments(ctx, &search, o.repository, image)
		addTags(ctx, &search, o.repository, image)
	}
	i, err := identifyImage(ctx, nil, image, search)
	if err != nil {
		return nil, nil, err
	}
	if !i.found.Original {
		reasons := []error{errUnknown}
		for _, r := range i.refusals {
			reasons = append(reasons, r)
		}
		return nil, nil, errors.Join(reasons...)
	}
	wanted, err := o.wanted(i.found.Image)
	if err != nil {
		return nil, nil, err
	}
	blobs, err := locate(ctx, i, wanted)
	return i.found.Image, blobs, err
}

// addTags adds the names in registries that the repository has the image tagged with.
func addTags(ctx context.Context, search *identity.Options, path string, image *composefsrepo.Image) {
	repo, err := composefsrepo.Open(ctx, path, nil)
	if err != nil {
		return
	}
	defer repo.Close()
	tags, err := repo.Tags()
	if err != nil {
		return
	}
	name := image.Name()
	for _, tag := range tags {
		named, err := reference.ParseNamed(tag) // only names in full
		if err != nil || isThisMachine(reference.Domain(named)) {
			continue
		}
		if key, err := repo.Resolve(tag); err == nil && (key == name || key == image.ManifestDigest) {
			search.Origins = append(slices.Clip(search.Origins), named)
		}
	}
}

// isThisMachine tells whether a registry of that name may be the server itself.
func isThisMachine(domain string) bool {
	host, _, _ := strings.Cut(domain, ":")
	return host == "localhost"
}

// wanted returns the compressed layers of an image. It refuses an image with one that
// is known to be wrong.
func (o *originals) wanted(image *composefsrepo.Image) (map[digest.Digest]originalBlob, error) {
	wanted := map[digest.Digest]originalBlob{}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, l := range image.Layers {
		d := l.Descriptor.Digest
		if d == l.Digest() {
			continue
		}
		if err := d.Validate(); err != nil || l.Descriptor.Size <= 0 {
			return nil, fmt.Errorf("blob %.200q of %d bytes: %w", d, l.Descriptor.Size, errNowhere)
		}
		b := originalBlob{originalBlobID: originalBlobID{d, l.DiffID}, size: l.Descriptor.Size, layerSize: l.Size}
		if other, ok := wanted[d]; ok && other != b {
			return nil, fmt.Errorf("blob %s can't be two layers, %s and %s", d, other.diffID, b.diffID)
		}
		if v := o.verdicts[b.originalBlobID]; v.err != nil && time.Since(v.made) < wrongFor {
			return nil, fmt.Errorf("blob %s was wrong: %w", d, v.err)
		}
		wanted[d] = b
	}
	return wanted, nil
}

// Blob implements serve.Originals. What it yields ends with an error before the last
// byte where it does not decompress to the layer.
func (o *originals) Blob(ctx context.Context, manifest digest.Digest, blob imgspecv1.Descriptor) (io.ReadCloser, error) {
	o.mu.Lock()
	b, ok := o.images[manifest][blob.Digest]
	v, known := o.verdicts[b.originalBlobID]
	o.mu.Unlock()
	if !ok {
		return nil, fmt.Errorf("blob %s: %w", blob.Digest, errNowhere)
	}
	if known && v.err != nil && time.Since(v.made) < wrongFor {
		return nil, fmt.Errorf("blob %s was wrong: %w", blob.Digest, v.err)
	}
	content, err := openPatiently(ctx, b)
	if err != nil {
		return nil, fmt.Errorf("opening blob %s at %s: %w", blob.Digest, b.place, err)
	}
	if known && v.err == nil {
		return content, nil // serve checks its digest
	}
	return checkBlob(content, b, func(err error) { o.judge(b, err) }), nil
}

// judge remembers whether a blob, which was read as a whole, is its layer.
func (o *originals) judge(b originalBlob, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.verdicts) >= verdictsKept {
		clear(o.verdicts)
	}
	o.verdicts[b.originalBlobID] = verdict{err, time.Now()}
}

// locate returns the blobs with the places that have them, asking layouts before
// registries.
func locate(ctx context.Context, i *identified, wanted map[digest.Digest]originalBlob) (map[digest.Digest]originalBlob, error) {
	found := map[digest.Digest]originalBlob{}
	var reasons []error
	take := func(p blobPlace) {
		there, err := ask(ctx, p, slices.Collect(maps.Values(wanted)))
		if err != nil {
			reasons = append(reasons, fmt.Errorf("%s: %w", p, err))
		}
		for _, b := range there {
			found[b.digest] = b
			delete(wanted, b.digest)
		}
	}
	for _, layout := range i.search.Layouts {
		take(layoutPlace(layout))
	}
	if i.search.Level == identity.LevelOrigin {
		for _, name := range i.names() {
			if len(wanted) == 0 {
				break
			}
			places, err := registryPlaces(ctx, i.search.System, name, i.found.Digest())
			if err != nil {
				reasons = append(reasons, fmt.Errorf("%s: %w", name.Name(), err))
			}
			for _, p := range places {
				take(p)
			}
		}
	}
	if len(wanted) > 0 {
		return nil, fmt.Errorf("%w: %d are missing: %w", errNowhere, len(wanted), errors.Join(reasons...))
	}
	return found, nil
}
