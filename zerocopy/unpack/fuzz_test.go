package unpack_test

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/containers/storage/pkg/archive"
	"github.com/containers/storage/pkg/idtools"
	"github.com/containers/storage/pkg/tarlog"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	splittar "github.com/vbatts/tar-split/archive/tar"
	"github.com/vbatts/tar-split/tar/asm"
	"github.com/vbatts/tar-split/tar/storage"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
	"github.com/skopeo-cfs/skopeo-cfs/internal/tartest"
	"github.com/skopeo-cfs/skopeo-cfs/internal/trees"
	"github.com/skopeo-cfs/skopeo-cfs/zerocopy/unpack"
)

// FuzzLayer unpacks anything: nothing around the directory is touched, and what
// was unpacked is rebuilt.
func FuzzLayer(f *testing.F) {
	for _, tars := range []map[string][]entry{usual, unusual} {
		for _, entries := range tars {
			if content := makeTar(f, entries...); len(content) < 100_000 {
				f.Add(content, int64(64))
			}
		}
	}
	f.Fuzz(func(t *testing.T, content []byte, limit int64) {
		options := &archive.TarOptions{WhiteoutFormat: archive.OverlayWhiteoutFormat}
		whole := ours(t, content, inline(content, 1000), options)
		parts := ours(t, content, split(t, content, max(limit, 0)), options)
		if (whole.err == nil) != (parts.err == nil) && !errors.Is(whole.err, unpack.ErrUnusual) {
			t.Errorf("in one piece: %v, in several: %v", whole.err, parts.err)
		}
	})
}

// FuzzUnpack unpacks as this package does it and as containers/storage does it.
// What this package unpacks is the same in all that can be seen of it. The bytes
// are a tar, or the choices that make one.
func FuzzUnpack(f *testing.F) {
	for i, layer := range fixtureLayers(f) {
		f.Add(layer, uint8(i), true)
	}
	for seed := range 64 {
		f.Add(tartest.Choices(seed), uint8(seed), false)
	}
	f.Fuzz(func(t *testing.T, bytes []byte, way uint8, isTar bool) {
		if !isTar {
			bytes = tartest.Generate(bytes)
		}
		compare(t, bytes, int(way))
	})
}

// A tar that is refused is not compared, so most must not be.
func TestMostTarsOfTheGrammarAreUnpacked(t *testing.T) {
	const all = 400
	unpacked := 0
	for seed := range all {
		if compare(t, tartest.Generate(tartest.Choices(seed)), seed) {
			unpacked++
		}
	}
	t.Logf("%d of %d tars were unpacked", unpacked, all)
	assert.Greater(t, unpacked, all/3)
}

// fixtureLayers are the tars of small layers that builders made.
func fixtureLayers(t testing.TB) (tars [][]byte) {
	t.Helper()
	repo, err := composefsrepo.Open(t.Context(), fixtures.Unpack(t, "sha512"), nil)
	require.NoError(t, err)
	defer repo.Close()
	seen := map[digest.Digest]bool{}
	for layout := range fixtures.Layouts(t, "sha512") {
		image, err := repo.ImageByTag(t.Context(), "localhost/"+layout+":latest")
		if err != nil || layout == "many" { // one without a tag; or layers that are alike
			continue
		}
		for i, layer := range image.Layers {
			if seen[layer.DiffID] || layer.DiffID == "" {
				continue
			}
			seen[layer.DiffID] = true
			in, err := image.OpenLayer(t.Context(), i)
			require.NoError(t, err)
			content, err := io.ReadAll(in)
			require.NoError(t, err)
			require.NoError(t, in.Close())
			if len(content) < 128<<10 {
				tars = append(tars, content)
			}
		}
	}
	require.NotEmpty(t, tars)
	return tars
}

// fuzzOptions are the options that stores unpack with.
func fuzzOptions() []*archive.TarOptions {
	private, shared := os.FileMode(0o700), os.FileMode(0o755)
	all := []idtools.IDMap{{ContainerID: 0, HostID: 100_000, Size: 65536}}
	rootless := []idtools.IDMap{{ContainerID: 0, HostID: 1000, Size: 1}, {ContainerID: 1, HostID: 100_000, Size: 65536}}
	overlay := archive.OverlayWhiteoutFormat
	return []*archive.TarOptions{
		{WhiteoutFormat: overlay},
		{},
		{WhiteoutFormat: overlay, InUserNS: true},
		{WhiteoutFormat: overlay, UIDMaps: all, GIDMaps: all},
		{WhiteoutFormat: overlay, UIDMaps: rootless, GIDMaps: rootless, InUserNS: true, IgnoreChownErrors: true},
		{ForceMask: &private, InUserNS: true},
		{WhiteoutFormat: overlay, ForceMask: &shared, UIDMaps: rootless, GIDMaps: all},
		{UIDMaps: all, GIDMaps: []idtools.IDMap{{ContainerID: 1, HostID: 0, Size: 70_000}, {ContainerID: 0, HostID: 70_000, Size: 1}}, IgnoreChownErrors: true},
	}
}

// What is known of a path may be what is known of another with the same hash: such
// a tar may not be unpacked, but it is not unpacked otherwise either.
func TestPathsWithOneHash(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	unpacked := 0
	for bits := range 10 {
		unpack.WithPathBits(bits, func() {
			for seed := range 60 {
				if compareUnless(t, tartest.Generate(tartest.Choices(seed)), seed, func(error) bool { return true }) {
					unpacked++
				}
			}
		})
	}
	assert.NotZero(t, unpacked)
}

// compare compares the ways to unpack a tar, with one of the options, and tells
// whether this package has unpacked it.
func compare(t *testing.T, content []byte, way int) bool {
	t.Helper()
	return compareUnless(t, content, way, func(err error) bool {
		return errors.Is(err, unpack.ErrUnusual) || errors.Is(err, unpack.ErrTar)
	})
}

// compareUnless is compare with the errors of this package for which it does not
// matter what containers/storage does.
func compareUnless(t *testing.T, content []byte, way int, refusal func(error) bool) bool {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("containers/storage needs root to unpack")
	}
	options := fuzzOptions()[way%len(fuzzOptions())]
	o := optionsOf(options)
	o.TempDir = t.TempDir()
	dest := within(t)
	result, err := unpack.Layer(t.Context(), feedOf(t, content, way/len(fuzzOptions())), dest, o)
	if err != nil && refusal(err) {
		return false
	}
	theirDest := within(t)
	theirErr := errors.Join(tartest.Extract(t, content, theirDest, options), splitErr(content))
	if err != nil {
		assert.Error(t, theirErr, "containers/storage unpacks it, but here: %v", err)
		return false
	}
	defer result.TarSplit.Close()
	require.NoError(t, theirErr, "containers/storage does not unpack it")
	got := trees.ListUntouched(t, dest, started)
	assert.Equal(t, trees.ListUntouched(t, theirDest, started), got)
	assert.EqualValues(t, len(got)-1, result.Entries)
	assert.Equal(t, digest.FromBytes(content), result.Digest)
	assert.EqualValues(t, len(content), result.Size)
	assert.True(t, bytes.Equal(content, rebuild(t, result.TarSplit, dest)), "the rebuilt tar is another one")
	uids, gids := loggedIDs(t, content)
	assert.Equal(t, uids, result.UIDs)
	assert.Equal(t, gids, result.GIDs)
	return true
}

// feedOf returns a tar in one of the ways to cut it into pieces.
func feedOf(t testing.TB, content []byte, way int) unpack.Feed {
	switch way % 4 {
	case 0:
		return split(t, content, 64)
	case 1:
		return inline(content, 700)
	case 2:
		return split(t, content, 0)
	default:
		return inline(content, 1<<30)
	}
}

// splitErr is the error of taking a tar apart for the record that
// containers/storage has of it.
func splitErr(content []byte) error {
	in, err := asm.NewInputTarStream(bytes.NewReader(content), storage.NewJSONPacker(io.Discard), storage.NewDiscardFilePutter())
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, in)
	return err
}

// loggedIDs returns the IDs that containers/storage notes of a layer.
func loggedIDs(t testing.TB, content []byte) (uids, gids []uint32) {
	t.Helper()
	allUIDs, allGIDs := map[uint32]struct{}{}, map[uint32]struct{}{}
	log, err := tarlog.NewLogger(func(h *splittar.Header) {
		if !strings.HasPrefix(path.Base(h.Name), archive.WhiteoutPrefix) {
			allUIDs[uint32(h.Uid)] = struct{}{}
			allGIDs[uint32(h.Gid)] = struct{}{}
		}
	})
	require.NoError(t, err)
	_, err = log.Write(content)
	require.NoError(t, err)
	require.NoError(t, log.Close())
	return slices.Sorted(maps.Keys(allUIDs)), slices.Sorted(maps.Keys(allGIDs))
}
