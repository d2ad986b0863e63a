package verify

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
)

// links are what the directories of streams and images have.
type links struct {
	streams map[string]link     // by the name in StreamDir
	images  map[string]link     // by the name in ImageDir
	tags    map[string][]string // by the stream that they lead to
	refs    []ref
}

// link is a symlink to an object.
type link struct {
	path   string
	object fsverity.Digest // zero where err says why
	err    error
}

// ref is a symlink to a link: a tag, or another name of a stream or an EROFS image.
type ref struct {
	path   string
	tag    string // or what is there in place of one, "" elsewhere
	target string // path within the repository
	wrong  string // why it is none, "" if it is one
}

// Where importers have the links of an image.
const (
	manifestPrefix = "oci-manifest-"
	configPrefix   = "oci-config-"
	layerPrefix    = "oci-layer-"
	blobPrefix     = "oci-blob-"
	indexPrefix    = "oci-index-"
)

// readLinks reads the directories.
func (c *checker) readLinks(ctx context.Context) error {
	c.links.tags = map[string][]string{}
	var err error
	if c.links.streams, err = c.readDir(ctx, composefsrepo.StreamDir); err != nil {
		return err
	}
	if c.links.images, err = c.readDir(ctx, composefsrepo.ImageDir); err != nil {
		return err
	}
	for _, tags := range c.links.tags {
		slices.Sort(tags)
	}
	return nil
}

// readDir returns the links in a directory, by their names, and adds the refs below it.
func (c *checker) readDir(ctx context.Context, dir string) (map[string]link, error) {
	all := map[string]link{}
	err := c.repo.Walk(ctx, dir, func(e composefsrepo.Entry) error {
		name := strings.TrimPrefix(e.Path, dir+"/")
		switch {
		case e.Type == fs.ModeDir && e.Err != nil:
			c.linkDamage(e.Path, "its names can't be read: "+reason(e.Err))
		case strings.HasPrefix(name, "refs/"):
			if e.Type != fs.ModeDir {
				c.addRef(e)
			}
		case name == "refs" && e.Type == fs.ModeDir, strings.Contains(name, "/"):
		default:
			l := link{path: e.Path}
			l.object, l.err = e.Object()
			all[name] = l
		}
		return nil
	})
	return all, err
}

// addRef adds a symlink below a directory "refs", or what is there in place of one.
func (c *checker) addRef(e composefsrepo.Entry) {
	r := ref{path: e.Path, target: path.Join(path.Dir(e.Path), e.Target)}
	if path.Dir(e.Path) == tagDir {
		r.tag = path.Base(e.Path)
	}
	tag, isTag := e.Tag()
	if isTag {
		r.tag = tag
	}
	switch {
	case e.Type != fs.ModeSymlink:
		r.wrong = "it is not a symlink"
	case e.Err != nil:
		r.wrong = reason(e.Err)
	case path.IsAbs(e.Target):
		r.wrong = fmt.Sprintf("it leads to %q", e.Target)
	case isTag:
		stream := strings.TrimPrefix(r.target, composefsrepo.StreamDir+"/")
		c.links.tags[stream] = append(c.links.tags[stream], tag)
	case strings.HasPrefix(r.tag, "@"):
		r.wrong = "its name begins with @, which introduces a digest"
	}
	c.links.refs = append(c.links.refs, r)
}

const tagDir = composefsrepo.StreamDir + "/refs/oci"

func (c *checker) linkDamage(path, detail string, images ...*image) {
	c.found(Damage{Kind: Link, Path: path, Detail: detail}, images...)
}

// checkRefs checks that links and refs lead to what they should, where all of the
// repository is checked.
func (c *checker) checkRefs(ctx context.Context) error {
	if !c.whole() {
		return nil
	}
	for _, l := range c.links.streams {
		if l.err != nil {
			c.linkDamage(l.path, l.err.Error())
		}
	}
	for name, l := range c.links.images {
		c.checkImageLink(name, l)
	}
	for _, r := range c.links.refs {
		c.checkRef(r)
	}
	return ctx.Err()
}

// checkImageLink checks that a link to an EROFS image has that image's name.
func (c *checker) checkImageLink(name string, l link) {
	if l.err != nil {
		c.linkDamage(l.path, l.err.Error())
		return
	}
	e := c.addEROFS(l.object)
	if d, err := fsverity.Parse(name); err == nil && d != l.object {
		c.linkDamage(l.path, fmt.Sprintf("it leads to another image, %s", composefsrepo.ObjectPath(l.object)), e.images...)
	}
}

// checkRef checks that a ref leads to a link.
func (c *checker) checkRef(r ref) {
	kind := Link
	if r.tag != "" {
		kind = Tag
	}
	found := func(format string, args ...any) {
		c.found(Damage{Kind: kind, Path: r.path, Detail: fmt.Sprintf(format, args...)}, c.imagesNamed(r.tag)...)
	}
	if r.wrong != "" {
		found("%s", r.wrong)
		return
	}
	dir, name := path.Split(r.target)
	all := c.links.streams
	if dir == composefsrepo.ImageDir+"/" {
		all = c.links.images
	} else if dir != composefsrepo.StreamDir+"/" || kind == Tag && !isTaggable(name) {
		found("it leads to the wrong place, %q", r.target)
		return
	}
	if _, ok := all[name]; !ok {
		found("it leads to %q, which is not there", r.target)
	} else if kind == Tag && strings.HasPrefix(name, indexPrefix) {
		c.note("Tag %q stands for an index of images, of which nothing but the stream was checked.", r.tag)
	}
}

// isTaggable tells whether tags lead to streams of a name.
func isTaggable(name string) bool {
	return strings.HasPrefix(name, manifestPrefix) || strings.HasPrefix(name, indexPrefix)
}
