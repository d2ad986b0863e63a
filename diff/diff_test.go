package diff_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/containers/storage/pkg/reexec"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/diff"
	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
	"github.com/skopeo-cfs/skopeo-cfs/internal/repomaker"
	"github.com/skopeo-cfs/skopeo-cfs/tree"
)

func TestMain(m *testing.M) {
	if reexec.Init() {
		return
	}
	os.Exit(m.Run())
}

// repository is one that images are added to.
type repository struct {
	*repomaker.Repo
	t testing.TB
}

func newRepository(t testing.TB, algorithm fsverity.Algorithm) repository {
	t.Helper()
	made, err := repomaker.Create(t.TempDir(), algorithm, repomaker.Options{})
	require.NoError(t, err)
	return repository{made, t}
}

// add adds an image of layers' tars and opens it.
func (r repository) add(config imgspecv1.ImageConfig, tars ...[]byte) *composefsrepo.Image {
	r.t.Helper()
	image := repomaker.Image{Listing: repomaker.Uncompressed, Config: imgspecv1.Image{Config: config}}
	for _, content := range tars {
		image.Layers = append(image.Layers, repomaker.Layer{Tar: bytes.NewReader(content)})
	}
	added, err := r.AddImage("", image)
	require.NoError(r.t, err)
	repo, err := composefsrepo.Open(context.Background(), r.Path(), nil)
	require.NoError(r.t, err)
	r.t.Cleanup(func() { assert.NoError(r.t, repo.Close()) })
	opened, err := repo.ImageByDigest(context.Background(), added.Manifest.Digest)
	require.NoError(r.t, err)
	return opened
}

// entry is an entry of a tar, and its content.
type entry struct {
	tar.Header
	content string
}

// makeTar makes a tar with a root directory and entries.
func makeTar(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range append([]entry{{Header: tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755}}}, entries...) {
		e.Size = int64(len(e.content))
		e.Format = tar.FormatPAX
		if e.ModTime.IsZero() {
			e.ModTime = time.Unix(1700000000, 0)
		}
		require.NoError(t, w.WriteHeader(&e.Header))
		_, err := w.Write([]byte(e.content))
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return b.Bytes()
}

func file(name, content string) entry {
	return entry{tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644}, content}
}

func dir(name string) entry {
	return entry{Header: tar.Header{Name: name + "/", Typeflag: tar.TypeDir, Mode: 0o755}}
}

// with changes an entry.
func (e entry) with(change func(*tar.Header)) entry {
	e.PAXRecords = map[string]string{}
	change(&e.Header)
	return e
}

// images compares two images.
func images(t testing.TB, old, new *composefsrepo.Image, sections diff.Sections) *diff.Result {
	t.Helper()
	result, err := diff.Images(t.Context(), old, new, sections)
	require.NoError(t, err)
	return result
}

var filesOnly = diff.Sections{Files: true}

// compareTars compares the files of images of one layer.
func compareTars(t testing.TB, old, new []byte) *diff.Files {
	t.Helper()
	r := newRepository(t, fsverity.SHA256)
	result := images(t, r.add(imgspecv1.ImageConfig{}, old), r.add(imgspecv1.ImageConfig{}, new), filesOnly)
	assert.Nil(t, result.Packages)
	assert.Nil(t, result.Config)
	return result.Files
}

const large = "a content that is longer than what importers keep in the stream of a layer itself"

// kinds are two contents of a tar and what differs between them.
var kinds = map[string]struct {
	old, new []entry
	path     string
	what     []string
}{
	"content":             {[]entry{file("f", large)}, []entry{file("f", large+"!")}, "/f", []string{"content"}},
	"content of the size": {[]entry{file("f", large+"?")}, []entry{file("f", large+"!")}, "/f", []string{"content"}},
	"short content":       {[]entry{file("f", "a")}, []entry{file("f", "b")}, "/f", []string{"content"}},
	"emptied":             {[]entry{file("f", "a")}, []entry{file("f", "")}, "/f", []string{"content"}},
	"mode": {[]entry{file("f", "a")}, []entry{file("f", "a").with(func(h *tar.Header) { h.Mode = 0o4755 })},
		"/f", []string{"mode"}},
	"owner": {[]entry{file("f", "a")}, []entry{file("f", "a").with(func(h *tar.Header) { h.Uid = 7 })}, "/f", []string{"owner"}},
	"group": {[]entry{dir("d")}, []entry{dir("d").with(func(h *tar.Header) { h.Gid = 7 })}, "/d", []string{"owner"}},
	"xattr": {[]entry{file("f", "a").with(func(h *tar.Header) { h.PAXRecords["SCHILY.xattr.user.x"] = "1" })},
		[]entry{file("f", "a").with(func(h *tar.Header) { h.PAXRecords["SCHILY.xattr.user.x"] = "2" })}, "/f", []string{"xattrs"}},
	"xattr gone": {[]entry{file("f", "a").with(func(h *tar.Header) { h.PAXRecords["SCHILY.xattr.user.x"] = "1" })},
		[]entry{file("f", "a")}, "/f", []string{"xattrs"}},
	"target": {[]entry{{Header: tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "a"}}},
		[]entry{{Header: tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "b"}}}, "/l", []string{"target"}},
	"device": {[]entry{{Header: tar.Header{Name: "n", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}}},
		[]entry{{Header: tar.Header{Name: "n", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 5}}}, "/n", []string{"device"}},
	"type": {[]entry{file("f", "a")}, []entry{{Header: tar.Header{Name: "f", Typeflag: tar.TypeFifo, Mode: 0o644}}}, "/f", []string{"type"}},
	"links": {[]entry{file("a", large), file("b", large)},
		[]entry{file("a", large), {Header: tar.Header{Name: "b", Typeflag: tar.TypeLink, Linkname: "a", Mode: 0o644}}}, "/a", []string{"links"}},
	"all at once": {[]entry{file("f", "a")},
		[]entry{file("f", "b").with(func(h *tar.Header) {
			h.Mode, h.Uid, h.PAXRecords["SCHILY.xattr.user.x"] = 0o600, 1, "1"
		}), {Header: tar.Header{Name: "g", Typeflag: tar.TypeLink, Linkname: "f", Mode: 0o600, Uid: 1}}}, "/f", []string{"content", "mode", "owner", "xattrs", "links"}},
	"root": {nil, []entry{{Header: tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o700}}}, "/", []string{"mode"}},
}

func TestEveryKindOfChange(t *testing.T) {
	for name, test := range kinds {
		t.Run(name, func(t *testing.T) {
			old, new := makeTar(t, test.old...), makeTar(t, test.new...)
			files := compareTars(t, old, new)
			at := slices.IndexFunc(files.Changes, func(c diff.FileChange) bool { return c.Path == test.path })
			require.GreaterOrEqual(t, at, 0)
			change := files.Changes[at]
			assert.Equal(t, diff.Changed, change.Kind)
			assert.Equal(t, test.what, change.What)
			require.NotNil(t, change.Old)
			require.NotNil(t, change.New)
			back := compareTars(t, new, old)
			at = slices.IndexFunc(back.Changes, func(c diff.FileChange) bool { return c.Path == test.path })
			require.GreaterOrEqual(t, at, 0)
			assert.Equal(t, test.what, back.Changes[at].What)
			assert.Equal(t, change.Old, back.Changes[at].New)
			assert.True(t, compareTars(t, new, new).Equal())
		})
	}
}

func TestTimesAreNoChange(t *testing.T) {
	touched := file("f", "a").with(func(h *tar.Header) { h.ModTime = time.Unix(1, 0) })
	assert.Empty(t, compareTars(t, makeTar(t, file("f", "a")), makeTar(t, touched)).Changes)
}

func TestAddedAndRemoved(t *testing.T) {
	old := makeTar(t, dir("d"), file("d/a", large), file("d.e", "x"), file("same", large+"same"))
	new := makeTar(t, file("d", large), file("new", large+"same"), file("newer", large+"newer"), file("newest", large+"newer"), file("same", large+"same"))
	files := compareTars(t, old, new)
	var got []string
	for _, c := range files.Changes {
		got = append(got, string(c.Kind)+" "+c.Path)
		assert.Equal(t, c.Kind == diff.Added, c.Old == nil)
		assert.Equal(t, c.Kind == diff.Removed, c.New == nil)
	}
	assert.Equal(t, []string{"changed /d", "removed /d/a", "removed /d.e", "added /new", "added /newer", "added /newest"}, got)
	assert.Equal(t, []int{3, 2, 1}, []int{files.Added, files.Removed, files.Changed})
	length := int64(len(large))
	assert.Equal(t, 3*length+14, files.AddedBytes)
	assert.Equal(t, length+1, files.RemovedBytes)
	assert.Equal(t, length+5, files.NewBytes, "what the old image has elsewhere is not new")
}

func TestNamesThatAreNoUTF8(t *testing.T) {
	files := compareTars(t, makeTar(t), makeTar(t, entry{tar.Header{Name: "a\xffb", Typeflag: tar.TypeReg, Mode: 0o644}, "x"}))
	require.Len(t, files.Changes, 1)
	assert.Equal(t, []byte("/a\xffb"), files.Changes[0].RawPath)
}

// Images of repositories with different algorithms have nothing in common but their
// files.
func TestOtherAlgorithm(t *testing.T) {
	entries := []entry{dir("d"), file("d/a", large), file("b", "inline"), file("c", large+"1"), file("same size", large+"3"), file("gone", large+"long"), file("moved", large+"moved")}
	others := slices.Clone(entries)
	others[4], others[5], others[6] = file("same size", large+"4"), file("come", large+"longer"), file("moved to", large+"moved")
	for _, algorithms := range [][2]fsverity.Algorithm{{fsverity.SHA256, fsverity.SHA512}, {fsverity.SHA512, fsverity.SHA256}} {
		one, another := newRepository(t, algorithms[0]), newRepository(t, algorithms[1])
		old := one.add(imgspecv1.ImageConfig{}, makeTar(t, entries...))
		same := images(t, old, another.add(imgspecv1.ImageConfig{}, makeTar(t, entries...)), filesOnly)
		assert.Empty(t, same.Files.Changes)
		result := images(t, old, another.add(imgspecv1.ImageConfig{}, makeTar(t, others...)), filesOnly)
		var got []string
		for _, c := range result.Files.Changes {
			got = append(got, string(c.Kind)+" "+c.Path)
		}
		assert.Equal(t, []string{"added /come", "removed /gone", "removed /moved", "added /moved to", "changed /same size"}, got)
		assert.Equal(t, int64(2*len(large)+6+1), result.Files.NewBytes)
	}
}

// The same images in repositories that different importers have written do not differ.
func TestFixtures(t *testing.T) {
	repos := map[string]*composefsrepo.Repo{}
	for _, name := range fixtures.Repositories {
		repo, err := composefsrepo.Open(t.Context(), fixtures.Unpack(t, name), nil)
		require.NoError(t, err)
		defer func() { assert.NoError(t, repo.Close()) }()
		repos[name] = repo
	}
	first := fixtures.Repositories[0]
	known := fixtures.Layouts(t, first)
	for _, name := range fixtures.Repositories[1:] {
		for layout, other := range fixtures.Layouts(t, name) {
			if _, inBoth := known[layout]; !inBoth {
				continue
			}
			t.Run(name+"/"+layout, func(t *testing.T) {
				old, err := repos[first].ImageByDigest(t.Context(), known[layout].Manifest)
				require.NoError(t, err)
				new, err := repos[name].ImageByDigest(t.Context(), other.Manifest)
				require.NoError(t, err)
				result, err := diff.Images(t.Context(), old, new, diff.Sections{Packages: true, Files: true})
				if layout == "sbom" {
					assert.ErrorIs(t, err, tree.ErrNotTar)
					return
				}
				require.NoError(t, err)
				assert.True(t, result.Equal(), result)
			})
		}
	}
}

func TestConfigs(t *testing.T) {
	r := newRepository(t, fsverity.SHA512)
	layer := makeTar(t)
	old := r.add(imgspecv1.ImageConfig{
		Labels: map[string]string{"a": "1", "b": "1", "same": "x"}, Env: []string{"PATH=/bin", "GONE"},
		Entrypoint: []string{"/bin/sh", "-c"}, ExposedPorts: map[string]struct{}{"80/tcp": {}}, User: "root", StopSignal: "SIGTERM",
	}, layer)
	new := r.add(imgspecv1.ImageConfig{
		Labels: map[string]string{"a": "2", "c": "1", "same": "x"}, Env: []string{"PATH=/bin:/usr/bin", "NEW=<1>"},
		Cmd: []string{"<x>"}, Volumes: map[string]struct{}{"/data": {}}, User: "root", WorkingDir: "/x",
	}, layer)
	result := images(t, old, new, diff.All)
	assert.Equal(t, []diff.ConfigChange{
		{Field: "label", Key: "a", Old: "1", New: "2", Kind: diff.Changed},
		{Field: "label", Key: "b", Old: "1", Kind: diff.Removed},
		{Field: "label", Key: "c", New: "1", Kind: diff.Added},
		{Field: "env", Key: "GONE", Kind: diff.Removed},
		{Field: "env", Key: "NEW", New: "<1>", Kind: diff.Added},
		{Field: "env", Key: "PATH", Old: "/bin", New: "/bin:/usr/bin", Kind: diff.Changed},
		{Field: "entrypoint", Old: `["/bin/sh","-c"]`, Kind: diff.Removed},
		{Field: "cmd", New: `["<x>"]`, Kind: diff.Added},
		{Field: "workdir", New: "/x", Kind: diff.Added},
		{Field: "port", Key: "80/tcp", Kind: diff.Removed},
		{Field: "volume", Key: "/data", Kind: diff.Added},
		{Field: "stopsignal", Old: "SIGTERM", Kind: diff.Removed},
	}, result.Config)
	assert.False(t, result.Equal())
	assert.True(t, images(t, old, old, diff.All).Equal())
	var decoded diff.Result
	encoded, err := json.Marshal(result)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(encoded, &decoded))
	assert.Equal(t, result, &decoded)
}

func TestCancelled(t *testing.T) {
	r := newRepository(t, fsverity.SHA512)
	old, new := r.add(imgspecv1.ImageConfig{}, makeTar(t, file("a", "1"))), r.add(imgspecv1.ImageConfig{}, makeTar(t, file("b", "1")))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := diff.Images(ctx, old, new, diff.All)
	assert.ErrorIs(t, err, context.Canceled)
}

// Of a package database that can't be read, the rest is still to be had.
func TestUnreadablePackages(t *testing.T) {
	r := newRepository(t, fsverity.SHA512)
	entries := []entry{dir("var"), dir("var/lib"), dir("var/lib/dpkg")}
	old := r.add(imgspecv1.ImageConfig{}, makeTar(t, append(entries, file("var/lib/dpkg/status", "nonsense"))...))
	new := r.add(imgspecv1.ImageConfig{}, makeTar(t, entries...))
	result, err := diff.Images(t.Context(), old, new, diff.All)
	require.ErrorContains(t, err, "reading the packages of the old image: dpkg database /var/lib/dpkg/status: ")
	require.NotNil(t, result)
	assert.Nil(t, result.Packages)
	assert.Equal(t, 1, result.Files.Removed)
}
