package genimage_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/internal/genimage"
)

func generate(t testing.TB, s genimage.Spec) []*genimage.Layer {
	t.Helper()
	layers, err := genimage.Generate(s)
	require.NoError(t, err)
	require.Len(t, layers, s.Layers)
	return layers
}

func sum(t testing.TB, l *genimage.Layer) digest.Digest {
	t.Helper()
	d := digest.Canonical.Digester()
	n, err := l.WriteTo(d.Hash())
	require.NoError(t, err)
	assert.Positive(t, n)
	return d.Digest()
}

func TestSameSpecSameTars(t *testing.T) {
	spec := genimage.Spec{Files: 300, Bytes: 4 << 20, Layers: 3, Seed: 7}
	first, again := generate(t, spec), generate(t, spec)
	spec.Seed++
	other := generate(t, spec)
	seen := map[digest.Digest]bool{}
	for i := range first {
		d := sum(t, first[i])
		seen[d] = true
		assert.Equal(t, d, sum(t, first[i]), "written twice")
		assert.Equal(t, d, sum(t, again[i]), "generated twice")
		assert.NotEqual(t, d, sum(t, other[i]), "another seed")

		r := first[i].Reader()
		read, err := digest.Canonical.FromReader(r)
		require.NoError(t, err)
		require.NoError(t, r.Close())
		assert.Equal(t, d, read, "read")
	}
	assert.Len(t, seen, spec.Layers)
}

func TestReaderCanBeClosedEarly(t *testing.T) {
	r := generate(t, genimage.Spec{Files: 10, Bytes: 8 << 20, Layers: 1})[0].Reader()
	_, err := io.ReadFull(r, make([]byte, 1000))
	require.NoError(t, err)
	require.NoError(t, r.Close())
	_, err = r.Read(make([]byte, 1))
	assert.ErrorIs(t, err, io.ErrClosedPipe)
}

// entries returns the headers of a layer's tar.
func entries(t *testing.T, l *genimage.Layer) []*tar.Header {
	t.Helper()
	r := l.Reader()
	defer r.Close()
	var headers []*tar.Header
	for in := tar.NewReader(r); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return headers
		}
		require.NoError(t, err)
		headers = append(headers, h)
	}
}

func TestImageIsLikeADistributions(t *testing.T) {
	spec := genimage.Spec{Files: 3000, Bytes: 80 << 20, Layers: 4, Seed: 1}
	var sizes []int64
	var total int64
	kinds := map[string]int{}
	below := map[string]bool{}
	for i, l := range generate(t, spec) {
		here := map[string]bool{}
		for _, h := range entries(t, l) {
			name := strings.TrimSuffix(h.Name, "/")
			assert.False(t, here[name], "%s twice in a layer", name)
			assert.True(t, path.Dir(name) == "." || here[path.Dir(name)], "%s before its directory", name)
			here[name] = true
			switch base := path.Base(name); {
			case base == ".wh..wh..opq":
				kinds["opaque"]++
				assert.True(t, below[path.Dir(name)])
			case strings.HasPrefix(base, ".wh."):
				kinds["whiteout"]++
				gone := path.Join(path.Dir(name), base[len(".wh."):])
				assert.True(t, below[gone], gone)
			case h.Typeflag == tar.TypeReg:
				sizes = append(sizes, h.Size)
				total += h.Size
				if below[name] {
					kinds["replaced"]++
				}
			case h.Typeflag == tar.TypeLink:
				kinds["hard link"]++
				assert.True(t, here[h.Linkname], "%s links to what is not there yet", name)
			case h.Typeflag == tar.TypeSymlink:
				kinds["symlink"]++
			}
			if h.Mode&0o4000 != 0 {
				kinds["set-id"]++
			}
			if len(h.PAXRecords["SCHILY.xattr.security.capability"]) == 20 {
				kinds["capability"]++
			}
			if h.ModTime.Nanosecond() != 0 {
				kinds["nanoseconds"]++
			}
			assert.False(t, h.ModTime.IsZero())
		}
		assert.Equal(t, i > 0, kinds["opaque"] == i && i > 0, "every upper layer has an opaque directory")
		for name := range here {
			below[name] = true
		}
	}
	assert.Len(t, sizes, spec.Files)
	assert.Equal(t, spec.Bytes, total)
	for _, kind := range []string{"whiteout", "opaque", "replaced", "hard link", "symlink", "set-id", "capability", "nanoseconds"} {
		assert.Positive(t, kinds[kind], kind)
	}

	slices.Sort(sizes)
	median := sizes[len(sizes)/2]
	assert.Greater(t, median, int64(2<<10))
	assert.Less(t, median, int64(4<<10))
	var largest int64
	for _, s := range sizes[len(sizes)*9/10:] {
		largest += s
	}
	assert.Greater(t, largest, total*7/10, "a tenth of the files has most of the bytes")
}

func TestImageIsCompressibleAsADistributions(t *testing.T) {
	var tar, compressed bytes.Buffer
	_, err := generate(t, genimage.Spec{Files: 300, Bytes: 10 << 20, Layers: 1, Seed: 3})[0].WriteTo(&tar)
	require.NoError(t, err)
	z := gzip.NewWriter(&compressed)
	_, err = z.Write(tar.Bytes())
	require.NoError(t, err)
	require.NoError(t, z.Close())
	assert.InDelta(t, 0.45, float64(compressed.Len())/float64(tar.Len()), 0.05)
}

func TestOddSpecs(t *testing.T) {
	for name, spec := range map[string]genimage.Spec{
		"one file":           {Files: 1, Bytes: 1, Layers: 1},
		"no bytes":           {Files: 50, Bytes: 0, Layers: 2},
		"fewer bytes":        {Files: 50, Bytes: 7, Layers: 1},
		"fewer than layers":  {Files: 2, Bytes: 100, Layers: 5},
		"one very large one": {Files: 2, Bytes: 5 << 20, Layers: 1},
	} {
		t.Run(name, func(t *testing.T) {
			var files int
			var total int64
			for _, l := range generate(t, spec) {
				for _, h := range entries(t, l) {
					if h.Typeflag == tar.TypeReg && !strings.Contains(h.Name, "/.wh.") {
						files++
						total += h.Size
					}
				}
			}
			assert.Equal(t, spec.Files, files)
			assert.Equal(t, spec.Bytes, total)
		})
	}
	_, err := genimage.Generate(genimage.Spec{Files: 0, Layers: 1})
	assert.Error(t, err)
	_, err = genimage.Generate(genimage.Spec{Files: 1, Bytes: -1, Layers: 1})
	assert.Error(t, err)
}

func BenchmarkGenerate(b *testing.B) {
	spec := genimage.Spec{Files: 3000, Bytes: 200 << 20, Layers: 1, Seed: 1}
	l := generate(b, spec)[0]
	b.SetBytes(spec.Bytes)
	for b.Loop() {
		_, err := l.WriteTo(io.Discard)
		require.NoError(b, err)
	}
}
