package verify_test

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/repomaker"
	"github.com/skopeo-cfs/skopeo-cfs/splitstream"
	"github.com/skopeo-cfs/skopeo-cfs/verify"
)

// made is a repository with two images that have a layer in common.
type made struct {
	*repomaker.Repo
	app, other repomaker.Added
}

// The names of the images.
const (
	appTag   = "localhost/app:latest"
	otherTag = "quay.io/org/other:1"
)

var both = []string{appTag, otherTag}

// content returns so many bytes that depend on a seed.
func content(seed, size int) []byte {
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(i*7 + i/256 + seed)
	}
	return data
}

var (
	tool    = content(1, 3000)   // in two layers, and linked in one
	library = content(2, 100000) // in the common layer
	data    = content(3, 5000)   // in the app's own
)

// file is an entry of a layer.
type file struct {
	name    string
	content []byte
	link    string // a hard link to
}

func newLayer(t testing.TB, files ...file) repomaker.Layer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	dirs := map[string]bool{}
	for _, f := range files {
		for i, c := range strings.TrimPrefix(f.name, "./") { // cfsctl wants them
			if dir := strings.TrimPrefix(f.name, "./")[:i+1]; c == '/' && !dirs[dir] {
				dirs[dir] = true
				require.NoError(t, w.WriteHeader(&tar.Header{Name: dir, Mode: 0o755, Typeflag: tar.TypeDir}))
			}
		}
		h := &tar.Header{Name: f.name, Mode: 0o644, Size: int64(len(f.content)), Typeflag: tar.TypeReg}
		if f.link != "" {
			h.Typeflag, h.Linkname = tar.TypeLink, f.link
		}
		require.NoError(t, w.WriteHeader(h))
		_, err := w.Write(f.content)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return repomaker.Layer{Tar: &b}
}

func newMade(t testing.TB, a fsverity.Algorithm, options repomaker.Options) *made {
	t.Helper()
	repo, err := repomaker.Create(filepath.Join(t.TempDir(), "repository"), a, options)
	require.NoError(t, err)
	m := &made{Repo: repo}
	common := func() repomaker.Layer {
		return newLayer(t, file{name: "usr/bin/tool", content: tool}, file{name: "usr/bin/alias", link: "usr/bin/tool"},
			file{name: "etc/small", content: []byte("inline")}, file{name: "./usr/lib/" + strings.Repeat("long", 60) + ".so", content: library})
	}
	m.app, err = repo.AddImage(appTag, repomaker.Image{Layers: []repomaker.Layer{common(), newLayer(t, file{name: "opt/data", content: data})}})
	require.NoError(t, err)
	m.other, err = repo.AddImage(otherTag, repomaker.Image{Layers: []repomaker.Layer{common(), newLayer(t, file{name: "opt/copy", content: tool})}})
	require.NoError(t, err)
	return m
}

// objectOf returns the path of the object with a content.
func (m *made) objectOf(t testing.TB, a fsverity.Algorithm, content []byte) string {
	t.Helper()
	d, err := fsverity.Compute(a, bytes.NewReader(content))
	require.NoError(t, err)
	return m.ObjectPath(d)
}

// documentOf returns the path of the object with the content of a manifest or config.
func (m *made) documentOf(t testing.TB, a fsverity.Algorithm, b repomaker.Blob, config bool) string {
	t.Helper()
	repo := openRepo(t, m.Path())
	image, err := repo.ImageByTag(t.Context(), appTag)
	require.NoError(t, err)
	raw := image.Manifest
	if config {
		raw = image.Config
	}
	require.NoError(t, repo.Close())
	return m.objectOf(t, a, raw)
}

func openRepo(t testing.TB, path string) *composefsrepo.Repo {
	t.Helper()
	repo, err := composefsrepo.Open(t.Context(), path, nil)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, repo.Close()) })
	return repo
}

// check checks a repository, and what every report has.
func check(t testing.TB, path string, options *verify.Options) *verify.Report {
	t.Helper()
	repo := openRepo(t, path)
	report, err := verify.Repository(t.Context(), repo, options)
	require.NoError(t, err)
	require.NoError(t, repo.Close())
	for _, d := range report.Damages {
		assert.NotEmpty(t, d.Kind)
		assert.NotEmpty(t, d.Path)
		assert.NotEmpty(t, d.Detail)
		assert.NotEmpty(t, d.Advice)
		for _, path := range d.Remove {
			_, err := os.Lstat(filepath.Join(report.Repository, path))
			assert.NoError(t, err, "to be removed")
		}
		for _, p := range d.Places {
			for _, name := range p.Images {
				assert.True(t, isDamaged(report, name), "%s is touched by %s, and not damaged", name, d.Kind)
			}
		}
	}
	return report
}

// isDamaged tells whether the image of a name is.
func isDamaged(report *verify.Report, name string) bool {
	for _, im := range report.Images {
		for _, n := range im.Names {
			if n == name {
				return im.Damaged
			}
		}
	}
	return false
}

// countFiles counts the files below a directory.
func countFiles(t testing.TB, dir string) (files, bytes int64) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		require.NoError(t, err)
		if d.Type().IsRegular() {
			info, err := d.Info()
			require.NoError(t, err)
			files, bytes = files+1, bytes+info.Size()
		}
		return nil
	}))
	return files, bytes
}

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, data, 0o644))
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	return data
}

// reread finds out what the images are made of.
func (m *made) reread(t testing.TB) {
	t.Helper()
	repo := openRepo(t, m.Path())
	for tag, added := range map[string]*repomaker.Added{appTag: &m.app, otherTag: &m.other} {
		image, err := repo.ImageByTag(t.Context(), tag)
		require.NoError(t, err)
		*added = repomaker.Added{}
		added.Manifest.Digest, added.Config.Digest = image.ManifestDigest, image.ConfigDescriptor.Digest
		added.Manifest.Stream = m.linked(t, m.stream(splitstream.Manifest, added.Manifest.Digest))
		added.Config.Stream = m.linked(t, m.stream(splitstream.Config, added.Config.Digest))
		for _, l := range image.Layers {
			added.Layers = append(added.Layers, repomaker.Blob{Digest: l.DiffID, Size: l.Size, Stream: l.Verity})
		}
	}
	require.NoError(t, repo.Close())
}

// linked returns the object that a link leads to.
func (m *made) linked(t testing.TB, path string) fsverity.Digest {
	t.Helper()
	target, err := os.Readlink(filepath.Join(m.Path(), path))
	require.NoError(t, err)
	d, ok := composefsrepo.ParseObjectPath(strings.TrimPrefix(target, "../"))
	require.True(t, ok)
	return d
}
