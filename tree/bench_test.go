package tree_test

import (
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/genimage"
	"github.com/skopeo-cfs/skopeo-cfs/internal/repomaker"
	"github.com/skopeo-cfs/skopeo-cfs/tree"
)

// generated opens an image like a distribution's, of a new repository.
func generated(t testing.TB, spec genimage.Spec) *composefsrepo.Image {
	t.Helper()
	maker, err := repomaker.Create(t.TempDir(), fsverity.SHA512, repomaker.Options{})
	require.NoError(t, err)
	layers, err := genimage.Generate(spec)
	require.NoError(t, err)
	image := repomaker.Image{Listing: repomaker.Pretended}
	for _, l := range layers {
		in := l.Reader()
		defer in.Close()
		image.Layers = append(image.Layers, repomaker.Layer{Tar: in})
	}
	_, err = maker.AddImage("image", image)
	require.NoError(t, err)
	opened, err := open(t, maker.Path()).ImageByTag(t.Context(), "image")
	require.NoError(t, err)
	return opened
}

func BenchmarkRead(b *testing.B) {
	image := generated(b, genimage.Spec{Files: 30_000, Bytes: 200 << 20, Layers: 4, Seed: 1})
	b.ReportAllocs()
	var held *tree.Tree
	before := cpuTime(b)
	for b.Loop() {
		var err error
		held, err = tree.Read(b.Context(), image)
		require.NoError(b, err)
	}
	b.ReportMetric(float64((cpuTime(b)-before).Milliseconds())/float64(b.N), "CPU-ms/op")
	var with, without runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&with)
	runtime.KeepAlive(held)
	held = nil
	runtime.GC()
	runtime.ReadMemStats(&without)
	b.ReportMetric(float64(with.HeapAlloc-without.HeapAlloc)/1e6, "MB-held")
}

// cpuTime returns the time that the process has had of the cores.
func cpuTime(t testing.TB) time.Duration {
	t.Helper()
	var usage unix.Rusage
	require.NoError(t, unix.Getrusage(unix.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
