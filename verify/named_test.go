package verify_test

import (
	"context"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/bootc"
	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/bootchost"
	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
	"github.com/skopeo-cfs/skopeo-cfs/internal/repomaker"
	"github.com/skopeo-cfs/skopeo-cfs/splitstream"
	"github.com/skopeo-cfs/skopeo-cfs/verify"
)

// Of images that are named, only what they are made of is checked.
func TestNamedImages(t *testing.T) {
	a := fsverity.SHA512
	m := newMade(t, a, repomaker.Options{})
	write(t, m.objectOf(t, a, data), []byte("altered"))           // the app's
	write(t, filepath.Join(m.Path(), "objects/junk"), []byte("")) // nobody's
	m.relink(t, "streams/refs/oci/dangling", "../../nothing")

	app := verify.Wanted{Name: appTag, Digest: m.app.Manifest.Digest}
	for name, wanted := range map[string]verify.Wanted{
		"manifest": app,
		"config":   {Name: "by config", Digest: m.app.Config.Digest},
	} {
		report := check(t, m.Path(), &verify.Options{Images: []verify.Wanted{wanted}})
		assert.Nil(t, report.Unreferenced)
		require.Len(t, report.Damages, 1, name)
		assert.Equal(t, []verify.Place{{Part: "layer", Name: m.app.Layers[1].Digest.String(), Images: []string{wanted.Name}, Paths: []string{"/opt/data"}}}, report.Damages[0].Places)
		assert.Equal(t, []verify.Image{{Names: []string{wanted.Name}, Manifest: m.app.Manifest.Digest, Config: m.app.Config.Digest, Damaged: true}}, report.Images)
	}
	other := verify.Wanted{Name: "other", Digest: m.other.Manifest.Digest}
	report := check(t, m.Path(), &verify.Options{Images: []verify.Wanted{other}})
	assert.Empty(t, report.Damages)
	assert.EqualValues(t, 8, report.Objects) // four streams, the manifest, the config, two files
	report = check(t, m.Path(), &verify.Options{Images: []verify.Wanted{other, app, {Name: "again", Digest: other.Digest}}})
	assert.Len(t, report.Damages, 1)
	assert.Len(t, report.Images, 2)
}

func TestNamedImagesThatAreNotThere(t *testing.T) {
	m := newMade(t, fsverity.SHA256, repomaker.Options{})
	nothing := digest.FromString("nothing")
	_, err := verify.Repository(t.Context(), openRepo(t, m.Path()), &verify.Options{Images: []verify.Wanted{{Name: "nothing", Digest: nothing}}})
	assert.ErrorIs(t, err, composefsrepo.ErrNotFound)
	_, err = verify.Repository(t.Context(), openRepo(t, m.Path()), &verify.Options{Images: []verify.Wanted{{Name: "nothing", Digest: "no digest"}}})
	assert.Error(t, err)

	require.NoError(t, m.Tag("dangling", nothing))
	report := check(t, m.Path(), &verify.Options{Images: []verify.Wanted{{Name: "dangling", Digest: nothing}}})
	require.Len(t, report.Damages, 1)
	assert.Equal(t, verify.Tag, report.Damages[0].Kind)
}

// An image without a manifest, as older importers stored them.
func TestImagesWithoutManifests(t *testing.T) {
	a := fsverity.SHA512
	m := newMade(t, a, repomaker.Options{})
	require.NoError(t, os.Remove(filepath.Join(m.Path(), m.stream(splitstream.Manifest, m.app.Manifest.Digest))))
	require.NoError(t, os.Remove(filepath.Join(m.Path(), "streams/refs/oci/localhost%2Fapp:latest")))
	name := "@" + m.app.Config.Digest.String()
	for _, options := range []*verify.Options{nil, {Images: []verify.Wanted{{Name: name, Digest: m.app.Config.Digest}}}} {
		report := check(t, m.Path(), options)
		assert.Empty(t, report.Damages)
		found := false
		for _, im := range report.Images {
			found = found || im.Names[0] == name && im.Manifest == "" && im.Config == m.app.Config.Digest
		}
		assert.True(t, found)
		if options == nil {
			assert.EqualValues(t, 2, report.Unreferenced.Objects) // the manifest and its stream
		}
	}
	write(t, m.objectOf(t, a, data), []byte("altered"))
	report := check(t, m.Path(), nil)
	require.Len(t, report.Damages, 1)
	assert.Equal(t, []string{name}, report.Damages[0].Places[0].Images)
}

func TestDeployments(t *testing.T) {
	h := bootchost.New(t, "sha512",
		bootchost.Deployment{Layout: "hello"}, bootchost.Deployment{Layout: "kinds"},
		bootchost.Deployment{Layout: "sizes", Record: bootchost.Nothing}, bootchost.Deployment{Layout: "many"})
	h.Boot(t, 0)
	h.Collect(t, 3)
	host, err := bootc.Open(h.Sysroot, &bootc.Options{Root: h.Root})
	require.NoError(t, err)
	booted := "@" + h.IDs[0][:12] + " (booted)"

	report := check(t, h.Repository, &verify.Options{Host: host})
	assert.Len(t, report.Notes, 1)
	assert.Contains(t, report.Notes[0], h.IDs[3][:12])
	for i, want := range h.Images[:3] {
		found := false
		for _, im := range report.Images {
			for _, name := range im.Names {
				found = found || name[0] == '@' && name[1:13] == h.IDs[i][:12] && im.Manifest == want.Manifest
			}
		}
		assert.True(t, found, "deployment %d", i)
	}
	gone := report.Damages // the EROFS image that was collected, without which it can't boot
	for _, d := range gone {
		assert.Equal(t, "images/"+h.IDs[3], d.Path)
	}

	require.NoError(t, os.Remove(filepath.Join(h.Repository, "images", h.IDs[0])))
	report = check(t, h.Repository, &verify.Options{Host: host})
	require.Len(t, report.Damages, len(gone)+1)
	assert.True(t, isDamaged(report, booted))
	assert.True(t, isDamaged(report, "localhost/hello:latest"))
}

// EROFS images of importers: their objects, and links to them.
func TestEROFSImages(t *testing.T) {
	path := fixtures.Unpack(t, "sha256")
	links, err := filepath.Glob(filepath.Join(path, "images/*"))
	require.NoError(t, err)
	first, second := links[0], links[1]

	target, err := os.Readlink(second)
	require.NoError(t, err)
	before, err := os.Readlink(first)
	require.NoError(t, err)
	require.NoError(t, os.Remove(first))
	require.NoError(t, os.Symlink(target, first))
	report := check(t, path, nil)
	require.Len(t, report.Damages, 1)
	assert.Equal(t, verify.Link, report.Damages[0].Kind)
	assert.Equal(t, "images/"+filepath.Base(first), report.Damages[0].Path)
	require.NoError(t, os.Remove(first))
	require.NoError(t, os.Symlink(before, first))

	object, err := filepath.EvalSymlinks(second)
	require.NoError(t, err)
	image := read(t, object)
	image[len(image)-1] ^= 1
	write(t, object, image)
	report = check(t, path, nil)
	require.Len(t, report.Damages, 1)
	d := report.Damages[0]
	assert.Equal(t, verify.ObjectAltered, d.Kind)
	require.Len(t, d.Places, 1)
	assert.Equal(t, "EROFS image", d.Places[0].Part)
	assert.Equal(t, filepath.Base(second), d.Places[0].Name)
	assert.NotEmpty(t, d.Places[0].Images)
	assert.Contains(t, d.Remove, "images/"+filepath.Base(second))
}

// An end of the context ends the check, wherever it is.
func TestCancel(t *testing.T) {
	m := newMade(t, fsverity.SHA256, repomaker.Options{})
	repo := openRepo(t, m.Path())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := verify.Repository(ctx, repo, nil)
	assert.ErrorIs(t, err, context.Canceled)
	for after := range 40 {
		ctx, cancel := context.WithCancel(t.Context())
		var calls atomic.Int64
		_, err := verify.Repository(ctx, repo, &verify.Options{Progress: func(int64, int64) {
			if calls.Add(1) > int64(after) {
				cancel()
			}
		}})
		if err != nil {
			assert.ErrorIs(t, err, context.Canceled)
		}
		cancel()
	}
}
