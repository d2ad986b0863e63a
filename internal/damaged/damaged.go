// Package damaged makes repositories for tests with the images of the fixtures, in
// which the streams do not rebuild the layers, as faulty importers left them.
package damaged

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"

	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
	"github.com/skopeo-cfs/skopeo-cfs/internal/repomaker"
)

// fixture is an image of the fixtures.
type fixture struct {
	config      imgspecv1.Image
	annotations map[string]string
	layers      []composefsrepo.Layer
	tars        [][]byte
}

var (
	readFixtures sync.Once
	read         = map[string]fixture{}
)

// Fixture returns an image of the fixtures, with what a new one is made of, and
// the layers' tars, which are not to be changed.
func Fixture(t testing.TB, layout string) (repomaker.Image, [][]byte) {
	t.Helper()
	readFixtures.Do(func() { readAll(t) })
	f, ok := read[layout]
	if !ok {
		t.Fatalf("there is no fixture %s", layout)
	}
	image := repomaker.Image{Config: f.config, Annotations: f.annotations}
	for i, l := range f.layers {
		image.Layers = append(image.Layers, repomaker.Layer{Tar: bytes.NewReader(f.tars[i]), Annotations: l.Descriptor.Annotations})
	}
	return image, f.tars
}

// readAll reads all images of a repository, which takes much longer to unpack.
func readAll(t testing.TB) {
	t.Helper()
	const name = "sha256"
	repo, err := composefsrepo.Open(t.Context(), fixtures.Unpack(t, name), nil)
	check(t, err)
	defer repo.Close()
	for layout, expected := range fixtures.Layouts(t, name) {
		image, err := repo.ImageByDigest(t.Context(), expected.Manifest)
		check(t, err)
		f := fixture{layers: image.Layers}
		check(t, json.Unmarshal(image.Config, &f.config))
		var m imgspecv1.Manifest
		check(t, json.Unmarshal(image.Manifest, &m))
		f.annotations = m.Annotations
		for i := range image.Layers {
			content, err := image.OpenLayer(t.Context(), i)
			check(t, err)
			data, err := io.ReadAll(content)
			check(t, err)
			check(t, content.Close())
			f.tars = append(f.tars, data)
		}
		read[layout] = f
	}
}

// Add makes a repository in the directory path with an image of the fixtures,
// which change may change, and which is tagged with the layout's name.
func Add(t testing.TB, path string, algorithm fsverity.Algorithm, options repomaker.Options, layout string, change func(*repomaker.Image)) repomaker.Added {
	t.Helper()
	repo, err := repomaker.Create(path, algorithm, options)
	check(t, err)
	image, _ := Fixture(t, layout)
	if change != nil {
		change(&image)
	}
	added, err := repo.AddImage(layout, image)
	check(t, err)
	return added
}

// AlterHeaders returns what changes the given layers, 0 being the lowest, such
// that the streams rebuild tars with the same entries, but other bytes.
func AlterHeaders(layers ...int) func(*repomaker.Image) {
	return func(image *repomaker.Image) {
		for _, i := range layers {
			image.Layers[i].Alter = alterHeaders
		}
	}
}

// alterHeaders writes checksums in the other of the two ways that there are:
// ended by a NUL and a space, or by a space and a NUL. They do not count
// themselves.
func alterHeaders(_ int64, inline []byte) {
	const magic, checksumEnd = 257, 154
	if len(inline) == 512 && bytes.HasPrefix(inline[magic:], []byte("ustar")) {
		inline[checksumEnd], inline[checksumEnd+1] = inline[checksumEnd+1], inline[checksumEnd]
	}
}

// Where a layer is cut.
type Where int

// The places where importers have cut layers, at the end of what was compressed
// together: between two entries, the first time or half way through the layer, or
// before the zeros that fill the block after a file's content.
const (
	AfterFirst Where = iota
	BetweenEntries
	BeforePadding
)

// Cuts are all places.
var Cuts = map[string]Where{"after the first entry": AfterFirst, "between entries": BetweenEntries, "before padding": BeforePadding}

// Cut returns what changes a layer, 0 being the lowest, such that the stream
// rebuilds only the beginning of its tar.
func Cut(t testing.TB, layer int, where Where) func(*repomaker.Image) {
	return func(image *repomaker.Image) {
		data, err := io.ReadAll(image.Layers[layer].Tar)
		check(t, err)
		image.Layers[layer].Tar = bytes.NewReader(data)
		ends, padded := entryEnds(t, data)
		switch where {
		case AfterFirst:
			image.Layers[layer].Cut = ends[0]
		case BetweenEntries:
			image.Layers[layer].Cut = ends[len(ends)/2]
		case BeforePadding:
			if padded == 0 {
				t.Fatal("the layer has no file with padding")
			}
			image.Layers[layer].Cut = padded
		}
	}
}

// entryEnds returns the offsets in a tar at which entries end, but for the last,
// and the first at which a file's content ends, but not the block, 0 if there is
// none.
func entryEnds(t testing.TB, data []byte) (ends []int64, padded int64) {
	t.Helper()
	const block = 512
	in := bytes.NewReader(data)
	for entries := tar.NewReader(io.MultiReader(in)); ; { // a reader that can't seek: it reads no further than it needs
		_, err := entries.Next()
		if err == io.EOF {
			break
		}
		check(t, err)
		_, err = io.Copy(io.Discard, entries)
		check(t, err)
		at := int64(len(data) - in.Len())
		if at%block != 0 {
			if padded == 0 {
				padded = at
			}
			at += block - at%block
		}
		ends = append(ends, at)
	}
	if len(ends) < 2 {
		t.Fatal("the layer has less than two entries")
	}
	return ends[:len(ends)-1], padded
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// AlterObject changes a byte of an object of the image's n-th layer.
func AlterObject(t testing.TB, repository string, image *composefsrepo.Image, n int) {
	t.Helper()
	chunks, err := image.LayerChunks(t.Context(), n)
	check(t, err)
	defer chunks.Close()
	for {
		chunk, err := chunks.Next()
		check(t, err)
		if chunk.Inline != nil {
			continue
		}
		name := chunk.Object.String()
		path := filepath.Join(repository, "objects", name[:2], name[2:])
		data, err := os.ReadFile(path)
		check(t, err)
		data[len(data)/2] ^= 1
		check(t, os.WriteFile(path, data, 0o644))
		return
	}
}
