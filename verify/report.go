package verify

import (
	"cmp"
	"path"
	"slices"

	"github.com/opencontainers/go-digest"
)

// Report is what was found.
type Report struct {
	// Repository is the repository's path.
	Repository string `json:"repository"`
	// Images are those that were checked, by their first names.
	Images []Image `json:"images"`
	// Objects counts the objects that were checked, Bytes is their size together, and
	// Measured counts those of which the kernel has told the digest.
	Objects  int64 `json:"objects"`
	Bytes    int64 `json:"bytes"`
	Measured int64 `json:"measured"`
	// Layers counts the layers, and blobs of artifacts, that were compared with their
	// digests.
	Layers int `json:"layers"`
	// Unreferenced is what nothing in the repository refers to; nil where only some
	// images were checked. Where streams are damaged, it may be too much.
	Unreferenced *Unreferenced `json:"unreferenced,omitempty"`
	// Damages are what is damaged: what concerns the most first, by Kind. Omitted
	// counts those that are not listed, since there are more than 1000 of their kind.
	Damages []Damage `json:"damages"`
	Omitted int      `json:"omitted,omitempty"`
	// Notes are what could not be checked, or is unusual, without being damaged.
	Notes []string `json:"notes,omitempty"`
}

// Image is an image that was checked.
type Image struct {
	// Names are its tags, deployments as @ID with their states, or @DIGEST where it has
	// neither. They may have any byte but NUL.
	Names []string `json:"names"`
	// Manifest and Config are the digests under which those are stored, "" where there
	// is none.
	Manifest digest.Digest `json:"manifest,omitempty"`
	Config   digest.Digest `json:"config,omitempty"`
	// Damaged: something that it is made of is.
	Damaged bool `json:"damaged"`
}

// Unreferenced counts objects, and the temporary files that programs have left
// behind, with their sizes in bytes together.
type Unreferenced struct {
	Objects        int64 `json:"objects"`
	Bytes          int64 `json:"bytes"`
	Temporary      int64 `json:"temporary"`
	TemporaryBytes int64 `json:"temporaryBytes"`
}

// IsDamaged tells whether anything is.
func (r *Report) IsDamaged() bool { return len(r.Damages) > 0 }

// Kind is a kind of damage.
type Kind string

// The kinds of damage.
const (
	// ObjectMissing: something refers to an object that is not there.
	ObjectMissing Kind = "object-missing"
	// ObjectTruncated: an object has less bytes than the file in the tar.
	ObjectTruncated Kind = "object-truncated"
	// ObjectSwapped: an object has the content of another one.
	ObjectSwapped Kind = "object-swapped"
	// ObjectAltered: an object has another content than its name says.
	ObjectAltered Kind = "object-altered"
	// ObjectUnreadable: an object can't be read.
	ObjectUnreadable Kind = "object-unreadable"
	// ObjectType: an object is no regular file.
	ObjectType Kind = "object-type"
	// ObjectVerity: an object has the right content, but no fs-verity, which the
	// repository demands.
	ObjectVerity Kind = "object-without-verity"
	// ObjectName: a file among the objects has a name that none has.
	ObjectName Kind = "object-name"
	// Stream: a stream is malformed, or of the wrong type, although its object is sound.
	Stream Kind = "stream"
	// Reference: a stream lacks a reference that it should have, or what it refers to
	// by name lacks its link.
	Reference Kind = "reference"
	// Link: a link is none, or leads to the wrong place or to nothing.
	Link Kind = "link"
	// Tag: a tag leads to the wrong place or to nothing.
	Tag Kind = "tag"
	// Manifest: a manifest does not have the digest under which it is stored, or is
	// none, although its objects are sound.
	Manifest Kind = "manifest"
	// Config: the same of a config.
	Config Kind = "config"
	// LayerZeros: a layer lacks zeros at its end that an importer lost.
	LayerZeros Kind = "layer-zeros"
	// LayerCut: only the beginning of a layer was imported.
	LayerCut Kind = "layer-cut"
	// LayerAltered: a layer does not have its digest, although its objects are sound.
	LayerAltered Kind = "layer-altered"
	// EROFS: an EROFS image is none, although its object is sound.
	EROFS Kind = "erofs"
	// ImageInvalid: the manifest, the config and the layers of an image, each of which is
	// sound, do not go together.
	ImageInvalid Kind = "image"
)

// kinds are in the order of reports.
var kinds = []Kind{
	ObjectMissing, ObjectTruncated, ObjectSwapped, ObjectAltered, ObjectUnreadable, ObjectType, ObjectVerity,
	Stream, Reference, Link, Tag, Manifest, Config, LayerCut, LayerAltered, LayerZeros, ImageInvalid, EROFS, ObjectName,
}

// Damage is something that is damaged.
type Damage struct {
	Kind Kind `json:"kind"`
	// Path is where it is in the repository. It may have any byte but NUL.
	Path string `json:"path"`
	// Digest is that of the manifest, config or layer, where it is one that is damaged.
	Digest digest.Digest `json:"digest,omitempty"`
	// Detail says what is wrong with it.
	Detail string `json:"detail"`
	// Places are what of images it touches; none where it is of no image.
	Places []Place `json:"places,omitempty"`
	// Advice says what to do.
	Advice string `json:"advice"`
	// Remove are the paths in the repository that have to be removed before the images
	// are pulled again: what importers find there they leave as it is.
	Remove []string `json:"remove,omitempty"`

	part   string   // of the images, "" for all of them
	images []*image // that are touched, by whatever
}

// Place is a part of images that is touched.
type Place struct {
	// Part is what it is: manifest, config, layer, blob, EROFS image, all of the image,
	// or a stream of none.
	Part string `json:"part"`
	// Name is the part's digest, or the stream's name; "" for all of the image.
	Name string `json:"name,omitempty"`
	// Images are the names of the images that have the part.
	Images []string `json:"images,omitempty"`
	// Paths are the files of a layer that are touched, those not listed being counted
	// by More; none where all of the part is. Other layers of an image may hide them.
	Paths []string `json:"paths,omitempty"`
	More  int      `json:"more,omitempty"`
}

// report puts together what was found.
func (c *checker) report() *Report {
	r := &Report{
		Repository: c.repo.Path(), Images: []Image{}, Damages: []Damage{}, Omitted: c.omitted, Notes: c.notes,
		Objects: c.objects.Load(), Bytes: c.bytes.Load(), Measured: c.measured.Load(), Layers: len(c.layers),
	}
	if c.whole() {
		r.Unreferenced = &c.unreferenced
	}
	for _, im := range c.images {
		r.Images = append(r.Images, Image{im.names, im.manifest, im.config, im.damaged})
	}
	slices.SortFunc(r.Images, func(a, b Image) int { return slices.Compare(a.Names, b.Names) })
	for _, d := range c.damages {
		r.Damages = append(r.Damages, c.finish(d))
	}
	slices.SortFunc(r.Damages, func(a, b Damage) int {
		return cmp.Or(cmp.Compare(slices.Index(kinds, a.Kind), slices.Index(kinds, b.Kind)), cmp.Compare(a.Path, b.Path), cmp.Compare(a.Detail, b.Detail))
	})
	slices.Sort(r.Notes)
	return r
}

// finish completes a damage.
func (c *checker) finish(d *Damage) Damage {
	if len(d.Places) == 0 && len(d.images) > 0 {
		name := d.Digest.String()
		if d.part == partEROFS {
			name = path.Base(d.Path)
		}
		d.place(cmp.Or(d.part, partImage), name, d.images)
	}
	slices.SortFunc(d.Places, func(a, b Place) int {
		return cmp.Or(cmp.Compare(a.Part, b.Part), cmp.Compare(a.Name, b.Name))
	})
	c.advise(d)
	return *d
}
