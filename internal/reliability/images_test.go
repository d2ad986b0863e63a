package reliability

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
	"github.com/skopeo-cfs/skopeo-cfs/internal/genimage"
	"github.com/skopeo-cfs/skopeo-cfs/internal/repomaker"
	"github.com/skopeo-cfs/skopeo-cfs/internal/trees"
)

// image is an image of a repository.
type image struct {
	name     string // in a store: localhost/NAME:latest
	from     string // in its repository
	manifest digest.Digest
	config   digest.Digest
	layers   []string // their IDs in a store, the lowest first
	tree     trees.Image
}

// images are the images of the tests.
type images struct {
	repository  string
	large       image // three layers, thousands of files
	sibling     image // the base layer and another one
	broken      image // the base layer, and one of which an object was altered
	empty       image // on the empty layer
	brokenEmpty image // the layer of broken on the empty layer
	small       image // one small layer
	fixtures    []image
	// For podman to pull from a registry: on the base layer, and on the empty one.
	pulled, pulledEmpty []image
}

// emptyLayer is the tar without entries that builders make of instructions that
// change no file.
var emptyLayer = make([]byte, 1024)

// maker adds images to a repository.
type maker struct {
	t    testing.TB
	repo *repomaker.Repo
}

func newMaker(t testing.TB, path string) maker {
	t.Helper()
	repo, err := repomaker.Create(path, fsverity.SHA512, repomaker.Options{})
	require.NoError(t, err)
	require.NoError(t, os.Chmod(path, 0o755)) // for a user who is not root
	return maker{t, repo}
}

// add adds an image of layers' tars.
func (m maker) add(name string, tars ...[]byte) image {
	m.t.Helper()
	made := repomaker.Image{
		Config:  imgspecv1.Image{Author: name}, // so that no two images have one config
		Listing: repomaker.Pretended,           // which spares compressing the layers
	}
	for _, data := range tars {
		made.Layers = append(made.Layers, repomaker.Layer{Tar: bytes.NewReader(data)})
	}
	added, err := m.repo.AddImage(name, made)
	require.NoError(m.t, err)
	return newImage(m.t, m.repo.Path(), name, added.Manifest.Digest, added.Config.Digest, tars)
}

func newImage(t testing.TB, repository, tag string, manifest, config digest.Digest, tars [][]byte) image {
	t.Helper()
	i := image{name: filepath.Base(tag), from: "composefs:[" + repository + "]" + tag, manifest: manifest, config: config}
	var err error
	i.tree, err = trees.OfLayers(tars)
	require.NoError(t, err)
	for n, data := range tars {
		id := digest.FromBytes(data).Encoded()
		if n > 0 {
			id = digest.FromString(i.layers[n-1] + "+" + id).Encoded()
		}
		i.layers = append(i.layers, id)
	}
	return i
}

// makeImages makes the repositories below dir.
func makeImages(t testing.TB, dir string) images {
	t.Helper()
	m := newMaker(t, filepath.Join(dir, "repository"))
	layers := generate(t, genimage.Spec{Files: choose(1200, 3000), Bytes: int64(choose(12<<20, 48<<20)), Layers: 3, Seed: 1})
	base := layers[0]
	// Without whiteouts: those of what is not below, which overlay shows, the
	// library's check of a store stumbles over.
	others := generate(t, genimage.Spec{Files: 300, Bytes: 4 << 20, Layers: 1, Seed: 2})
	all := images{
		repository: m.repo.Path(),
		large:      m.add("large", layers...),
		sibling:    m.add("sibling", base, others[0]),
		empty:      m.add("empty", emptyLayer, others[0]),
		small:      m.add("small", tarOf(t, file{name: "small", content: "small"})),
	}
	altered := bytes.Repeat([]byte("an object of this image alone\n"), 10_000)
	broken := []file{{name: "altered", content: string(altered)}}
	for range 200 {
		broken = append(broken, file{name: fmt.Sprintf("d/%d", len(broken)), content: "x"})
	}
	all.broken = m.add("broken", base, tarOf(t, broken...))
	all.brokenEmpty = m.add("broken-empty", emptyLayer, tarOf(t, broken...))
	object, _, err := m.repo.AddObject(bytes.NewReader(altered))
	require.NoError(t, err)
	altered[len(altered)/2] ^= 1
	require.NoError(t, os.WriteFile(m.repo.ObjectPath(object), altered, 0o644))

	for i := range choose(4, 12) {
		top := tarOf(t, file{name: "pulled", content: string(bytes.Repeat([]byte{byte('a' + i)}, 300_000))})
		letter := string(rune('a' + i))
		all.pulled = append(all.pulled, m.add("pulled-"+letter, base, top))
		all.pulledEmpty = append(all.pulledEmpty, m.add("pulled-empty-"+letter, emptyLayer, top))
	}
	all.fixtures = fixtureImages(t, dir)
	return all
}

// generate returns the tars of generated layers.
func generate(t testing.TB, spec genimage.Spec) [][]byte {
	t.Helper()
	layers, err := genimage.Generate(spec)
	require.NoError(t, err)
	var tars [][]byte
	for _, l := range layers {
		var data bytes.Buffer
		_, err := l.WriteTo(&data)
		require.NoError(t, err)
		tars = append(tars, data.Bytes())
	}
	return tars
}

// fixtureImages unpacks a golden repository and returns those of its images that
// are unlike others in their files and layers.
func fixtureImages(t testing.TB, dir string) []image {
	t.Helper()
	const name = "sha512"
	require.NoError(t, fixtures.UnpackTo(dir, name))
	path := filepath.Join(dir, name)
	repo, err := composefsrepo.Open(t.Context(), path, nil)
	require.NoError(t, err)
	defer repo.Close()
	var all []image
	// Not hello and kinds, of which the library's check says that they are modified
	// when the library itself has just extracted them.
	for _, layout := range []string{"repeated", "rootdir", "sizes", "gnu-ustar", "trailers", "many"}[:choose(3, 6)] {
		want := fixtures.Expected(t)[layout]
		opened, err := repo.ImageByDigest(t.Context(), want.Manifest)
		require.NoError(t, err)
		var tars [][]byte
		for i := range opened.Layers {
			content, err := opened.OpenLayer(t.Context(), i)
			require.NoError(t, err)
			data, err := io.ReadAll(content)
			require.NoError(t, err)
			require.NoError(t, content.Close())
			tars = append(tars, data)
		}
		all = append(all, newImage(t, path, layout, want.Manifest, want.Config, tars))
	}
	return all
}

// file is an entry of a tar: a directory if its name ends in a slash, a symlink
// if it has a target.
type file struct{ name, content, target string }

// tarOf returns a tar.
func tarOf(t testing.TB, files ...file) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, f := range files {
		h := tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: 0o755, Size: int64(len(f.content)), ModTime: time.Unix(1_700_000_000, 0)}
		switch {
		case f.target != "":
			h.Typeflag, h.Linkname = tar.TypeSymlink, f.target
		case f.name[len(f.name)-1] == '/':
			h.Typeflag = tar.TypeDir
		}
		require.NoError(t, w.WriteHeader(&h))
		_, err := io.WriteString(w, f.content)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return out.Bytes()
}

// sparseTar returns a tar, as GNU tar makes it, of a file with holes.
func sparseTar(t testing.TB) []byte {
	t.Helper()
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "sparse"))
	require.NoError(t, err)
	defer f.Close()
	for _, offset := range []int64{0, 1 << 20, 3 << 20} {
		_, err := f.WriteAt(bytes.Repeat([]byte("data"), 5000), offset)
		require.NoError(t, err)
	}
	require.NoError(t, f.Truncate(4<<20))
	out, err := exec.Command("tar", "--create", "--sparse", "--format=posix", "--owner=0", "--group=0", "--directory", dir, "sparse").Output()
	require.NoError(t, err)
	require.Less(t, len(out), 1<<20, "the tar is not sparse")
	return out
}
