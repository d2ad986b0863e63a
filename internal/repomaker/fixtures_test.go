package repomaker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containers/image/v5/copy"
	"github.com/containers/image/v5/oci/layout"
	"github.com/containers/image/v5/pkg/compression"
	"github.com/containers/image/v5/signature"
	"github.com/containers/image/v5/types"
	"github.com/opencontainers/go-digest"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
	"github.com/skopeo-cfs/skopeo-cfs/internal/repomaker"
	"github.com/skopeo-cfs/skopeo-cfs/splitstream"
	"github.com/skopeo-cfs/skopeo-cfs/transport"
)

// likeFixture creates a repository with the algorithm and the age of a fixture.
func likeFixture(t testing.TB, name string) *repomaker.Repo {
	t.Helper()
	algorithm := fsverity.SHA512
	if strings.HasSuffix(name, "sha256") {
		algorithm = fsverity.SHA256
	}
	old := strings.HasPrefix(name, "old-")
	return create(t, algorithm, repomaker.Options{OldHeader: old, NoMeta: old})
}

// form is what a splitstream looks like but for what may differ between
// writers: compression, the order of references and, following from those, the
// verity of other streams.
type form struct {
	oldHeader   bool
	contentType splitstream.Type
	size        int64
	refs        []string
	chunks      []chunk
}

// chunk is an object, or all inline bytes up to the next.
type chunk struct {
	inline string
	object fsverity.Digest
}

func readForm(t *testing.T, repo, stream string) form {
	t.Helper()
	file, err := os.ReadFile(filepath.Join(repo, "streams", stream))
	require.NoError(t, err)
	r, err := splitstream.NewReader(bytes.NewReader(file), int64(len(file)), fsverity.Algorithm{})
	require.NoError(t, err)
	f := form{oldHeader: !bytes.HasPrefix(file, []byte("SplitStream")), contentType: r.ContentType(), size: r.Size()}

	refs, err := r.NamedRefs()
	require.NoError(t, err)
	for name := range refs {
		if !strings.HasPrefix(name, "composefs.image") {
			f.refs = append(f.refs, name)
		}
	}
	slices.Sort(f.refs)

	for chunks := r.Chunks(); ; {
		c, err := chunks.Next()
		if errors.Is(err, io.EOF) {
			return f
		}
		require.NoError(t, err)
		if n := len(f.chunks); c.Inline != nil && n > 0 && f.chunks[n-1].object.IsZero() {
			f.chunks[n-1].inline += string(c.Inline)
			continue
		}
		f.chunks = append(f.chunks, chunk{string(c.Inline), c.Object})
	}
}

// What the maker makes of the images of the fixtures has the form of what
// importers made of them.
func TestStreamsHaveTheFormOfImporters(t *testing.T) {
	for _, name := range fixtures.Repositories {
		path := fixtures.Unpack(t, name)
		repo := open(t, path)
		for layout, want := range fixtures.Layouts(t, name) {
			t.Run(name+"/"+layout, func(t *testing.T) {
				image, err := repo.ImageByDigest(t.Context(), want.Manifest)
				require.NoError(t, err)
				made := likeFixture(t, name)
				added := remake(t, made, image)
				assert.Equal(t, want.Manifest, added.Manifest.Digest)
				assert.Equal(t, want.Config, added.Config.Digest)

				streams, err := filepath.Glob(filepath.Join(made.Path(), "streams/oci-*"))
				require.NoError(t, err)
				assert.GreaterOrEqual(t, len(streams), 3)
				for _, stream := range streams {
					stream = filepath.Base(stream)
					assert.Equal(t, readForm(t, path, stream), readForm(t, made.Path(), stream), stream)
				}
			})
		}
	}
}

// remake adds an image of one repository to another.
func remake(t *testing.T, to *repomaker.Repo, image *composefsrepo.Image) repomaker.Added {
	t.Helper()
	var layers []repomaker.Blob
	for i, l := range image.Layers {
		content, err := image.OpenLayer(t.Context(), i)
		require.NoError(t, err)
		var blob repomaker.Blob
		if l.DiffID == "" {
			blob, err = to.AddBlob(splitstream.Blob, content, nil)
		} else {
			blob, err = to.AddLayer(content, nil)
		}
		require.NoError(t, err)
		require.NoError(t, content.Close())
		assert.Equal(t, l.Digest(), blob.Digest)
		assert.Equal(t, l.Size, blob.Size)
		layers = append(layers, blob)
	}
	added, err := to.AddDocuments("remade", image.Manifest, image.Config, layers)
	require.NoError(t, err)
	return added
}

// metaOf returns a repository's meta.json, "" where it has none.
func metaOf(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(path, "meta.json"))
	if !errors.Is(err, os.ErrNotExist) {
		require.NoError(t, err)
	}
	return string(data)
}

func TestRepositoryIsLaidOutAsImportersDo(t *testing.T) {
	for _, name := range fixtures.Repositories {
		path, made := fixtures.Unpack(t, name), likeFixture(t, name)
		if want := metaOf(t, path); want != "" {
			assert.JSONEq(t, want, metaOf(t, made.Path()))
		} else {
			assert.Empty(t, metaOf(t, made.Path()))
		}
		hello := fixtures.Expected(t)["hello"]
		image, err := open(t, path).ImageByDigest(t.Context(), hello.Manifest)
		require.NoError(t, err)
		remake(t, made, image)
		for _, tag := range []string{"localhost/hello:latest", "localhost:5000/a/b/c:latest", "plain", "100%/odd name"} {
			require.NoError(t, made.Tag(tag, hello.Manifest))
		}
		links, err := filepath.Glob(filepath.Join(made.Path(), "streams/refs/oci/*"))
		require.NoError(t, err)
		assert.Len(t, links, 5)
		for _, link := range links {
			if filepath.Base(link) == "remade" {
				continue
			}
			want, err := os.Readlink(filepath.Join(path, "streams/refs/oci", filepath.Base(link)))
			require.NoError(t, err)
			got, err := os.Readlink(link)
			require.NoError(t, err)
			assert.Equal(t, want, got)
		}
	}
}

// export copies an image of a fixture to an OCI layout.
func export(t *testing.T, source string, options copy.Options) (dir string, m imgspecv1.Manifest) {
	t.Helper()
	policy, err := signature.NewPolicyContext(&signature.Policy{Default: signature.PolicyRequirements{signature.NewPRInsecureAcceptAnything()}})
	require.NoError(t, err)
	defer policy.Destroy()
	src, err := transport.Transport.ParseReference(source)
	require.NoError(t, err)
	dir = filepath.Join(t.TempDir(), "layout")
	dest, err := layout.NewReference(dir, "exported")
	require.NoError(t, err)
	raw, err := copy.Image(context.Background(), policy, dest, src, &options)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(raw, &m))
	return dir, m
}

// compressions are the ways of compressing an exported image's layers.
var compressions = map[string]copy.Options{
	"gzip": {},
	"zstd": {DestinationCtx: &types.SystemContext{CompressionFormat: &compression.Zstd}},
	"none": {DestinationCtx: &types.SystemContext{OCIAcceptUncompressedLayers: true}},
}

func TestLayoutsAreImported(t *testing.T) {
	path := fixtures.Unpack(t, "sha256")
	for layoutName, want := range fixtures.Layouts(t, "sha256") {
		compressionNames := []string{"gzip"}
		if slices.Contains([]string{"hello", "raw", "repeated", "sbom"}, layoutName) {
			compressionNames = append(compressionNames, "zstd", "none")
		}
		for _, compressionName := range compressionNames {
			t.Run(layoutName+"/"+compressionName, func(t *testing.T) {
				dir, manifest := export(t, "["+path+"]@"+want.Manifest.String(), compressions[compressionName])
				made := create(t, fsverity.SHA512, repomaker.Options{})
				added, err := made.AddLayout(dir, "exported", "localhost/imported:latest")
				require.NoError(t, err)
				assert.Equal(t, want.Config, added.Config.Digest)

				image, err := open(t, made.Path()).ImageByTag(t.Context(), "localhost/imported:latest")
				require.NoError(t, err)
				assert.Equal(t, manifest.Layers, descriptors(image))
				if layoutName == "raw" && compressionName == "none" || layoutName == "sbom" {
					assert.Equal(t, want.Manifest, added.Manifest.Digest)
				}
				wanted := append(want.Layers, want.Blobs...)
				require.Len(t, image.Layers, len(wanted))
				for i, l := range wanted {
					assert.Equal(t, l.DiffID, image.Layers[i].DiffID)
					d := l.DiffID
					if d == "" {
						d = l.Digest
					}
					content, err := readLayer(t, image, i)
					require.NoError(t, err)
					assert.Equal(t, d, digest.FromBytes(content))
				}
			})
		}
	}
}

func descriptors(image *composefsrepo.Image) []imgspecv1.Descriptor {
	var all []imgspecv1.Descriptor
	for _, l := range image.Layers {
		all = append(all, l.Descriptor)
	}
	return all
}

func TestLayoutsThatAreWrongAreRefused(t *testing.T) {
	path := fixtures.Unpack(t, "sha256")
	dir, manifest := export(t, "["+path+"]hello", copy.Options{})
	made := create(t, fsverity.SHA256, repomaker.Options{})
	_, err := made.AddLayout(dir, "another", "x")
	assert.ErrorContains(t, err, "0 manifests")
	_, err = made.AddLayout(t.TempDir(), "", "x")
	assert.ErrorIs(t, err, os.ErrNotExist)

	for name, d := range map[string]imgspecv1.Descriptor{"config": manifest.Config, "layer": manifest.Layers[0]} {
		blob := filepath.Join(dir, "blobs/sha256", d.Digest.Encoded())
		good, err := os.ReadFile(blob)
		require.NoError(t, err)
		altered := append(bytes.Clone(good), 0)
		require.NoError(t, os.WriteFile(blob, altered, 0o644))
		_, err = made.AddLayout(dir, "", "x")
		assert.ErrorContains(t, err, d.Digest.String(), name)
		require.NoError(t, os.WriteFile(blob, good, 0o644))
	}
	_, err = made.AddLayout(dir, "", "x")
	assert.NoError(t, err)
}

// An artifact's layer that is a tar by its media type is unpacked by importers,
// under the digest of the compressed blob.
func TestTarsOfArtifactsAreUnpacked(t *testing.T) {
	path := fixtures.Unpack(t, "sha256")
	dir, manifest := export(t, "["+path+"]hello", copy.Options{})
	manifest.Config.MediaType = "application/vnd.example.config"
	raw, err := json.Marshal(manifest)
	require.NoError(t, err)
	d := imgspecv1.Descriptor{MediaType: imgspecv1.MediaTypeImageManifest, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "blobs/sha256", d.Digest.Encoded()), raw, 0o644))
	index, err := json.Marshal(imgspecv1.Index{Manifests: []imgspecv1.Descriptor{d}})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "index.json"), index, 0o644))

	made := create(t, fsverity.SHA256, repomaker.Options{})
	added, err := made.AddLayout(dir, "", "")
	require.NoError(t, err)
	require.Len(t, added.Layers, len(manifest.Layers))
	for i, l := range fixtures.Expected(t)["hello"].Layers {
		assert.Equal(t, manifest.Layers[i].Digest, added.Layers[i].Digest)
		f := readForm(t, made.Path(), "oci-layer-"+manifest.Layers[i].Digest.String())
		assert.Equal(t, splitstream.Layer, f.contentType)
		assert.Equal(t, l.DiffSize, f.size)
	}
}
