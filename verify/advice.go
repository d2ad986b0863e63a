package verify

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
)

// advise says what to do about a damage.
func (c *checker) advise(d *Damage) {
	switch d.Kind {
	case ObjectVerity:
		algorithm := c.repo.Algorithm()
		d.Advice = fmt.Sprintf("enable it: fsverity enable --hash-alg=sha%d --block-size=%d %s/%s", 8*algorithm.Size(), algorithm.BlockSize(), c.repo.Path(), d.Path)
		return
	case ObjectName:
		d.Advice = "no object: remove it, unless you know what it is"
	case LayerZeros:
		d.Advice = "copy the image with --repair, which adds them; or pull it again"
	case LayerAltered:
		d.Advice = "pull the image again; or copy it with --rearchive, which makes another image of the same files"
	case LayerCut:
		d.Advice = "pull the image again, with another version of the importer"
	case Tag:
		d.Advice = "pull the image again, which tags it, or remove the tag"
	default:
		d.Advice = c.adviseOn(d)
	}
	d.Remove = c.inTheWay(d)
}

// adviseOn says what to do where that depends on what is touched.
func (c *checker) adviseOn(d *Damage) string {
	isOf := func(part string) bool {
		return slices.ContainsFunc(d.Places, func(p Place) bool { return p.Part == part })
	}
	switch {
	case d.Kind == Manifest && len(d.images) > 0 && d.images[0].config != "":
		return fmt.Sprintf("pull the image again; if an importer has stored the manifest converted, the image can be had as @%s", d.images[0].config)
	case isOf(partStream):
		return "import again what the stream was made of"
	case len(d.images) > 0:
		return "pull the image again"
	case strings.HasPrefix(d.Path, composefsrepo.ObjectDir+"/") && len(d.Places) == 0 && d.Kind != ObjectMissing:
		return "no image needs it: remove it"
	}
	return "remove it, and make again what it was made of"
}

// inTheWay returns the paths that have to be removed for an importer to store anew what
// is damaged. It takes for granted what is there by name, and leaves the rest of the
// image alone then.
func (c *checker) inTheWay(d *Damage) []string {
	var paths []string
	add := func(path string) {
		_, err := os.Lstat(filepath.Join(c.repo.Path(), path))
		if err == nil && !slices.Contains(paths, path) {
			paths = append(paths, path)
		}
	}
	if isLink := !strings.HasPrefix(d.Path, composefsrepo.ObjectDir+"/"); isLink || d.Kind != Stream {
		add(d.Path)
	}
	addLink := func(prefix string, of digest.Digest) {
		if of != "" {
			add(streamPath(prefix, of))
		}
	}
	for _, p := range d.Places {
		switch p.Part {
		case partLayer, partBlob:
			addLink(layerPrefix, digest.Digest(p.Name))
			addLink(blobPrefix, digest.Digest(p.Name))
		case partStream:
			add(composefsrepo.StreamDir + "/" + p.Name)
		case partEROFS:
			add(composefsrepo.ImageDir + "/" + p.Name)
		}
	}
	for _, im := range d.images {
		addLink(configPrefix, im.config)
		addLink(manifestPrefix, im.manifest)
	}
	return paths
}
