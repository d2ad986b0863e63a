package source_test

import (
	"crypto/sha256"
	"io"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/genimage"
	"github.com/skopeo-cfs/skopeo-cfs/internal/repomaker"
	"github.com/skopeo-cfs/skopeo-cfs/source"
)

// benchmarked is an image that is read again and again.
type benchmarked struct {
	src     *source.Source
	objects []string // paths, in the order in which the layers have them
	size    int64    // of the layers, in bytes
}

// newBenchmarked generates an image of 30,000 files and 1 GB.
func newBenchmarked(b *testing.B) benchmarked {
	b.Helper()
	dir := b.TempDir()
	made, err := repomaker.Create(dir, fsverity.SHA512, repomaker.Options{})
	require.NoError(b, err)
	spec := genimage.Spec{Files: 30000, Bytes: 1e9, Layers: 2, Seed: 1}
	_, err = made.AddGenerated("localhost/generated:latest", spec, repomaker.Pretended)
	require.NoError(b, err)

	repo, err := composefsrepo.Open(b.Context(), dir, nil)
	require.NoError(b, err)
	image, err := repo.ImageByTag(b.Context(), "localhost/generated:latest")
	require.NoError(b, err)
	i := benchmarked{src: source.New(nil, repo, image)}
	b.Cleanup(func() { require.NoError(b, i.src.Close()) })
	for n, l := range image.Layers {
		i.size += l.Size
		chunks, err := image.LayerChunks(b.Context(), n)
		require.NoError(b, err)
		for {
			chunk, err := chunks.Next()
			if err == io.EOF {
				break
			}
			require.NoError(b, err)
			if chunk.Inline == nil {
				i.objects = append(i.objects, made.ObjectPath(chunk.Object))
			}
		}
		require.NoError(b, chunks.Close())
	}
	return i
}

// readLayers reads all layers through GetBlob and returns how long that took.
func (i benchmarked) readLayers(b *testing.B) time.Duration {
	b.Helper()
	start := time.Now()
	layers, err := i.src.LayerInfosForCopy(b.Context(), nil)
	require.NoError(b, err)
	for _, l := range layers {
		blob, size, err := i.src.GetBlob(b.Context(), l, nil)
		require.NoError(b, err)
		n, err := io.Copy(io.Discard, struct{ io.Reader }{blob}) // calls Read, as copy pipelines do
		require.NoError(b, err)
		require.Equal(b, size, n)
		require.NoError(b, blob.Close())
	}
	return time.Since(start)
}

// readObjects reads and hashes the objects of the layers in one pass, and
// returns how long that took: it is what GetBlob is measured against.
func (i benchmarked) readObjects(b *testing.B) time.Duration {
	b.Helper()
	start := time.Now()
	hash, buffer := sha256.New(), make([]byte, 256<<10)
	for _, path := range i.objects {
		f, err := os.Open(path)
		require.NoError(b, err)
		_, err = io.CopyBuffer(hash, struct{ io.Reader }{f}, buffer)
		require.NoError(b, err)
		require.NoError(b, f.Close())
	}
	return time.Since(start)
}

// The speed of reading layers, also as a share of that of reading their objects
// right before.
func BenchmarkGetBlob(b *testing.B) {
	i := newBenchmarked(b)
	i.readLayers(b) // into the cache
	b.SetBytes(i.size)
	b.ReportAllocs()
	var shares []float64
	for b.Loop() {
		b.StopTimer()
		reference := i.readObjects(b)
		b.StartTimer()
		shares = append(shares, 100*reference.Seconds()/i.readLayers(b).Seconds())
	}
	slices.Sort(shares)
	b.ReportMetric(shares[len(shares)/2], "%-of-objects'-speed")
}

// The speed of what BenchmarkGetBlob is measured against.
func BenchmarkObjects(b *testing.B) {
	i := newBenchmarked(b)
	i.readObjects(b) // into the cache
	b.SetBytes(i.size)
	b.ReportAllocs()
	for b.Loop() {
		i.readObjects(b)
	}
}
