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
	if d.Kind == ObjectVerity {
		algorithm := c.repo.Algorithm()
		d.Advice = fmt.Sprintf("enable it: fsverity enable --hash-alg=sha%d --block-size=%d %s/%s", 8*algorithm.Size(), algorithm.BlockSize(), c.repo.Path(), d.Path)
		return
	}
	d.Remove = c.inTheWay(d)
	again := c.makeAgain(d)
	if len(d.Remove) > 0 && d.Kind != Tag && d.Kind != ObjectName {
		again = "remove what is listed, and " + again
	}
	switch {
	case d.Kind == ObjectName:
		d.Advice = "remove it, unless you know what it is"
	case d.Kind == Tag:
		d.Advice = "remove it, or pull the image again, which tags it"
	case d.Kind == LayerZeros:
		d.Advice = "copy the image with --repair, which adds them; or " + again
	case d.Kind == LayerAltered:
		d.Advice = "copy the image with --rearchive, which makes another image of the same files; or " + again
	case d.Kind == LayerCut:
		d.Advice = again + ", with another version of the importer"
	case d.Kind == Manifest && len(d.images) > 0 && d.images[0].config != "":
		d.Advice = fmt.Sprintf("%s; where an importer has stored the manifest converted, the image can be had as @%s", again, d.images[0].config)
	case len(d.Places) == 0 && len(d.Remove) > 0:
		d.Advice = "remove it: nothing needs it"
	default:
		d.Advice = again
	}
}

// makeAgain says how to get back what is damaged.
func (c *checker) makeAgain(d *Damage) string {
	has := func(part string) bool {
		return slices.ContainsFunc(d.Places, func(p Place) bool { return p.Part == part })
	}
	switch {
	case len(d.images) > 0:
		return "pull the image again"
	case has(partStream):
		return "import again what the stream was made of"
	case has(partEROFS):
		return "make the EROFS image again"
	}
	return "make it again"
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
	slices.Sort(paths)
	return paths
}
