package tree_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/repomaker"
	"github.com/skopeo-cfs/skopeo-cfs/internal/tartest"
	"github.com/skopeo-cfs/skopeo-cfs/splitstream"
	"github.com/skopeo-cfs/skopeo-cfs/tree"
)

// entry is an entry of a tar, with its content.
type entry struct {
	tar.Header
	content string
}

func file(name, content string) entry {
	return entry{tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644}, content}
}

func dir(name string) entry {
	return entry{Header: tar.Header{Name: name + "/", Typeflag: tar.TypeDir, Mode: 0o750}}
}

func symlink(name, target string) entry {
	return entry{Header: tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target}}
}

func hardLink(name, target string) entry {
	return entry{Header: tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: target, Mode: 0o644}}
}

// tarOf returns a tar.
func tarOf(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, e := range entries {
		e.Size = int64(len(e.content))
		require.NoError(t, w.WriteHeader(&e.Header), e.Name)
		_, err := io.WriteString(w, e.content)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return out.Bytes()
}

// treeOf returns the tree of layers.
func treeOf(t testing.TB, layers ...[]byte) *tree.Tree {
	t.Helper()
	image, err := imageOf(t, layers...)
	require.NoError(t, err)
	files, err := tree.Read(t.Context(), image)
	require.NoError(t, err)
	return files
}

// pieced makes an image of a tar whose stream has it in pieces of the sizes given:
// those with a minus sign inline, the others as objects. The rest is inline.
func pieced(t testing.TB, content []byte, sizes ...int) (string, *composefsrepo.Image) {
	t.Helper()
	maker, err := repomaker.Create(t.TempDir(), fsverity.SHA512, repomaker.Options{})
	require.NoError(t, err)
	blob, err := maker.AddLayer(bytes.NewReader(content), nil)
	require.NoError(t, err)

	stream, rest := splitstream.NewWriter(fsverity.SHA512, splitstream.Layer), content
	for _, size := range append(sizes, 0) {
		switch {
		case size > 0:
			d, n, err := maker.AddObject(bytes.NewReader(rest[:size]))
			require.NoError(t, err)
			require.NoError(t, stream.Object(d, n))
			rest = rest[size:]
			continue
		case size == 0:
			size = -len(rest)
		}
		_, err := stream.Write(rest[:-size])
		require.NoError(t, err)
		rest = rest[-size:]
	}
	blob.Stream, err = maker.AddStream(repomaker.StreamName(splitstream.Layer, blob.Digest), stream)
	require.NoError(t, err)
	config := `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["` + blob.Digest.String() + `"]}}`
	manifest := `{"schemaVersion":2,"mediaType":"` + imgspecv1.MediaTypeImageManifest + `","config":{"mediaType":"` + imgspecv1.MediaTypeImageConfig +
		`","digest":"` + digest.FromString(config).String() + `","size":` + itoa(len(config)) + `},"layers":[{"mediaType":"` + imgspecv1.MediaTypeImageLayer +
		`","digest":"` + blob.Digest.String() + `","size":` + itoa(len(content)) + `}]}`
	_, err = maker.AddDocuments("image", []byte(manifest), []byte(config), []repomaker.Blob{blob})
	require.NoError(t, err)
	image, err := open(t, maker.Path()).ImageByTag(t.Context(), "image")
	require.NoError(t, err)
	return maker.Path(), image
}

// However a layer's stream has it in pieces, the tree is the same, and so are the
// contents.
func TestContentsInPieces(t *testing.T) {
	const block = 512
	long := strings.Repeat("0123456789abcdef", 8<<10) // 128 KiB
	content := tarOf(t, dir("d"), file("d/long", long), file("d/short", "short"), file("empty", ""))
	want := listTree(t, treeOf(t, content))
	at := 2 * block // where the long file begins
	for name, sizes := range map[string][]int{
		"all inline":                        {},
		"all in one object":                 {len(content)},
		"one object and the rest inline":    {-at, len(long)},
		"two objects":                       {-at, 1000, len(long) - 1000},
		"an object, then inline":            {-at, 1000},
		"inline, then an object":            {-at - 1000, len(long) - 1000},
		"an object with padding":            {-at, len(long) + block},
		"an object that is a header":        {block, block, len(long)},
		"objects of all sizes":              {1, 10, 100, 1000, 10_000, 100_000},
		"an object that begins in a header": {-block - 10, block + 1000},
	} {
		t.Run(name, func(t *testing.T) {
			_, image := pieced(t, content, sizes...)
			files, err := tree.Read(t.Context(), image)
			require.NoError(t, err)
			assert.Equal(t, want, listTree(t, files))
			n, err := files.Lookup("d/long")
			require.NoError(t, err)
			f, err := files.Open(t.Context(), n, "long")
			require.NoError(t, err)
			_, isReaderAt := f.(io.ReaderAt)
			assert.Equal(t, !n.Object().IsZero(), isReaderAt)
			require.NoError(t, f.Close())
			assert.ErrorIs(t, f.Close(), fs.ErrClosed)
		})
	}
}

// Equal keys mean equal contents, whatever pieces these are in.
func TestKeys(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 8<<10)
	content := tarOf(t, file("long", long))
	key := func(sizes ...int) tree.Key {
		_, image := pieced(t, content, sizes...)
		files, err := tree.Read(t.Context(), image)
		require.NoError(t, err)
		return files.Root().Child("long").Key()
	}
	want, err := fsverity.Compute(fsverity.SHA512, strings.NewReader(long))
	require.NoError(t, err)
	exact := tree.Key{Digest: want, Exact: true}
	assert.Equal(t, exact, key(-512, len(long)), "an object")
	assert.Equal(t, exact, key(), "inline")

	split := key(-512, 1000, 2000)
	assert.False(t, split.Exact)
	assert.Equal(t, split, key(-512, 1000, 2000, -5000))
	others := []tree.Key{split, key(-512, 1000), key(-512, 1000, 2001), key(-512, 1000, -2000, 2000), key(-513, 1000), key(-512, len(long)+512)}
	for i, a := range others {
		for _, b := range others[:i] {
			assert.NotEqual(t, a, b)
		}
	}
	files := treeOf(t, tarOf(t, file("small", "x"), file("same", "x"), file("other", "y"), file("empty", ""), dir("d")))
	root := files.Root()
	assert.Equal(t, root.Child("small").Key(), root.Child("same").Key())
	assert.NotEqual(t, root.Child("small").Key(), root.Child("other").Key())
	assert.Equal(t, tree.Key{}, root.Child("empty").Key())
	assert.Equal(t, tree.Key{}, root.Child("d").Key())
	assert.Equal(t, []byte("x"), root.Child("small").Inline())
}

// Content of a sparse file is what the tar makes of it.
func TestSparse(t *testing.T) {
	data := strings.Repeat("s", 512)
	content := sparseTar(t, "1\n512\n512\n", data, 2000)
	files := treeOf(t, content, tarOf(t, file("x", "x")))
	want := strings.Repeat("\x00", 512) + data + strings.Repeat("\x00", 2000-1024)
	got, err := files.FS(t.Context()).ReadFile("sparse")
	require.NoError(t, err)
	assert.Equal(t, want, string(got))
	assert.EqualValues(t, 2000, files.Root().Child("sparse").Size)

	// Of the same data at another place there is another key.
	other := treeOf(t, sparseTar(t, "1\n0\n512\n", data, 2000))
	assert.NotEqual(t, files.Root().Child("sparse").Key(), other.Root().Child("sparse").Key())

	huge := treeOf(t, sparseTar(t, "1\n512\n512\n", data, 1<<60))
	_, err = huge.FS(t.Context()).ReadFile("sparse")
	assert.ErrorIs(t, err, tree.ErrTooLarge)
}

// sparseTar returns a tar of a sparse file in the format of GNU tar.
func sparseTar(t testing.TB, sparseMap, data string, size int) []byte {
	t.Helper()
	e := file("GNUSparseFile.0/sparse", sparseMap+strings.Repeat("\x00", 512-len(sparseMap))+data)
	e.Format = tar.FormatPAX
	e.PAXRecords = map[string]string{}
	content := tarOf(t, e, file("after", "after"))
	records := tartest.PAXRecords("GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.name", "sparse", "GNU.sparse.realsize", itoa(size))
	header := tarOf(t, file("PaxHeaders/sparse", records))[:1024]
	header[156] = 'x'
	checksum(header)
	return append(header, content...)
}

func TestAlteredObjects(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 16<<10) // four blocks
	content := tarOf(t, file("long", long), file("short", strings.Repeat("s", 100)))
	alter := func(t *testing.T, repo string, n *tree.Node, at int64, with string) {
		name := n.Object().String()
		f, err := os.OpenFile(filepath.Join(repo, "objects", name[:2], name[2:]), os.O_WRONLY, 0)
		require.NoError(t, err)
		defer f.Close()
		_, err = f.WriteAt([]byte(with), at)
		require.NoError(t, err)
	}
	opened := func(t *testing.T) (string, *tree.Tree) {
		repo, image := pieced(t, content, -512, len(long), -512, 100)
		files, err := tree.Read(t.Context(), image)
		require.NoError(t, err)
		return repo, files
	}
	t.Run("before it is opened", func(t *testing.T) {
		repo, files := opened(t)
		alter(t, repo, files.Root().Child("long"), 200_000, "x")
		f, err := files.FS(t.Context()).Open("long")
		require.NoError(t, err)
		defer f.Close()
		n, err := f.(io.ReaderAt).ReadAt(make([]byte, 10), 0) // far from there
		assert.Zero(t, n)
		assert.ErrorIs(t, err, composefsrepo.ErrVerity)
		_, err = f.Read(make([]byte, 10))
		assert.ErrorIs(t, err, composefsrepo.ErrVerity)
		_, err = files.FS(t.Context()).ReadFile("short")
		assert.NoError(t, err)
	})
	t.Run("after its first byte was read", func(t *testing.T) {
		repo, files := opened(t)
		f, err := files.FS(t.Context()).Open("long")
		require.NoError(t, err)
		defer f.Close()
		_, err = f.Read(make([]byte, 1))
		require.NoError(t, err)
		alter(t, repo, files.Root().Child("long"), 200_000, "x")
		n, err := io.Copy(io.Discard, f)
		assert.ErrorIs(t, err, composefsrepo.ErrVerity)
		assert.Less(t, n, int64(200_000))
	})
	t.Run("of another size", func(t *testing.T) {
		repo, files := opened(t)
		alter(t, repo, files.Root().Child("long"), int64(len(long)), "x")
		_, err := files.FS(t.Context()).Open("long")
		assert.ErrorContains(t, err, "object ")
	})
	t.Run("missing", func(t *testing.T) {
		repo, files := opened(t)
		name := files.Root().Child("long").Object().String()
		require.NoError(t, os.Remove(filepath.Join(repo, "objects", name[:2], name[2:])))
		_, err := files.FS(t.Context()).Open("long")
		assert.ErrorIs(t, err, composefsrepo.ErrMissingObject)
		_, err = tree.Read(t.Context(), files.Image())
		assert.ErrorIs(t, err, composefsrepo.ErrMissingObject)
	})
	t.Run("among several of a file", func(t *testing.T) {
		repo, image := pieced(t, content, -512, 1000, 2000)
		files, err := tree.Read(t.Context(), image)
		require.NoError(t, err)
		second, err := fsverity.Compute(fsverity.SHA512, strings.NewReader(long[1000:3000]))
		require.NoError(t, err)
		name := second.String()
		require.NoError(t, os.WriteFile(filepath.Join(repo, "objects", name[:2], name[2:]), bytes.Repeat([]byte("x"), 2000), 0o644))
		f, err := files.FS(t.Context()).Open("long")
		require.NoError(t, err)
		got, err := io.ReadAll(f)
		assert.ErrorIs(t, err, composefsrepo.ErrVerity)
		assert.Equal(t, long[:1000], string(got))
		require.NoError(t, f.Close())
	})
	t.Run("the layer's stream", func(t *testing.T) {
		repo, files := opened(t)
		name := files.Image().Layers[0].Verity.String()
		path := filepath.Join(repo, "objects", name[:2], name[2:])
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		data[len(data)-1] ^= 1
		require.NoError(t, os.WriteFile(path, data, 0o644))
		_, err = tree.Read(t.Context(), files.Image())
		assert.ErrorIs(t, err, composefsrepo.ErrVerity)
	})
}

// Once the context is done, open files end, those too of which nobody has read.
func TestCancelledReads(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 64<<10)
	content := tarOf(t, file("long", long))
	for name, sizes := range map[string][]int{"object": {-512, len(long)}, "in the tar": {}} {
		t.Run(name, func(t *testing.T) {
			_, image := pieced(t, content, sizes...)
			ctx, cancel := context.WithCancel(t.Context())
			files, err := tree.Read(ctx, image)
			require.NoError(t, err)
			f, err := files.FS(ctx).Open("long")
			require.NoError(t, err)
			_, err = f.Read(make([]byte, 10))
			require.NoError(t, err)
			cancel()
			_, err = io.Copy(io.Discard, f)
			assert.ErrorIs(t, err, context.Canceled)
			require.NoError(t, f.Close())
			_, err = tree.Read(ctx, image)
			assert.ErrorIs(t, err, context.Canceled)
		})
	}
}

func TestReadLayer(t *testing.T) {
	stop := errors.New("stop")
	content := tarOf(t, dir("d"), file("d/a", strings.Repeat("a", 1000)), file(".wh.b", ""), file("c", "c"))
	image, err := imageOf(t, content)
	require.NoError(t, err)
	var names []string
	var pieces []int64
	collect := func(e *tree.Entry) error {
		names = append(names, e.Name)
		for piece, err := range e.Pieces() {
			require.NoError(t, err)
			pieces = append(pieces, piece.Size)
			assert.Equal(t, piece.Object.IsZero(), piece.Inline != nil)
		}
		return nil
	}
	require.NoError(t, tree.ReadLayer(t.Context(), image, 0, collect))
	assert.Equal(t, []string{"d/", "d/a", ".wh.b", "c"}, names)
	assert.Equal(t, []int64{1000, 1}, pieces)

	err = tree.ReadLayer(t.Context(), image, 0, func(e *tree.Entry) error {
		if e.Name == "d/a" {
			return stop
		}
		return nil
	})
	assert.Equal(t, stop, err)
}
