package composefsrepo_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/damaged"
	"github.com/skopeo-cfs/skopeo-cfs/internal/repomaker"
)

// readLayer reads a layer to its end.
func readLayer(t testing.TB, image *composefsrepo.Image, n int) ([]byte, error) {
	t.Helper()
	content, err := image.OpenLayer(t.Context(), n)
	require.NoError(t, err)
	defer func() { require.NoError(t, content.Close()) }()
	return io.ReadAll(content)
}

func uncompressed(image *repomaker.Image) { image.Listing = repomaker.Uncompressed }

// Of layers whose trailing zeros an importer lost, reading ends with the error
// that says so, but of a repaired image they are read as they were, wherever the
// manifest comes from.
func TestLostZerosAreRepaired(t *testing.T) {
	for name, test := range map[string]struct {
		algorithm fsverity.Algorithm
		options   repomaker.Options
		change    func(*repomaker.Image)
		byConfig  bool
	}{
		"sha256":           {algorithm: fsverity.SHA256},
		"sha512":           {algorithm: fsverity.SHA512},
		"sha256, old":      {algorithm: fsverity.SHA256, options: repomaker.Options{OldHeader: true, NoMeta: true}},
		"sha512, old":      {algorithm: fsverity.SHA512, options: repomaker.Options{OldHeader: true, NoMeta: true}},
		"uncompressed":     {algorithm: fsverity.SHA512, change: uncompressed},
		"without manifest": {algorithm: fsverity.SHA512, byConfig: true},
	} {
		t.Run(name, func(t *testing.T) {
			test.options.LoseTrailer = true
			path := t.TempDir()
			added := damaged.Add(t, path, test.algorithm, test.options, "trailers", test.change)
			d := added.Manifest.Digest
			if test.byConfig {
				require.NoError(t, os.Remove(filepath.Join(path, "streams/oci-manifest-"+d.String())))
				d = added.Config.Digest
			}
			image, err := open(t, path).ImageByDigest(t.Context(), d)
			require.NoError(t, err)
			repaired, faults, err := image.Repaired(t.Context())
			require.NoError(t, err)
			assert.Equal(t, make([]error, len(image.Layers)), faults)
			lacking := 0
			for i, want := range added.Layers {
				if _, err := readLayer(t, image, i); image.Layers[i].Size < want.Size {
					lacking++
					assert.ErrorIs(t, err, composefsrepo.ErrLostZeros)
					assert.NotErrorIs(t, err, composefsrepo.ErrDigestMismatch)
					assert.ErrorContains(t, err, "lacks the ")
				} else {
					assert.NoError(t, err)
				}
				assert.Equal(t, want.Size, repaired.Layers[i].Size)
				data, err := readLayer(t, repaired, i)
				require.NoError(t, err)
				assert.Equal(t, want.Digest, digest.FromBytes(data))
				assert.Len(t, data, int(want.Size))
			}
			assert.NotZero(t, lacking)
			if !test.byConfig {
				assert.Equal(t, image.Manifest, repaired.Manifest)
				return
			}
			assert.NotEqual(t, image.Manifest, repaired.Manifest)
			assert.Equal(t, digest.FromBytes(repaired.Manifest), repaired.ManifestDigest)
			for i, want := range added.Layers {
				assert.Equal(t, want.Size, repaired.Layers[i].Descriptor.Size)
			}
		})
	}
}

func TestWhatIsFineStaysAsItIs(t *testing.T) {
	path := t.TempDir()
	added := damaged.Add(t, path, fsverity.SHA256, repomaker.Options{}, "repeated", nil)
	image, err := open(t, path).ImageByDigest(t.Context(), added.Manifest.Digest)
	require.NoError(t, err)
	repaired, faults, err := image.Repaired(t.Context())
	require.NoError(t, err)
	assert.Equal(t, image, repaired)
	assert.Equal(t, make([]error, len(image.Layers)), faults)
}

// What is no lost zeros is not repaired: an altered object, headers that are not
// the layer's, one of these together with lost zeros.
func TestOtherFaultsAreNotRepaired(t *testing.T) {
	for name, test := range map[string]struct {
		loseTrailer, alterObject, alterHeaders bool
	}{
		"altered object":             {alterObject: true},
		"altered object, lost zeros": {alterObject: true, loseTrailer: true},
		"other headers":              {alterHeaders: true},
		"other headers, lost zeros":  {alterHeaders: true, loseTrailer: true},
	} {
		t.Run(name, func(t *testing.T) {
			path := t.TempDir()
			var change func(*repomaker.Image)
			if test.alterHeaders {
				change = damaged.AlterHeaders(0)
			}
			options := repomaker.Options{LoseTrailer: test.loseTrailer}
			added := damaged.Add(t, path, fsverity.SHA256, options, "hello", change)
			image, err := open(t, path).ImageByDigest(t.Context(), added.Manifest.Digest)
			require.NoError(t, err)
			if test.alterObject {
				damaged.AlterObject(t, path, image, 0)
			}
			repaired, faults, err := image.Repaired(t.Context())
			require.NoError(t, err)
			assert.Equal(t, image.Layers[0], repaired.Layers[0])
			_, readErr := readLayer(t, repaired, 0)
			assert.EqualError(t, faults[0], readErr.Error())
			assert.NoError(t, faults[1])

			var other *composefsrepo.OtherTarError
			assert.Equal(t, test.alterHeaders, errors.As(faults[0], &other))
			assert.Equal(t, test.alterObject, errors.Is(faults[0], composefsrepo.ErrVerity))
			if !test.alterHeaders {
				return
			}
			assert.ErrorIs(t, faults[0], composefsrepo.ErrDigestMismatch)
			content, err := other.Open(t.Context())
			require.NoError(t, err)
			defer content.Close()
			data, err := io.ReadAll(content)
			require.NoError(t, err)
			assert.Equal(t, other.Digest, digest.FromBytes(data))
		})
	}
}

// A layer that was cut on import is said to be: nothing but another pull helps. One
// that differs otherwise is not.
func TestCutLayerIsSaidToBe(t *testing.T) {
	changes := map[string]func(*repomaker.Image){"other headers": damaged.AlterHeaders(0)}
	for name, where := range damaged.Cuts {
		changes[name] = damaged.Cut(t, 0, where)
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			path := t.TempDir()
			added := damaged.Add(t, path, fsverity.SHA256, repomaker.Options{}, "kinds", change)
			image, err := open(t, path).ImageByDigest(t.Context(), added.Manifest.Digest)
			require.NoError(t, err)
			_, err = readLayer(t, image, 0)
			var other *composefsrepo.OtherTarError
			require.ErrorAs(t, err, &other)
			chunks, chunksErr := image.LayerChunks(t.Context(), 0)
			require.NoError(t, chunksErr)
			defer chunks.Close()
			blamed := chunks.Verdict(t.Context(), other.Digest, nil)
			assert.EqualError(t, blamed, err.Error())
			assert.NoError(t, chunks.Verdict(t.Context(), added.Layers[0].Digest, nil))
			assert.ErrorIs(t, err, composefsrepo.ErrDigestMismatch)
			assert.ErrorContains(t, err, "no object was altered")
			cut := name != "other headers"
			assert.Equal(t, cut, errors.Is(err, composefsrepo.ErrCut))
			assert.Equal(t, cut, other.Cut)
			_, faults, err := image.Repaired(t.Context())
			require.NoError(t, err)
			assert.EqualError(t, blamed, faults[0].Error())
		})
	}
}

// An altered object is what is wrong with a layer, also where it was cut.
func TestCutLayerWithAnAlteredObject(t *testing.T) {
	path := t.TempDir()
	added := damaged.Add(t, path, fsverity.SHA256, repomaker.Options{}, "kinds", damaged.Cut(t, 0, damaged.BetweenEntries))
	image, err := open(t, path).ImageByDigest(t.Context(), added.Manifest.Digest)
	require.NoError(t, err)
	damaged.AlterObject(t, path, image, 0)
	_, err = readLayer(t, image, 0)
	assert.ErrorIs(t, err, composefsrepo.ErrVerity)
	assert.NotErrorIs(t, err, composefsrepo.ErrCut)
}

func TestRepairingEndsWithItsContext(t *testing.T) {
	path := t.TempDir()
	added := damaged.Add(t, path, fsverity.SHA256, repomaker.Options{LoseTrailer: true}, "hello", nil)
	image, err := open(t, path).ImageByDigest(t.Context(), added.Manifest.Digest)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err = image.Repaired(ctx)
	assert.ErrorIs(t, err, context.Canceled)
}

// A manifest that lists a tar with a size which lost zeros do not explain is
// refused.
func TestOtherSizesAreRefused(t *testing.T) {
	for name, test := range map[string]struct {
		more int64
		good bool
	}{
		"a block more":             {more: 512, good: true},
		"no whole block":           {more: 100},
		"more than are looked for": {more: 1<<20 + 512},
		"fewer":                    {more: -512},
	} {
		t.Run(name, func(t *testing.T) {
			path := t.TempDir()
			added := damaged.Add(t, path, fsverity.SHA256, repomaker.Options{}, "hello", uncompressed)
			image, err := open(t, path).ImageByDigest(t.Context(), added.Manifest.Digest)
			require.NoError(t, err)
			var m imgspecv1.Manifest
			require.NoError(t, json.Unmarshal(image.Manifest, &m))
			m.Layers[0].Size += test.more
			raw, err := json.Marshal(m)
			require.NoError(t, err)
			repo, err := repomaker.Open(path, fsverity.SHA256, repomaker.Options{})
			require.NoError(t, err)
			changed, err := repo.AddDocuments("", raw, image.Config, added.Layers)
			require.NoError(t, err)
			_, err = open(t, path).ImageByDigest(t.Context(), changed.Manifest.Digest)
			if test.good {
				assert.NoError(t, err)
			} else {
				assert.ErrorIs(t, err, composefsrepo.ErrInvalidImage)
			}
		})
	}
}
