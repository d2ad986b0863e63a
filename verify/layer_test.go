package verify_test

import (
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/damaged"
	"github.com/skopeo-cfs/skopeo-cfs/internal/genimage"
	"github.com/skopeo-cfs/skopeo-cfs/internal/repomaker"
	"github.com/skopeo-cfs/skopeo-cfs/splitstream"
	"github.com/skopeo-cfs/skopeo-cfs/verify"
)

// Layers that importers have stored otherwise than they were are found by nothing but
// their diff IDs.
func TestLayersThatAreNotWhatWasPulled(t *testing.T) {
	type test struct {
		options repomaker.Options
		change  func(*repomaker.Image)
		kind    verify.Kind
		layers  []int
		layout  string
		advice  string
	}
	tests := map[string]test{
		"other headers": {change: damaged.AlterHeaders(0, 2), kind: verify.LayerAltered, layers: []int{0, 2}, layout: "hello", advice: "--rearchive"},
		"lost zeros":    {options: repomaker.Options{LoseTrailer: true}, kind: verify.LayerZeros, layers: []int{1, 2, 3}, layout: "trailers", advice: "--repair"},
	}
	for name, where := range damaged.Cuts {
		tests["cut "+name] = test{change: damaged.Cut(t, 0, where), kind: verify.LayerCut, layers: []int{0}, layout: "hello", advice: "pull the image again"}
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "repository")
			added := damaged.Add(t, path, fsverity.SHA512, test.options, test.layout, test.change)
			report := check(t, path, nil)
			byPath := map[string]verify.Damage{}
			for _, d := range report.Damages {
				byPath[d.Path] = d
			}
			for _, i := range test.layers {
				l := added.Layers[i]
				d, ok := byPath["streams/"+repomaker.StreamName(splitstream.Layer, l.Digest)]
				if !assert.True(t, ok, "layer %d is not found: %v", i, report.Damages) {
					continue
				}
				assert.Equal(t, test.kind, d.Kind)
				assert.Equal(t, l.Digest, d.Digest)
				assert.Equal(t, []verify.Place{{Part: "layer", Name: l.Digest.String(), Images: []string{test.layout}}}, d.Places)
				assert.Contains(t, d.Advice, test.advice)
			}
			assert.Len(t, report.Damages, len(test.layers))
		})
	}
}

// A layer of which an object is damaged, too, is no damage of its own.
func TestLayerWithADamagedObject(t *testing.T) {
	path := filepath.Join(t.TempDir(), "repository")
	damaged.Add(t, path, fsverity.SHA256, repomaker.Options{}, "hello", damaged.AlterHeaders(0))
	repo := openRepo(t, path)
	image, err := repo.ImageByTag(t.Context(), "hello")
	require.NoError(t, err)
	damaged.AlterObject(t, path, image, 0)
	report := check(t, path, nil)
	require.Len(t, report.Damages, 1)
	assert.Equal(t, verify.ObjectAltered, report.Damages[0].Kind)
}

// A stream that states another size than it has.
func TestLayerOfAnotherSize(t *testing.T) {
	for name, size := range map[string]int64{"too short": 10, "too long": 1 << 30} {
		t.Run(name, func(t *testing.T) {
			m := newMade(t, fsverity.SHA256, repomaker.Options{})
			d, err := fsverity.Parse(filepath.Base(filepath.Dir(m.objectOf(t, fsverity.SHA256, library))) + filepath.Base(m.objectOf(t, fsverity.SHA256, library)))
			require.NoError(t, err)
			w := splitstream.NewWriter(fsverity.SHA256, splitstream.Layer)
			require.NoError(t, w.Object(d, size))
			image, err := openRepo(t, m.Path()).ImageByTag(t.Context(), appTag)
			require.NoError(t, err)
			layer := m.app.Layers[0]
			layer.Stream, err = m.AddStream(repomaker.StreamName(splitstream.Layer, layer.Digest), w)
			require.NoError(t, err)
			_, err = m.AddDocuments("sized", image.Manifest, image.Config, []repomaker.Blob{layer, m.app.Layers[1]})
			require.NoError(t, err)
			report := check(t, m.Path(), nil)
			require.Len(t, report.Damages, 1)
			assert.Equal(t, verify.Stream, report.Damages[0].Kind)
			assert.Contains(t, report.Damages[0].Detail, splitstream.ErrSize.Error())
			assert.True(t, isDamaged(report, "sized"))
		})
	}
}

// Large layers are read by several at once, and come out right all the same.
func TestLargeLayers(t *testing.T) {
	repo, err := repomaker.Create(filepath.Join(t.TempDir(), "repository"), fsverity.SHA512, repomaker.Options{})
	require.NoError(t, err)
	_, err = repo.AddGenerated("generated", genimage.Spec{Files: 900, Bytes: 60e6, Layers: 3, Seed: 1}, repomaker.Pretended)
	require.NoError(t, err)
	var mutex sync.Mutex
	var done, total int64
	report := check(t, repo.Path(), &verify.Options{Progress: func(d, all int64) {
		mutex.Lock()
		defer mutex.Unlock()
		done, total = max(done, d), all
	}})
	assert.Empty(t, report.Damages)
	assert.Equal(t, 3, report.Layers)
	files, bytes := countFiles(t, filepath.Join(repo.Path(), "objects"))
	assert.Equal(t, files, report.Objects)
	assert.Equal(t, bytes, report.Bytes)
	assert.Greater(t, total, int64(60e6))
	assert.LessOrEqual(t, done, total)
}
