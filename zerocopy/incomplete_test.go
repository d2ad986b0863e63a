package zerocopy

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/containers/image/v5/types"
	"github.com/containers/storage"
	storagetypes "github.com/containers/storage/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
	"github.com/skopeo-cfs/skopeo-cfs/source"
	"github.com/skopeo-cfs/skopeo-cfs/transport"
)

// openLayers opens a store below a new directory and prepares to bring a fixture's
// layers into it.
func openLayers(t *testing.T) *layers {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("overlay needs root")
	}
	dir := t.TempDir()
	store, err := storage.GetStore(storagetypes.StoreOptions{
		GraphRoot: filepath.Join(dir, "store"), RunRoot: filepath.Join(dir, "run"), GraphDriverName: "overlay",
	})
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := store.Shutdown(true)
		require.NoError(t, err)
	})
	ref, err := transport.ParseReference("[" + fixtures.Unpack(t, "sha256") + "]hello")
	require.NoError(t, err)
	var src types.ImageSource
	src, err = ref.NewImageSource(t.Context(), nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, src.Close()) })
	driver, err := store.GraphDriver()
	require.NoError(t, err)
	work, err := newWorkDir(t.Context(), driverHome(store, driver), func(*workDir) error { return nil })
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, work.remove()) })
	s, err := newStager(store, driver, work)
	require.NoError(t, err)
	return newLayers(store, src.(*source.Source).Image(), s, limit{}, nil)
}

// A layer of which another program has removed something while it was added does
// not stay: the store extracts it instead.
func TestLayersThatLostFilesAreMadeAgain(t *testing.T) {
	l := openLayers(t)
	require.NoError(t, l.stageAll(t.Context(), make([]bool, len(l.ids))))
	names := map[string]int{}
	for i, tree := range l.trees {
		entries, err := os.ReadDir(tree.dir)
		require.NoError(t, err)
		require.NotEmpty(t, entries)
		names[l.ids[i]] = len(entries)
		require.NoError(t, os.RemoveAll(filepath.Join(tree.dir, entries[0].Name())))
	}
	require.NoError(t, l.addAll(t.Context()))
	assert.Equal(t, Stats{Extracted: len(l.ids)}, l.result())
	for id, count := range names {
		entries, err := os.ReadDir(filepath.Join(l.store.GraphRoot(), "overlay", id, "diff"))
		require.NoError(t, err)
		assert.Len(t, entries, count)
	}
	options := storage.CheckEverything()
	options.LayerContents = false // it knows no times but the tars
	report, err := l.store.Check(options)
	require.NoError(t, err)
	assert.Empty(t, report.Layers)
}

// Only the instance that was made here is taken back.
func TestTakeBack(t *testing.T) {
	l := openLayers(t)
	require.NoError(t, l.bring(t.Context()))
	top := len(l.ids) - 1
	mine, err := l.store.Layer(l.ids[top])
	require.NoError(t, err)

	other := *mine
	other.Created = mine.Created.Add(time.Nanosecond)
	require.NoError(t, takeBack(l.store, &other))
	for n := 1; n < len(mine.ID); n++ {
		part := *mine
		part.ID = mine.ID[:n]
		require.NoError(t, takeBack(l.store, &part))
	}
	lower, err := l.store.Layer(l.ids[0])
	require.NoError(t, err)
	assert.ErrorIs(t, takeBack(l.store, lower), storage.ErrLayerHasChildren)
	all, err := l.store.Layers()
	require.NoError(t, err)
	assert.Len(t, all, len(l.ids))

	require.NoError(t, takeBack(l.store, mine))
	require.NoError(t, takeBack(l.store, mine))
	all, err = l.store.Layers()
	require.NoError(t, err)
	assert.Len(t, all, top)
}
