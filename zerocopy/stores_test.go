package zerocopy_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containers/image/v5/copy"
	"github.com/containers/image/v5/signature"
	imagestorage "github.com/containers/image/v5/storage"
	"github.com/containers/image/v5/transports/alltransports"
	"github.com/containers/image/v5/types"
	"github.com/containers/storage"
	"github.com/containers/storage/pkg/reexec"
	storagetypes "github.com/containers/storage/types"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/internal/trees"
	_ "github.com/skopeo-cfs/skopeo-cfs/transport"
	"github.com/skopeo-cfs/skopeo-cfs/zerocopy"
)

func TestMain(m *testing.M) {
	reexec.Register(copyingProcess, copyInProcess)
	reexec.Register(holdingProcess, holdLock)
	if reexec.Init() {
		return
	}
	// Else each extraction would sleep for a second before it ends, where it was
	// built with the race detector.
	os.Setenv("GORACE", "atexit_sleep_ms=0")
	os.Exit(m.Run())
}

// openStore opens a store below dir, a new one where there is none.
func openStore(t testing.TB, dir, driver string, options ...string) storage.Store {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("overlay needs root")
	}
	store, err := storage.GetStore(storeOptions(dir, driver, options...))
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := store.Shutdown(true)
		require.NoError(t, err)
	})
	return store
}

func storeOptions(dir, driver string, options ...string) storagetypes.StoreOptions {
	return storagetypes.StoreOptions{
		GraphRoot:          filepath.Join(dir, "store"),
		RunRoot:            filepath.Join(dir, "run"),
		GraphDriverName:    driver,
		GraphDriverOptions: options,
	}
}

// copied is the name that copies get.
const copied = "localhost/copied:latest"

func insecurePolicy(t testing.TB) *signature.PolicyContext {
	t.Helper()
	policy, err := signature.NewPolicyContext(&signature.Policy{
		Default: []signature.PolicyRequirement{signature.NewPRInsecureAcceptAnything()},
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, policy.Destroy()) })
	return policy
}

func in(t testing.TB, store storage.Store, name string) types.ImageReference {
	t.Helper()
	ref, err := imagestorage.Transport.ParseStoreReference(store, name)
	require.NoError(t, err)
	return ref
}

func composefs(t testing.TB, repo, name string) types.ImageReference {
	t.Helper()
	ref, err := alltransports.ParseImageName("composefs:[" + repo + "]" + name)
	require.NoError(t, err)
	return ref
}

// copyPlain copies an image as copy.Image does it by itself.
func copyPlain(t testing.TB, store storage.Store, repo, name string) error {
	t.Helper()
	_, err := copy.Image(t.Context(), insecurePolicy(t), in(t, store, copied), composefs(t, repo, name), &copy.Options{})
	return err
}

// copyFast copies an image without copying its contents.
func copyFast(t testing.TB, store storage.Store, repo, name string) (zerocopy.Stats, error) {
	t.Helper()
	_, stats, err := zerocopy.Image(t.Context(), insecurePolicy(t), in(t, store, copied), composefs(t, repo, name), nil, nil)
	return stats, err
}

// checkStore has the store check itself, with everything on, and expects that it
// finds nothing, no layer that is not used among it, and no staging directory.
func checkStore(t testing.TB, store storage.Store) {
	t.Helper()
	assert.Empty(t, complaints(t, store))
	checkStaging(t, store)
}

func checkStaging(t testing.TB, store storage.Store) {
	t.Helper()
	staging, err := os.ReadDir(filepath.Join(store.GraphRoot(), "overlay", "staging"))
	if !errors.Is(err, fs.ErrNotExist) {
		require.NoError(t, err)
	}
	assert.Empty(t, staging)
	work, err := filepath.Glob(filepath.Join(store.GraphRoot(), "*", "tempdirs", "*"))
	require.NoError(t, err)
	assert.Empty(t, work)
}

// hello is what every store complains of about the fixture: what extraction
// makes of these directories.
var hello = []string{"/etc(", "/usr(", "/usr/share(", "/usr/share/doc("}

// complaints is what the store finds wrong with itself, sorted, but for what has
// one of these texts in it.
func complaints(t testing.TB, store storage.Store, but ...string) []string {
	t.Helper()
	options := storage.CheckEverything()
	options.LayerUnreferencedMaximumAge = new(time.Duration)
	report, err := store.Check(options)
	require.NoError(t, err)
	var list []string
	for _, errs := range []map[string][]error{report.Layers, report.Images, report.Containers} {
		for id, found := range errs {
			for _, err := range found {
				if slices.ContainsFunc(but, func(text string) bool { return strings.Contains(err.Error(), text) }) {
					continue
				}
				list = append(list, id+": "+timeNow.ReplaceAllString(err.Error(), "now"))
			}
		}
	}
	slices.Sort(list)
	return list
}

// timeNow is the time of the extraction in a complaint that a directory has that
// time instead of the tar's.
var timeNow = regexp.MustCompile(`\b0x6[0-9a-f]{7}\)`)

// sameLayers compares what two stores have of an image: records and directories.
func sameLayers(t testing.TB, want, got storage.Store) {
	t.Helper()
	wanted, err := want.Layers()
	require.NoError(t, err)
	for _, w := range wanted {
		g, err := got.Layer(w.ID)
		require.NoError(t, err)
		assert.Equal(t, w.Parent, g.Parent)
		assert.Equal(t, w.UncompressedDigest, g.UncompressedDigest)
		assert.Equal(t, w.UncompressedSize, g.UncompressedSize)
		assert.Equal(t, w.UncompressedDigest, g.CompressedDigest)
		assert.Equal(t, w.CompressedDigest, g.CompressedDigest)
		assert.Equal(t, w.UIDs, g.UIDs)
		assert.Equal(t, w.GIDs, g.GIDs)
		assert.Equal(t, listLayer(t, want, w.ID), listLayer(t, got, w.ID), "layer %s", w.ID)
		assert.Equal(t, g.UncompressedDigest, diffDigest(t, got, w.ID), "layer %s", w.ID)
	}
	all, err := got.Layers()
	require.NoError(t, err)
	assert.Len(t, all, len(wanted))
}

// started is when the tests began.
var started = time.Now()

// listLayer lists a layer's directory. A time that is none of the tar's but that
// of the extraction (of a whiteout, of the root, of a directory that the tar has
// no entry for, or an entry before that of something in it) is "now".
func listLayer(t testing.TB, store storage.Store, id string) map[string]trees.Entry {
	t.Helper()
	return trees.ListUnpacked(t, filepath.Join(store.GraphRoot(), "overlay", id, "diff"), started)
}

func diffDigest(t testing.TB, store storage.Store, id string) digest.Digest {
	t.Helper()
	diff, err := store.Diff("", id, nil)
	require.NoError(t, err)
	defer diff.Close()
	d, err := digest.FromReader(diff)
	require.NoError(t, err)
	return d
}
