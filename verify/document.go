package verify

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/beneath"
	"github.com/skopeo-cfs/skopeo-cfs/internal/lostzeros"
	"github.com/skopeo-cfs/skopeo-cfs/splitstream"
)

// maxDocumentSize bounds manifests and configs, in bytes.
const maxDocumentSize = 4 << 20

// readImages reads the manifests and configs of images, and finds their layers.
func (c *checker) readImages(ctx context.Context) error {
	for _, im := range c.images {
		if err := c.readImage(ctx, im); err != nil {
			return err
		}
	}
	if c.whole() {
		if err := c.readOtherConfigs(ctx); err != nil {
			return err
		}
	}
	for _, im := range c.images {
		if len(im.names) == 0 {
			im.names = []string{"@" + string(cmp.Or(im.manifest, im.config))}
		}
	}
	return nil
}

// readOtherConfigs reads the configs that no manifest refers to: each is an image, as
// older importers have stored them.
func (c *checker) readOtherConfigs(ctx context.Context) error {
	known := map[digest.Digest]bool{}
	for _, im := range c.images {
		known[im.config] = true
	}
	for _, name := range slices.Sorted(maps.Keys(c.links.streams)) {
		d, ok := parseName(name, configPrefix)
		if !ok || known[d] {
			continue
		}
		im := &image{config: d}
		c.images = append(c.images, im)
		if err := c.readImage(ctx, im); err != nil {
			return err
		}
	}
	return nil
}

// documents are what an image's manifest and config say, and where.
type documents struct {
	manifest, config *stream // nil where they were not found
	// parsed is nil where there is no manifest, or no sound one.
	parsed *imgspecv1.Manifest
	// diffIDs are those of the config, where hasDiffIDs.
	diffIDs    []digest.Digest
	hasDiffIDs bool
}

// readImage reads an image's manifest and config, as far as they are there, and finds
// its layers.
func (c *checker) readImage(ctx context.Context, im *image) error {
	var docs documents
	if im.manifest != "" {
		if err := c.readManifest(ctx, im, &docs); err != nil {
			return err
		}
	} else if im.config != "" {
		at, ok := c.linked(configPrefix, im.config)
		if !ok {
			c.foundLink(configPrefix, im.config, im)
			return nil
		}
		if err := c.readConfig(ctx, im, at, &docs); err != nil {
			return err
		}
	}
	return c.findLayers(ctx, im, &docs)
}

// foundLink notes that a link to a part of an image is missing or none.
func (c *checker) foundLink(prefix string, d digest.Digest, im *image) {
	detail := "it is not there"
	if l, ok := c.links.streams[prefix+d.String()]; ok {
		detail = l.err.Error()
	}
	c.linkDamage(streamPath(prefix, d), detail, im)
}

func (c *checker) readManifest(ctx context.Context, im *image, docs *documents) error {
	at, ok := c.linked(manifestPrefix, im.manifest)
	if !ok {
		c.foundLink(manifestPrefix, im.manifest, im)
		return nil
	}
	s, raw, err := c.document(ctx, im, at, documentKind{splitstream.Manifest, partManifest, Manifest, manifestPrefix}, im.manifest)
	if err != nil {
		return err
	}
	docs.manifest = s
	if raw != nil {
		if docs.parsed, err = parseManifest(raw); err != nil {
			c.found(Damage{Kind: Manifest, Path: streamPath(manifestPrefix, im.manifest), Digest: im.manifest, Detail: err.Error(), part: partManifest}, im)
		}
	}
	return c.followConfig(ctx, im, docs)
}

// parseManifest decodes the part of a manifest that tells what else there should be. The
// rest is left to those who copy images.
func parseManifest(raw []byte) (*imgspecv1.Manifest, error) {
	var m imgspecv1.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, fmt.Errorf("it is not a manifest: %w", err)
	}
	for _, d := range append([]imgspecv1.Descriptor{m.Config}, m.Layers...) {
		if err := d.Digest.Validate(); err != nil {
			return nil, fmt.Errorf("it is not a manifest of an image: digest %.200q: %w", d.Digest, err)
		}
	}
	return &m, nil
}

// followConfig finds the config of a manifest, and reads it. Where the manifest itself
// can't be read, its stream's references tell of it.
func (c *checker) followConfig(ctx context.Context, im *image, docs *documents) error {
	if docs.parsed != nil {
		im.config = docs.parsed.Config.Digest
	} else {
		for _, name := range slices.Sorted(maps.Keys(docs.manifest.refs)) {
			if d, ok := parseName(name, configRef); ok {
				im.config = d
			}
		}
	}
	if im.config == "" {
		return nil
	}
	at, ok := docs.manifest.refs[configRef+im.config.String()]
	if !ok && docs.manifest.readable {
		c.foundReference(manifestPrefix, im.manifest, "its config "+im.config.String(), im)
	}
	if !ok {
		if at, ok = c.linked(configPrefix, im.config); !ok {
			c.foundLink(configPrefix, im.config, im)
			return nil
		}
	}
	return c.readConfig(ctx, im, at, docs)
}

// foundReference notes that a stream of an image lacks a reference.
func (c *checker) foundReference(prefix string, d digest.Digest, to string, im *image) {
	c.found(Damage{Kind: Reference, Path: streamPath(prefix, d), Digest: d, Detail: "its stream does not refer to " + to}, im)
}

func (c *checker) readConfig(ctx context.Context, im *image, at fsverity.Digest, docs *documents) error {
	s, raw, err := c.document(ctx, im, at, documentKind{splitstream.Config, partConfig, Config, configPrefix}, im.config)
	if err != nil {
		return err
	}
	docs.config = s
	for name, d := range s.refs {
		if len(name) >= len(erofsRef) && name[:len(erofsRef)] == erofsRef {
			c.addEROFS(d).addImage(im)
		}
	}
	isImage := docs.parsed == nil || composefsrepo.IsImageConfig(docs.parsed.Config.MediaType)
	if raw == nil || !isImage {
		return nil
	}
	var config struct {
		RootFS imgspecv1.RootFS `json:"rootfs"`
		Config struct {
			Labels map[string]string `json:"Labels"`
		} `json:"config"`
	}
	err = json.Unmarshal(raw, &config)
	for _, d := range config.RootFS.DiffIDs {
		if err == nil {
			err = d.Validate()
		}
	}
	if im.manifest == "" && (err != nil || len(config.RootFS.DiffIDs) == 0) {
		im.skipped = true // an artifact's, whose manifest is gone
		return nil
	}
	if err != nil {
		c.found(Damage{Kind: Config, Path: streamPath(configPrefix, im.config), Digest: im.config, Detail: fmt.Sprintf("it is not a config of an image: %v", err), part: partConfig}, im)
		return nil
	}
	docs.diffIDs, docs.hasDiffIDs = config.RootFS.DiffIDs, true
	c.checkSeal(im, config.Config.Labels[sealLabel])
	return nil
}

// sealLabel is the label that names the EROFS image which a sealed image is booted by.
const sealLabel = "containers.composefs.fsverity"

// checkSeal checks that a sealed image has its EROFS image.
func (c *checker) checkSeal(im *image, seal string) {
	if _, ok := c.links.images[seal]; seal != "" && !ok {
		c.found(Damage{Kind: Reference, Path: streamPath(configPrefix, im.config), Digest: im.config, Detail: fmt.Sprintf("its label %s names an EROFS image that is not there, %.200q", sealLabel, seal)}, im)
	}
}

// documentKind is what sort of document is read.
type documentKind struct {
	content splitstream.Type
	part    string
	damage  Kind
	prefix  string
}

// document reads the document of an image that is in a stream. It is nil where something
// is damaged, which is noted. The error is ctx's.
func (c *checker) document(ctx context.Context, im *image, at fsverity.Digest, kind documentKind, want digest.Digest) (*stream, []byte, error) {
	s, err := c.stream(ctx, at)
	if err != nil {
		return nil, nil, err
	}
	c.addPart(at, kind.part, want.String(), im)
	im.streams = append(im.streams, s)
	if !s.readable {
		return s, nil, nil
	}
	found := func(format string, args ...any) {
		c.found(Damage{Kind: kind.damage, Path: streamPath(kind.prefix, want), Digest: want, Detail: fmt.Sprintf(format, args...), part: kind.part}, im)
	}
	switch {
	case s.kind != kind.content:
		c.foundType(kind.prefix, want, kind.part, fmt.Sprintf("%s instead of %s", s.kind, kind.content), im)
		return s, nil, nil
	case s.size > maxDocumentSize:
		found("it has %d bytes, %d at most", s.size, maxDocumentSize)
		return s, nil, nil
	}
	raw, err := c.readDocument(ctx, im, s, kind, want)
	switch {
	case ctx.Err() != nil:
		return nil, nil, ctx.Err()
	case c.touched(s):
		return s, nil, nil
	case err != nil:
		c.streamDamage(s, err.Error())
		return s, nil, nil
	}
	if got := want.Algorithm().FromBytes(raw); got != want {
		found("it hashes to %s; no object was altered", got)
		return s, nil, nil
	}
	return s, raw, nil
}

// foundType notes that a part of an image is in a stream of another type.
func (c *checker) foundType(prefix string, d digest.Digest, part, detail string, im *image) {
	c.found(Damage{Kind: Stream, Path: streamPath(prefix, d), Digest: d, Detail: "it has content type " + detail, part: part}, im)
}

// readDocument reads what a stream rebuilds, and checks the objects that it is made of.
func (c *checker) readDocument(ctx context.Context, im *image, s *stream, kind documentKind, want digest.Digest) ([]byte, error) {
	file, r, err := c.openReader(s.object)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	err = r.ObjectRefs(func(d fsverity.Digest) error {
		c.addPart(d, kind.part, want.String(), im)
		return c.checkObject(ctx, d)
	})
	if err != nil {
		return nil, err
	}
	content := r.Content(ctx, func(d fsverity.Digest) (io.ReadCloser, int64, error) { return c.repo.OpenObject(d) })
	defer content.Close()
	return beneath.ReadAll(content, maxDocumentSize)
}

// touched tells whether an object of a stream is damaged, or that which has it.
func (c *checker) touched(s *stream) bool {
	if s.touched || !c.anyDamaged.Load() {
		return s.touched
	}
	s.touched = c.set.is(s.object, damaged)
	_ = c.objectRefs(s, func(d fsverity.Digest) error { // what can't be read is a damage of its own
		s.touched = s.touched || c.set.is(d, damaged)
		return nil
	})
	return s.touched
}

// objectRefs calls visit with the objects of a stream that can be read.
func (c *checker) objectRefs(s *stream, visit func(fsverity.Digest) error) error {
	if !s.readable {
		return nil
	}
	file, r, err := c.openReader(s.object)
	if err != nil {
		return err
	}
	defer file.Close()
	return r.ObjectRefs(visit)
}

// findLayers finds an image's layers, as those do who copy it: by the references of its
// manifest and its config, and else by name.
func (c *checker) findLayers(ctx context.Context, im *image, docs *documents) error {
	refs := map[string]fsverity.Digest{}
	for _, s := range []*stream{docs.config, docs.manifest} {
		if s != nil {
			maps.Copy(refs, s.refs)
		}
	}
	switch {
	case docs.hasDiffIDs && docs.parsed != nil && len(docs.diffIDs) != len(docs.parsed.Layers):
		c.found(Damage{Kind: ImageInvalid, Path: streamPath(manifestPrefix, im.manifest), Digest: im.manifest,
			Detail: fmt.Sprintf("it has %d layers, its config %d diff IDs", len(docs.parsed.Layers), len(docs.diffIDs))}, im)
	case docs.hasDiffIDs:
		for i, diffID := range docs.diffIDs {
			l := wantedLayer{diffID: diffID}
			if docs.parsed != nil {
				l.Descriptor = docs.parsed.Layers[i]
			}
			if err := c.findLayer(ctx, im, docs, refs, l); err != nil {
				return err
			}
		}
		return nil
	case docs.parsed != nil && !composefsrepo.IsImageConfig(docs.parsed.Config.MediaType):
		for _, d := range docs.parsed.Layers {
			if err := c.findLayer(ctx, im, docs, refs, wantedLayer{Descriptor: d}); err != nil {
				return err
			}
		}
		return nil
	}
	// What can't be read can't say what belongs to the image. The references do.
	for _, name := range slices.Sorted(maps.Keys(refs)) {
		if d, err := digest.Parse(name); err == nil {
			if err := c.addLayer(ctx, im, refs[name], wantedLayer{diffID: d}); err != nil {
				return err
			}
		}
	}
	return nil
}

// wantedLayer is a layer that an image should have: its diff ID, "" in artifacts, and
// its descriptor, the zero one where there is no manifest.
type wantedLayer struct {
	diffID digest.Digest
	imgspecv1.Descriptor
}

// name is the digest by which the layer is found.
func (l wantedLayer) name() digest.Digest { return cmp.Or(l.diffID, l.Digest) }

// findLayer finds a layer: by the references, as its own or as the blob that an importer
// has kept of it, or by the name of its link.
func (c *checker) findLayer(ctx context.Context, im *image, docs *documents, refs map[string]fsverity.Digest, l wantedLayer) error {
	holder, prefix, name := docs.config, configPrefix, im.config
	if l.diffID == "" {
		holder, prefix, name = docs.manifest, manifestPrefix, im.manifest
	}
	if holder != nil && holder.readable && !has(holder.refs, l.name()) && !has(refs, l.Digest) {
		c.foundReference(prefix, name, "layer "+l.name().String(), im)
	}
	if at, ok := refs[l.name().String()]; ok {
		if _, linked := c.linked(layerPrefix, l.name()); !linked && l.diffID != "" {
			c.foundLink(layerPrefix, l.name(), im)
		}
		return c.addLayer(ctx, im, at, l)
	}
	if at, ok := refs[l.Digest.String()]; ok {
		return c.addLayer(ctx, im, at, l)
	}
	for _, link := range []struct {
		prefix string
		d      digest.Digest
	}{{layerPrefix, l.name()}, {layerPrefix, l.Digest}, {blobPrefix, l.Digest}} {
		if at, ok := c.linked(link.prefix, link.d); ok {
			return c.addLayer(ctx, im, at, l)
		}
	}
	if docs.readable() { // else what leads to the layer may be what is damaged
		c.foundLink(layerPrefix, l.name(), im)
	}
	return nil
}

func has(refs map[string]fsverity.Digest, d digest.Digest) bool {
	_, ok := refs[d.String()]
	return ok
}

// readable tells whether the streams that are there can be read.
func (d *documents) readable() bool {
	return (d.manifest == nil || d.manifest.readable) && (d.config == nil || d.config.readable)
}

// addLayer adds a layer of an image to those that are compared with their digests.
func (c *checker) addLayer(ctx context.Context, im *image, at fsverity.Digest, l wantedLayer) error {
	s, err := c.stream(ctx, at)
	if err != nil {
		return err
	}
	kind := partLayer
	if l.diffID == "" {
		kind = partBlob
	}
	c.addPart(at, kind, l.name().String(), im)
	im.streams = append(im.streams, s)
	if !s.readable {
		return nil
	}
	want := l.name()
	switch {
	case s.kind != splitstream.Layer && s.kind != splitstream.Blob:
		c.foundType(layerPrefix, l.name(), kind, fmt.Sprintf("%s instead of %s or %s", s.kind, splitstream.Layer, splitstream.Blob), im)
		return nil
	case s.kind == splitstream.Blob && l.Digest != "":
		want = l.Digest
	case s.kind == splitstream.Layer && l.diffID == "" && s.size != l.Size && !lostzeros.May(s.size, l.Size):
		// The importer has kept the tar of a blob that was compressed.
		c.note("Blob %s of %s can't be checked: the repository has it uncompressed, and no digest to compare that with.", l.Digest, quote(im.names))
		im.skipped = true
		return nil
	}
	job := c.layers[at]
	if job == nil {
		job = &layer{stream: s, sums: map[digest.Algorithm]hash.Hash{}}
		c.layers[at] = job
	}
	job.want(want, im)
	return nil
}
