package verify_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/repomaker"
	"github.com/skopeo-cfs/skopeo-cfs/splitstream"
	"github.com/skopeo-cfs/skopeo-cfs/verify"
)

// spoiled is what is to be found of a damage that was made.
type spoiled struct {
	kind   verify.Kind
	path   string // within the repository
	images []string
	parts  []string // of the places, sorted
	paths  []string // of all places, sorted
	detail string   // a part of it
}

// one returns the only damage that is to be found.
func one(s spoiled) []spoiled { return []spoiled{s} }

// damages are ways to damage the repository that newMade makes, one thing at a time, and
// what is to be found.
var damages = map[string]func(t *testing.T, m *made, a fsverity.Algorithm) []spoiled{
	"object altered": func(t *testing.T, m *made, a fsverity.Algorithm) []spoiled {
		path := m.objectOf(t, a, tool)
		altered := slices.Clone(tool)
		altered[17] ^= 1
		write(t, path, altered)
		return one(spoiled{kind: verify.ObjectAltered, path: m.rel(path), images: both, parts: []string{"layer", "layer"},
			paths: []string{"/opt/copy", "/usr/bin/alias", "/usr/bin/tool"}, detail: "3000 bytes"})
	},
	"object longer": func(t *testing.T, m *made, a fsverity.Algorithm) []spoiled {
		path := m.objectOf(t, a, data)
		write(t, path, append(slices.Clone(data), "more"...))
		return one(spoiled{kind: verify.ObjectAltered, path: m.rel(path), images: []string{appTag}, parts: []string{"layer"}, paths: []string{"/opt/data"}, detail: "5004 bytes"})
	},
	"object missing": func(t *testing.T, m *made, a fsverity.Algorithm) []spoiled {
		path := m.objectOf(t, a, data)
		require.NoError(t, os.Remove(path))
		return one(spoiled{kind: verify.ObjectMissing, path: m.rel(path), images: []string{appTag}, parts: []string{"layer"}, paths: []string{"/opt/data"}})
	},
	"object truncated": func(t *testing.T, m *made, a fsverity.Algorithm) []spoiled {
		path := m.objectOf(t, a, library)
		require.NoError(t, os.Truncate(path, 70000))
		return one(spoiled{kind: verify.ObjectTruncated, path: m.rel(path), images: both, parts: []string{"layer"},
			paths: []string{"/usr/lib/" + strings.Repeat("long", 60) + ".so"}, detail: "70000 bytes of 100000"})
	},
	"object empty": func(t *testing.T, m *made, a fsverity.Algorithm) []spoiled {
		path := m.objectOf(t, a, data)
		write(t, path, nil)
		return one(spoiled{kind: verify.ObjectTruncated, path: m.rel(path), images: []string{appTag}, parts: []string{"layer"}, paths: []string{"/opt/data"}, detail: "0 bytes of 5000"})
	},
	"objects swapped": func(t *testing.T, m *made, a fsverity.Algorithm) []spoiled {
		first, second := m.objectOf(t, a, tool), m.objectOf(t, a, data)
		write(t, first, data)
		write(t, second, tool)
		return []spoiled{
			{kind: verify.ObjectSwapped, path: m.rel(first), images: both, parts: []string{"layer", "layer"},
				paths: []string{"/opt/copy", "/usr/bin/alias", "/usr/bin/tool"}, detail: m.rel(second)},
			{kind: verify.ObjectSwapped, path: m.rel(second), images: []string{appTag}, parts: []string{"layer"}, paths: []string{"/opt/data"}, detail: m.rel(first)},
		}
	},
	"object a directory": func(t *testing.T, m *made, a fsverity.Algorithm) []spoiled {
		path := m.objectOf(t, a, data)
		require.NoError(t, os.Remove(path))
		require.NoError(t, os.Mkdir(path, 0o755))
		return one(spoiled{kind: verify.ObjectType, path: m.rel(path), images: []string{appTag}, parts: []string{"layer"}, paths: []string{"/opt/data"}})
	},
	"object a symlink": func(t *testing.T, m *made, a fsverity.Algorithm) []spoiled {
		path := m.objectOf(t, a, data)
		require.NoError(t, os.Rename(path, filepath.Join(m.Path(), "aside")))
		require.NoError(t, os.Symlink("../../aside", path))
		return one(spoiled{kind: verify.ObjectType, path: m.rel(path), images: []string{appTag}, parts: []string{"layer"}, paths: []string{"/opt/data"}})
	},
	"object a fifo": func(t *testing.T, m *made, a fsverity.Algorithm) []spoiled {
		path := m.objectOf(t, a, data)
		require.NoError(t, os.Remove(path))
		require.NoError(t, unix.Mkfifo(path, 0o644))
		return one(spoiled{kind: verify.ObjectType, path: m.rel(path), images: []string{appTag}, parts: []string{"layer"}, paths: []string{"/opt/data"}})
	},
	"unreferenced object altered": func(t *testing.T, m *made, a fsverity.Algorithm) []spoiled {
		d, _, err := m.AddObject(strings.NewReader("of nothing"))
		require.NoError(t, err)
		write(t, m.ObjectPath(d), []byte("altered"))
		return one(spoiled{kind: verify.ObjectAltered, path: m.rel(m.ObjectPath(d))})
	},
	"object of a wrong name": func(t *testing.T, m *made, a fsverity.Algorithm) []spoiled {
		path := m.objectOf(t, a, data) + "0"
		write(t, path, data)
		return one(spoiled{kind: verify.ObjectName, path: m.rel(path)})
	},
	"directory of a wrong name": func(t *testing.T, m *made, a fsverity.Algorithm) []spoiled {
		require.NoError(t, os.Mkdir(filepath.Join(m.Path(), "objects/0g"), 0o755))
		return one(spoiled{kind: verify.ObjectName, path: "objects/0g"})
	},
	"layer's stream altered": func(t *testing.T, m *made, a fsverity.Algorithm) []spoiled {
		path := m.ObjectPath(m.app.Layers[0].Stream)
		stream := read(t, path)
		stream[len(stream)-1] ^= 1
		write(t, path, stream)
		return one(spoiled{kind: verify.ObjectAltered, path: m.rel(path), images: both, parts: []string{"layer"}})
	},
	"layer's stream missing": func(t *testing.T, m *made, a fsverity.Algorithm) []spoiled {
		path := m.ObjectPath(m.app.Layers[1].Stream)
		require.NoError(t, os.Remove(path))
		return one(spoiled{kind: verify.ObjectMissing, path: m.rel(path), images: []string{appTag}, parts: []string{"layer"}})
	},
	"manifest's stream missing": func(t *testing.T, m *made, a fsverity.Algorithm) []spoiled {
		path := m.ObjectPath(m.app.Manifest.Stream)
		require.NoError(t, os.Remove(path))
		return one(spoiled{kind: verify.ObjectMissing, path: m.rel(path), images: []string{appTag}, parts: []string{"manifest"}})
	},
	"manifest altered": func(t *testing.T, m *made, a fsverity.Algorithm) []spoiled {
		path := m.documentOf(t, a, m.app.Manifest, false)
		write(t, path, append(read(t, path), '\n'))
		return one(spoiled{kind: verify.ObjectAltered, path: m.rel(path), images: []string{appTag}, parts: []string{"manifest"}})
	},
	"config missing": func(t *testing.T, m *made, a fsverity.Algorithm) []spoiled {
		path := m.documentOf(t, a, m.app.Config, true)
		require.NoError(t, os.Remove(path))
		return one(spoiled{kind: verify.ObjectMissing, path: m.rel(path), images: []string{appTag}, parts: []string{"config"}})
	},
	"stream that is none": func(t *testing.T, m *made, a fsverity.Algorithm) []spoiled {
		name := repomaker.StreamName(splitstream.Layer, digest.FromString("nothing"))
		d, err := m.AddRawStream(name, strings.NewReader("no stream, though as long as the header of one is"))
		require.NoError(t, err)
		return one(spoiled{kind: verify.Stream, path: m.rel(m.ObjectPath(d)), parts: []string{"stream"}, detail: splitstream.ErrFormat.Error()})
	},
	"stream of another type": func(t *testing.T, m *made, a fsverity.Algorithm) []spoiled {
		require.NoError(t, m.Link(repomaker.StreamName(splitstream.Manifest, m.app.Manifest.Digest), m.app.Config.Stream))
		return one(spoiled{kind: verify.Stream, path: m.stream(splitstream.Manifest, m.app.Manifest.Digest), images: []string{appTag}, parts: []string{"manifest"}, detail: "content type"})
	},
	"manifest under another digest": func(t *testing.T, m *made, a fsverity.Algorithm) []spoiled {
		other := digest.FromString("another manifest")
		require.NoError(t, m.Link(repomaker.StreamName(splitstream.Manifest, other), m.app.Manifest.Stream))
		require.NoError(t, m.Tag("converted", other))
		return one(spoiled{kind: verify.Manifest, path: m.stream(splitstream.Manifest, other), images: []string{"converted"}, parts: []string{"manifest"}, detail: m.app.Manifest.Digest.String()})
	},
	"manifest that is none": func(t *testing.T, m *made, a fsverity.Algorithm) []spoiled {
		added, err := m.AddDocuments("none", []byte("no JSON"), []byte("{}"), nil)
		require.NoError(t, err)
		return one(spoiled{kind: verify.Manifest, path: m.stream(splitstream.Manifest, added.Manifest.Digest), images: []string{"none"}, parts: []string{"manifest"}})
	},
	"layers that nothing refers to": func(t *testing.T, m *made, a fsverity.Algorithm) []spoiled {
		image, err := openRepo(t, m.Path()).ImageByTag(t.Context(), appTag)
		require.NoError(t, err)
		_, err = m.AddDocuments(appTag, image.Manifest, image.Config, nil)
		require.NoError(t, err)
		config := m.stream(splitstream.Config, m.app.Config.Digest)
		var all []spoiled
		for _, l := range m.app.Layers {
			all = append(all, spoiled{kind: verify.Reference, path: config, images: []string{appTag}, parts: []string{"image"}, detail: l.Digest.String()})
		}
		return all
	},
	"link of a layer missing": func(t *testing.T, m *made, a fsverity.Algorithm) []spoiled {
		path := m.stream(splitstream.Layer, m.app.Layers[0].Digest)
		require.NoError(t, os.Remove(filepath.Join(m.Path(), path)))
		return one(spoiled{kind: verify.Link, path: path, images: both, parts: []string{"image"}})
	},
	"link of a config missing": func(t *testing.T, m *made, a fsverity.Algorithm) []spoiled {
		path := m.stream(splitstream.Config, m.app.Config.Digest)
		require.NoError(t, os.Remove(filepath.Join(m.Path(), path)))
		return nil // the manifest's reference leads to it, and cfsctl looks for no more
	},
	"link is a file": func(t *testing.T, m *made, a fsverity.Algorithm) []spoiled {
		path := m.stream(splitstream.Layer, m.app.Layers[1].Digest)
		require.NoError(t, os.Remove(filepath.Join(m.Path(), path)))
		write(t, filepath.Join(m.Path(), path), []byte("a file"))
		return one(spoiled{kind: verify.Link, path: path, images: []string{appTag}, parts: []string{"image"}, detail: "not a symlink"})
	},
	"link leads out": func(t *testing.T, m *made, a fsverity.Algorithm) []spoiled {
		path := m.stream(splitstream.Manifest, m.app.Manifest.Digest)
		m.relink(t, path, "/etc/passwd")
		return one(spoiled{kind: verify.Link, path: path, images: []string{appTag}, parts: []string{"image"}, detail: "/etc/passwd"})
	},
	"link to a loop": func(t *testing.T, m *made, a fsverity.Algorithm) []spoiled {
		path := m.stream(splitstream.Manifest, m.app.Manifest.Digest)
		m.relink(t, path, filepath.Base(path))
		return one(spoiled{kind: verify.Link, path: path, images: []string{appTag}, parts: []string{"image"}})
	},
	"tag dangling": func(t *testing.T, m *made, a fsverity.Algorithm) []spoiled {
		require.NoError(t, m.Tag("dangling", digest.FromString("nothing")))
		return one(spoiled{kind: verify.Tag, path: "streams/refs/oci/dangling", images: []string{"dangling"}, parts: []string{"image"}})
	},
	"tag of a layer": func(t *testing.T, m *made, a fsverity.Algorithm) []spoiled {
		m.relink(t, "streams/refs/oci/wrong", "../../"+repomaker.StreamName(splitstream.Layer, m.app.Layers[0].Digest))
		return one(spoiled{kind: verify.Tag, path: "streams/refs/oci/wrong", images: []string{"wrong"}, parts: []string{"image"}, detail: "wrong place"})
	},
	"tag is a file": func(t *testing.T, m *made, a fsverity.Algorithm) []spoiled {
		write(t, filepath.Join(m.Path(), "streams/refs/oci/file"), nil)
		return one(spoiled{kind: verify.Tag, path: "streams/refs/oci/file", images: []string{"file"}, parts: []string{"image"}})
	},
	"tag that is a digest": func(t *testing.T, m *made, a fsverity.Algorithm) []spoiled {
		m.relink(t, "streams/refs/oci/@sha256:1", "../../"+repomaker.StreamName(splitstream.Manifest, m.app.Manifest.Digest))
		return one(spoiled{kind: verify.Tag, path: "streams/refs/oci/@sha256:1", images: []string{"@sha256:1"}, parts: []string{"image"}})
	},
	"reference to a stream dangling": func(t *testing.T, m *made, a fsverity.Algorithm) []spoiled {
		require.NoError(t, os.MkdirAll(filepath.Join(m.Path(), "streams/refs/some/where"), 0o755))
		m.relink(t, "streams/refs/some/where/name", "../../../nothing")
		return one(spoiled{kind: verify.Link, path: "streams/refs/some/where/name"})
	},
	"reference that is a socket": func(t *testing.T, m *made, a fsverity.Algorithm) []spoiled {
		require.NoError(t, unix.Mkfifo(filepath.Join(m.Path(), "streams/refs/fifo"), 0o644))
		return one(spoiled{kind: verify.Link, path: "streams/refs/fifo"})
	},
	"image that is a file": func(t *testing.T, m *made, a fsverity.Algorithm) []spoiled {
		write(t, filepath.Join(m.Path(), "images/file"), nil)
		return one(spoiled{kind: verify.Link, path: "images/file"})
	},
	"image that is none": func(t *testing.T, m *made, a fsverity.Algorithm) []spoiled {
		path := m.objectOf(t, a, library)
		m.relink(t, "images/"+strings.ReplaceAll(strings.TrimPrefix(m.rel(path), "objects/"), "/", ""), "../"+m.rel(path))
		return one(spoiled{kind: verify.EROFS, path: "images/" + strings.ReplaceAll(strings.TrimPrefix(m.rel(path), "objects/"), "/", "")})
	},
	"image missing": func(t *testing.T, m *made, a fsverity.Algorithm) []spoiled {
		path := m.objectOf(t, a, []byte("of nothing"))
		m.relink(t, "images/"+strings.ReplaceAll(strings.TrimPrefix(m.rel(path), "objects/"), "/", ""), "../"+m.rel(path))
		return one(spoiled{kind: verify.ObjectMissing, path: m.rel(path), parts: []string{"EROFS image"}})
	},
}

// rel returns a path within the repository.
func (m *made) rel(path string) string { return strings.TrimPrefix(path, m.Path()+"/") }

// stream returns the path of a stream's link.
func (m *made) stream(kind splitstream.Type, d digest.Digest) string {
	return "streams/" + repomaker.StreamName(kind, d)
}

// relink makes a symlink, in place of what is there.
func (m *made) relink(t *testing.T, path, target string) {
	t.Helper()
	path = filepath.Join(m.Path(), path)
	_ = os.Remove(path) // it may not be there
	require.NoError(t, os.Symlink(target, path))
}

// Every damage is found and named, with what it touches, and nothing else is.
func TestDamages(t *testing.T) {
	for name, spoil := range damages {
		for _, a := range []fsverity.Algorithm{fsverity.SHA256, fsverity.SHA512} {
			t.Run(name+"/"+a.String(), func(t *testing.T) {
				m := newMade(t, a, repomaker.Options{})
				want := spoil(t, m, a)
				report := check(t, m.Path(), nil)
				assertFound(t, want, report)
			})
		}
	}
}

func assertFound(t *testing.T, want []spoiled, report *verify.Report) {
	t.Helper()
	got := slices.Clone(report.Damages)
	for _, w := range want {
		i := slices.IndexFunc(got, func(d verify.Damage) bool {
			return d.Kind == w.kind && d.Path == w.path && strings.Contains(d.Detail, w.detail)
		})
		if !assert.GreaterOrEqual(t, i, 0, "no %s of %s: %+v", w.kind, w.path, report.Damages) {
			continue
		}
		var images, parts, paths []string
		for _, p := range got[i].Places {
			images, parts, paths = append(images, p.Images...), append(parts, p.Part), append(paths, p.Paths...)
		}
		for _, all := range []*[]string{&images, &parts, &paths} {
			slices.Sort(*all)
		}
		assert.Equal(t, w.images, slices.Compact(images))
		assert.Equal(t, w.parts, parts)
		assert.Equal(t, w.paths, paths)
		for _, im := range report.Images {
			if slices.ContainsFunc(im.Names, func(name string) bool { return slices.Contains(w.images, name) }) {
				assert.True(t, im.Damaged, "%q", im.Names)
			}
		}
		got = slices.Delete(got, i, i+1)
	}
	assert.Empty(t, got)
	if len(want) == 1 {
		for _, im := range report.Images {
			assert.Equal(t, slices.ContainsFunc(want[0].images, func(name string) bool { return slices.Contains(im.Names, name) }), im.Damaged, "%q", im.Names)
		}
	}
}
