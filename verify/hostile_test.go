package verify_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/repomaker"
	"github.com/skopeo-cfs/skopeo-cfs/splitstream"
	"github.com/skopeo-cfs/skopeo-cfs/verify"
)

// Of damages without an end, some are listed and all are counted.
func TestManyDamages(t *testing.T) {
	m := newMade(t, fsverity.SHA256, repomaker.Options{})
	const many = 3000
	for i := range many {
		write(t, filepath.Join(m.Path(), fmt.Sprintf("objects/00junk %d", i)), nil)
		require.NoError(t, os.Symlink("nothing", filepath.Join(m.Path(), fmt.Sprintf("streams/junk %d", i))))
	}
	write(t, m.objectOf(t, fsverity.SHA256, data), []byte("altered"))
	report := check(t, m.Path(), nil)
	assert.Len(t, report.Damages, 2*1000+1)
	assert.Equal(t, 2*(many-1000), report.Omitted)
	assert.Equal(t, verify.ObjectTruncated, report.Damages[0].Kind)
	assert.True(t, isDamaged(report, appTag))
	assert.False(t, isDamaged(report, otherTag))
}

// An image is damaged also where the damage is one too many to be listed.
func TestDamagesThatAreNotListed(t *testing.T) {
	repo, err := repomaker.Create(filepath.Join(t.TempDir(), "repository"), fsverity.SHA256, repomaker.Options{})
	require.NoError(t, err)
	var files []file
	const many = 1100
	for i := range many {
		files = append(files, file{name: fmt.Sprint(i), content: content(i, 70+i)})
	}
	_, err = repo.AddImage("first", repomaker.Image{Layers: []repomaker.Layer{newLayer(t, files[:many/2]...)}})
	require.NoError(t, err)
	_, err = repo.AddImage("second", repomaker.Image{Layers: []repomaker.Layer{newLayer(t, files[many/2:]...)}})
	require.NoError(t, err)
	m := &made{Repo: repo}
	for _, f := range files {
		require.NoError(t, os.Remove(m.objectOf(t, fsverity.SHA256, f.content)))
	}
	report := check(t, repo.Path(), nil)
	assert.Len(t, report.Damages, 1000)
	assert.Equal(t, many-1000, report.Omitted)
	assert.True(t, isDamaged(report, "first"))
	assert.True(t, isDamaged(report, "second"))
}

// A file that is in a layer many times has some of its paths listed.
func TestManyPaths(t *testing.T) {
	repo, err := repomaker.Create(filepath.Join(t.TempDir(), "repository"), fsverity.SHA256, repomaker.Options{})
	require.NoError(t, err)
	var files []file
	for i := range 50 {
		files = append(files, file{name: fmt.Sprintf("dir/%02d", i), content: tool})
	}
	_, err = repo.AddImage("many", repomaker.Image{Layers: []repomaker.Layer{newLayer(t, files...)}})
	require.NoError(t, err)
	m := &made{Repo: repo}
	write(t, m.objectOf(t, fsverity.SHA256, tool), nil)
	report := check(t, repo.Path(), nil)
	require.Len(t, report.Damages, 1)
	require.Len(t, report.Damages[0].Places, 1)
	place := report.Damages[0].Places[0]
	assert.Len(t, place.Paths, 20)
	assert.Equal(t, 30, place.More)
	assert.Equal(t, "/dir/00", place.Paths[0])
}

// Names that lead nowhere, or round and round, are found and not followed.
func TestOddNames(t *testing.T) {
	m := newMade(t, fsverity.SHA256, repomaker.Options{})
	deep := filepath.Join(m.Path(), "streams/refs", strings.Repeat("d/", 100))
	require.NoError(t, os.MkdirAll(deep, 0o755))
	m.relink(t, "streams/refs/loop", "loop")
	m.relink(t, "streams/refs/up", "..")
	m.relink(t, "streams/refs/odd \x1b[31m\xff\nname", "../"+filepath.Base(m.stream(splitstream.Manifest, m.app.Manifest.Digest)))
	m.relink(t, "streams/oci-manifest-sha256:short", "nowhere")
	m.relink(t, "streams/"+strings.Repeat("x", 255), strings.Repeat("../", 1000))
	require.NoError(t, os.Remove(filepath.Join(m.Path(), "images")))
	require.NoError(t, os.Symlink("/", filepath.Join(m.Path(), "images")))
	report := check(t, m.Path(), nil)
	var paths []string
	for _, d := range report.Damages {
		assert.Equal(t, verify.Link, d.Kind)
		paths = append(paths, d.Path)
	}
	assert.Len(t, paths, 6)
	for _, path := range []string{"streams/refs/loop", "streams/refs/up", "streams/oci-manifest-sha256:short", "streams/" + strings.Repeat("x", 255), "images"} {
		assert.Contains(t, paths, path)
	}
}

// One stream under many digests is hashed once.
func TestManyDigestsOfOneStream(t *testing.T) {
	m := newMade(t, fsverity.SHA256, repomaker.Options{})
	image, err := openRepo(t, m.Path()).ImageByTag(t.Context(), appTag)
	require.NoError(t, err)
	var layers []repomaker.Blob
	var ids []string
	for i := range 200 {
		l := m.app.Layers[0]
		l.Digest = digest.FromString(fmt.Sprint("wrong", i))
		layers = append(layers, l)
		ids = append(ids, `"`+l.Digest.String()+`"`)
	}
	config := `{"rootfs":{"type":"layers","diff_ids":[` + strings.Join(ids, ",") + `]}}`
	var descriptors []string
	for range ids {
		descriptors = append(descriptors, fmt.Sprintf(`{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":%q,"size":1}`, digest.FromString("blob")))
	}
	manifest := fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":%d},"layers":[%s]}`,
		digest.FromString(config), len(config), strings.Join(descriptors, ","))
	_, err = m.AddDocuments("many", []byte(manifest), []byte(config), layers)
	require.NoError(t, err)
	_ = image
	report := check(t, m.Path(), nil)
	assert.Equal(t, 3, report.Layers)
	altered := 0
	for _, d := range report.Damages {
		if d.Kind == verify.LayerAltered {
			altered++
		}
	}
	assert.Equal(t, 200, altered)
}

// What temporary files programs have left behind is counted, and so are objects that
// nothing refers to.
func TestUnreferenced(t *testing.T) {
	m := newMade(t, fsverity.SHA512, repomaker.Options{})
	write(t, filepath.Join(m.Path(), "objects/.tmp-object-1"), []byte("half an object"))
	for i := range 3 {
		_, _, err := m.AddObject(strings.NewReader(fmt.Sprint("of nothing ", i)))
		require.NoError(t, err)
	}
	report := check(t, m.Path(), nil)
	assert.Empty(t, report.Damages)
	assert.Equal(t, &verify.Unreferenced{Objects: 3, Bytes: 36, Temporary: 1, TemporaryBytes: 14}, report.Unreferenced)
}

// A fifo, wherever it is, keeps nobody waiting.
func TestFifosDoNotBlock(t *testing.T) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		m := newMade(t, fsverity.SHA256, repomaker.Options{})
		spoil := damages["object a fifo"]
		want := spoil(t, m, fsverity.SHA256)
		assertFound(t, want, check(t, m.Path(), nil))
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		buffer := make([]byte, 1<<16)
		t.Fatalf("it hangs: %s", buffer[:runtime.Stack(buffer, true)])
	}
}
