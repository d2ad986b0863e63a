package repomaker_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/genimage"
	"github.com/skopeo-cfs/skopeo-cfs/internal/repomaker"
	"github.com/skopeo-cfs/skopeo-cfs/splitstream"
)

func create(t testing.TB, algorithm fsverity.Algorithm, options repomaker.Options) *repomaker.Repo {
	t.Helper()
	repo, err := repomaker.Create(filepath.Join(t.TempDir(), "repo"), algorithm, options)
	require.NoError(t, err)
	return repo
}

// open opens a repository that was made, for the time of a test.
func open(t testing.TB, path string) *composefsrepo.Repo {
	t.Helper()
	repo, err := composefsrepo.Open(t.Context(), path, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, repo.Close()) })
	return repo
}

// generated returns the tars of a generated image.
func generated(t testing.TB) [][]byte {
	t.Helper()
	layers, err := genimage.Generate(genimage.Spec{Files: 200, Bytes: 3 << 20, Layers: 3, Seed: 5})
	require.NoError(t, err)
	var tars [][]byte
	for _, l := range layers {
		var tar bytes.Buffer
		_, err := l.WriteTo(&tar)
		require.NoError(t, err)
		tars = append(tars, tar.Bytes())
	}
	return tars
}

func layersOf(tars [][]byte) []repomaker.Layer {
	var layers []repomaker.Layer
	for i, tar := range tars {
		layers = append(layers, repomaker.Layer{
			Tar: bytes.NewReader(tar), Annotations: map[string]string{"org.example.number": fmt.Sprint(i)},
		})
	}
	return layers
}

func readLayer(t testing.TB, image *composefsrepo.Image, i int) ([]byte, error) {
	t.Helper()
	content, err := image.OpenLayer(t.Context(), i)
	require.NoError(t, err)
	defer content.Close()
	return io.ReadAll(content)
}

func TestImagesOfTarsAreReadBack(t *testing.T) {
	tars := generated(t)
	for _, algorithm := range []fsverity.Algorithm{fsverity.SHA256, fsverity.SHA512} {
		for _, options := range []repomaker.Options{{}, {OldHeader: true}, {NoMeta: true}, {OldHeader: true, NoMeta: true}} {
			t.Run(fmt.Sprintf("%s/%+v", algorithm, options), func(t *testing.T) {
				made := create(t, algorithm, options)
				added, err := made.AddImage("localhost/made/a%b:latest", repomaker.Image{
					Layers: layersOf(tars), Annotations: map[string]string{"org.example": "made"},
					Config: imgspecv1.Image{Config: imgspecv1.ImageConfig{Labels: map[string]string{"org.example": "made"}}},
				})
				require.NoError(t, err)

				repo := open(t, made.Path())
				assert.Equal(t, algorithm, repo.Algorithm())
				image, err := repo.ImageByTag(t.Context(), "localhost/made/a%b:latest")
				require.NoError(t, err)
				assert.Equal(t, added.Manifest.Digest, image.ManifestDigest)
				assert.Equal(t, added.Config.Digest, image.ConfigDescriptor.Digest)
				assert.Contains(t, string(image.Config), `"org.example":"made"`)
				assert.Contains(t, string(image.Manifest), `"org.example":"made"`)
				require.Len(t, image.Layers, len(tars))
				for i, tar := range tars {
					assert.Equal(t, added.Layers[i].Digest, image.Layers[i].DiffID)
					assert.Equal(t, added.Layers[i].Stream, image.Layers[i].Verity)
					assert.Equal(t, fmt.Sprint(i), image.Layers[i].Descriptor.Annotations["org.example.number"])
					content, err := readLayer(t, image, i)
					require.NoError(t, err)
					assert.True(t, bytes.Equal(tar, content), "layer %d", i)
				}
				for _, object := range objects(t, made) {
					checkObject(t, object, algorithm)
				}
			})
		}
	}
}

// objects returns the paths of all files below objects.
func objects(t testing.TB, repo *repomaker.Repo) []string {
	t.Helper()
	var all []string
	require.NoError(t, filepath.Walk(filepath.Join(repo.Path(), "objects"), func(path string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() {
			all = append(all, path)
		}
		return err
	}))
	return all
}

// checkObject sees that an object has the name that it should.
func checkObject(t testing.TB, path string, algorithm fsverity.Algorithm) {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	d, err := fsverity.Compute(algorithm, f)
	require.NoError(t, err)
	assert.Equal(t, d.String(), filepath.Base(filepath.Dir(path))+filepath.Base(path))
}

func TestManifestListsWhatWasAskedFor(t *testing.T) {
	tars := generated(t)[:1]
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, err := z.Write(tars[0])
	require.NoError(t, err)
	require.NoError(t, z.Close())

	for name, test := range map[string]struct {
		listing   repomaker.Listing
		mediaType string
		digest    digest.Digest // "" where any will do
		size      int
	}{
		"gzip":         {repomaker.Gzip, imgspecv1.MediaTypeImageLayerGzip, digest.FromBytes(zipped.Bytes()), zipped.Len()},
		"zstd":         {repomaker.Zstd, imgspecv1.MediaTypeImageLayerZstd, "", 0},
		"uncompressed": {repomaker.Uncompressed, imgspecv1.MediaTypeImageLayer, digest.FromBytes(tars[0]), len(tars[0])},
		"pretended":    {repomaker.Pretended, imgspecv1.MediaTypeImageLayerGzip, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			made := create(t, fsverity.SHA256, repomaker.Options{})
			added, err := made.AddImage("made", repomaker.Image{Layers: layersOf(tars), Listing: test.listing})
			require.NoError(t, err)
			again, err := create(t, fsverity.SHA256, repomaker.Options{}).AddImage("", repomaker.Image{Layers: layersOf(tars), Listing: test.listing})
			require.NoError(t, err)
			assert.Equal(t, added, again)

			image, err := open(t, made.Path()).ImageByTag(t.Context(), "made")
			require.NoError(t, err)
			got := image.Layers[0].Descriptor
			assert.Equal(t, test.mediaType, got.MediaType)
			if test.digest != "" {
				assert.Equal(t, test.digest, got.Digest)
				assert.EqualValues(t, test.size, got.Size)
			} else {
				assert.NotEqual(t, image.Layers[0].DiffID, got.Digest)
				assert.Greater(t, int64(len(tars[0])), got.Size)
				assert.Positive(t, got.Size)
			}
		})
	}
	_, err = create(t, fsverity.SHA256, repomaker.Options{}).AddImage("", repomaker.Image{Layers: layersOf(tars), Listing: 99})
	assert.Error(t, err)
}

// withTrailer returns a tar and the zeros that GNU tar adds.
func withTrailer(t *testing.T) []byte {
	t.Helper()
	layer := generated(t)[0]
	return append(layer, make([]byte, 20480-len(layer)%10240)...)
}

func TestTrailerCanBeLost(t *testing.T) {
	whole := withTrailer(t)
	for _, oldHeader := range []bool{false, true} {
		made := create(t, fsverity.SHA512, repomaker.Options{LoseTrailer: true, OldHeader: oldHeader})
		added, err := made.AddImage("lost", repomaker.Image{Layers: layersOf([][]byte{whole})})
		require.NoError(t, err)
		assert.Equal(t, digest.FromBytes(whole), added.Layers[0].Digest)
		assert.EqualValues(t, len(whole), added.Layers[0].Size)

		image, err := open(t, made.Path()).ImageByTag(t.Context(), "lost")
		require.NoError(t, err)
		assert.EqualValues(t, len(generated(t)[0]), image.Layers[0].Size)
		content, err := readLayer(t, image, 0)
		assert.ErrorIs(t, err, composefsrepo.ErrLostZeros)
		assert.True(t, bytes.Equal(whole, append(content, make([]byte, len(whole)-len(content))...)))
	}
}

func TestStreamCanBeAltered(t *testing.T) {
	whole := generated(t)[0]
	const at = 345 // the start of the prefix in the first header, after all that is in use
	made := create(t, fsverity.SHA512, repomaker.Options{})
	_, err := made.AddImage("altered", repomaker.Image{Layers: []repomaker.Layer{{
		Tar: bytes.NewReader(whole),
		Alter: func(offset int64, inline []byte) {
			if i := at - offset; i >= 0 && i < int64(len(inline)) {
				inline[i] = 'x'
			}
		},
	}}})
	require.NoError(t, err)

	image, err := open(t, made.Path()).ImageByTag(t.Context(), "altered")
	require.NoError(t, err)
	assert.Equal(t, digest.FromBytes(whole), image.Layers[0].DiffID)
	content, err := readLayer(t, image, 0)
	assert.ErrorIs(t, err, composefsrepo.ErrDigestMismatch)
	want := bytes.Clone(whole)
	want[at] = 'x'
	assert.True(t, bytes.Equal(want, content))
}

func TestWhatIsThereIsWrittenOnce(t *testing.T) {
	made := create(t, fsverity.SHA256, repomaker.Options{})
	first, size, err := made.AddObject(bytes.NewReader([]byte("content")))
	require.NoError(t, err)
	assert.EqualValues(t, 7, size)
	before, err := os.Stat(made.ObjectPath(first))
	require.NoError(t, err)
	again, _, err := made.AddObject(bytes.NewReader([]byte("content")))
	require.NoError(t, err)
	assert.Equal(t, first, again)
	after, err := os.Stat(made.ObjectPath(again))
	require.NoError(t, err)
	assert.True(t, os.SameFile(before, after))
	assert.Equal(t, []string{made.ObjectPath(first)}, objects(t, made))
}

func TestFailureLeavesNothing(t *testing.T) {
	made := create(t, fsverity.SHA256, repomaker.Options{})
	tar := generated(t)[0]
	for name, layer := range map[string]io.Reader{
		"truncated": bytes.NewReader(tar[:len(tar)/2]),
		"no tar":    bytes.NewReader(bytes.Repeat([]byte("no tar "), 1000)),
		"broken":    io.MultiReader(bytes.NewReader(tar[:5000]), brokenReader{}),
	} {
		_, err := made.AddLayer(layer, nil)
		assert.Error(t, err, name)
	}
	streams, err := filepath.Glob(filepath.Join(made.Path(), "streams/oci-*"))
	require.NoError(t, err)
	assert.Empty(t, streams)
	for _, object := range objects(t, made) {
		checkObject(t, object, fsverity.SHA256)
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, os.ErrDeadlineExceeded }

func TestSparseFilesAreRebuilt(t *testing.T) {
	// A file of 8192 bytes of which the tar has the last 512, as GNU tar
	// writes it with --format=posix --sparse.
	sparseMap := "1\n7680\n512\n"
	body := append(append([]byte(sparseMap), make([]byte, 512-len(sparseMap))...), bytes.Repeat([]byte("s"), 512)...)
	var raw bytes.Buffer
	out := tar.NewWriter(&raw)
	// archive/tar does not write sparse files: the records go into an entry
	// of their own.
	var records string
	for _, kv := range [][2]string{{"GNU.sparse.major", "1"}, {"GNU.sparse.minor", "0"}, {"GNU.sparse.name", "sparse"}, {"GNU.sparse.realsize", "8192"}} {
		record := fmt.Sprintf(" %s=%s\n", kv[0], kv[1])
		n := len(record) + 2
		require.GreaterOrEqual(t, n, 10)
		records += fmt.Sprint(n) + record
	}
	require.NoError(t, out.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "records", Size: int64(len(records))}))
	_, err := out.Write([]byte(records))
	require.NoError(t, err)
	require.NoError(t, out.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "GNUSparseFile.0/sparse", Size: int64(len(body)), Mode: 0o644}))
	_, err = out.Write(body)
	require.NoError(t, err)
	require.NoError(t, out.Close())
	setType(raw.Bytes()[:512], tar.TypeXHeader)

	made := create(t, fsverity.SHA256, repomaker.Options{})
	_, err = made.AddImage("sparse", repomaker.Image{Layers: layersOf([][]byte{raw.Bytes()})})
	require.NoError(t, err)
	image, err := open(t, made.Path()).ImageByTag(t.Context(), "sparse")
	require.NoError(t, err)
	content, err := readLayer(t, image, 0)
	require.NoError(t, err)
	assert.Equal(t, raw.Bytes(), content)
	entries := tar.NewReader(bytes.NewReader(content))
	header, err := entries.Next()
	require.NoError(t, err)
	assert.Equal(t, "sparse", header.Name)
	assert.EqualValues(t, 8192, header.Size)
}

// setType changes the type in a tar's header, and the checksum with it.
func setType(header []byte, kind byte) {
	header[156] = kind
	copy(header[148:156], "        ")
	var sum int
	for _, b := range header {
		sum += int(b)
	}
	copy(header[148:], fmt.Sprintf("%06o\x00 ", sum))
}

// What tests of hostile repositories are made with.
func TestWrongRepositoriesCanBeMade(t *testing.T) {
	made := create(t, fsverity.SHA256, repomaker.Options{})
	good, err := made.AddImage("good", repomaker.Image{Layers: layersOf(generated(t)[:1])})
	require.NoError(t, err)

	other := digest.FromString("another manifest")
	require.NoError(t, made.Link(repomaker.StreamName(splitstream.Manifest, other), good.Manifest.Stream))
	require.NoError(t, made.Tag("misnamed", other))
	_, err = open(t, made.Path()).ImageByTag(t.Context(), "misnamed")
	assert.ErrorIs(t, err, composefsrepo.ErrDigestMismatch)

	_, err = made.AddRawStream(repomaker.StreamName(splitstream.Manifest, other), bytes.NewReader([]byte("no stream, though as long as a header")))
	require.NoError(t, err)
	_, err = open(t, made.Path()).ImageByTag(t.Context(), "misnamed")
	assert.ErrorIs(t, err, splitstream.ErrFormat)

	index, err := made.AddDocuments("index", []byte(`{"schemaVersion":2,"manifests":[]}`), []byte("{}"), nil)
	require.NoError(t, err)
	_, err = open(t, made.Path()).ImageByDigest(t.Context(), index.Manifest.Digest)
	assert.ErrorIs(t, err, composefsrepo.ErrInvalidImage)
	assert.ErrorContains(t, err, "index")

	reopened, err := repomaker.Open(made.Path(), fsverity.SHA256, repomaker.Options{})
	require.NoError(t, err)
	require.NoError(t, reopened.Tag("good/too", good.Manifest.Digest))
	_, err = open(t, made.Path()).ImageByTag(t.Context(), "good/too")
	assert.NoError(t, err)
	_, err = repomaker.Open(t.TempDir(), fsverity.SHA256, repomaker.Options{})
	assert.ErrorIs(t, err, os.ErrNotExist)
}
