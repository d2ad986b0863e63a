package bootc_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/bootc"
	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/internal/bootchost"
)

func openRepo(t *testing.T, h *bootchost.Host) *composefsrepo.Repo {
	t.Helper()
	repo, err := composefsrepo.Open(t.Context(), h.Repository, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, repo.Close()) })
	return repo
}

// openImage opens the image of the i-th deployment.
func openImage(t *testing.T, h *bootchost.Host, i int) (*composefsrepo.Image, error) {
	t.Helper()
	host := open(t, h)
	d, err := host.Find(h.IDs[i])
	require.NoError(t, err)
	return host.OpenImage(t.Context(), openRepo(t, h), d)
}

// A deployment leads to its image in every way that its age and that of the
// repository leave.
func TestImageOfADeployment(t *testing.T) {
	for name, test := range map[string]struct {
		fixture  string
		record   bootchost.Record
		prepare  func(t *testing.T, h *bootchost.Host)
		manifest bool // is there to be found
	}{
		"by manifest digest":          {"sha512", bootchost.ManifestDigest, nil, true},
		"old, by manifest digest":     {"old-sha512", bootchost.ManifestDigest, nil, true},
		"by EROFS image":              {"sha512", bootchost.Nothing, nil, true},
		"by description":              {"old-sha512", bootchost.ImageInfo, nil, true},
		"by both":                     {"sha512", bootchost.ImageInfo, nil, true},
		"EROFS image and bootc's tag": {"sha512", bootchost.Nothing, tagAll, true},
		"no manifests":                {"sha512", bootchost.ManifestDigest, removeManifests, false},
		"description, no manifests":   {"old-sha512", bootchost.ImageInfo, removeManifests, false},
		"both, no manifests":          {"sha512", bootchost.ImageInfo, removeManifests, false},
		"EROFS image, no manifests":   {"sha512", bootchost.Nothing, removeManifests, false},
	} {
		t.Run(name, func(t *testing.T) {
			h := bootchost.New(t, test.fixture, bootchost.Deployment{Layout: "hello", Record: test.record}, bootchost.Deployment{Layout: "kinds", Record: test.record})
			if test.prepare != nil {
				test.prepare(t, h)
			}
			for i, want := range h.Images {
				image, err := openImage(t, h, i)
				require.NoError(t, err)
				assert.Equal(t, want.Config, image.ConfigDescriptor.Digest)
				assert.Equal(t, !test.manifest, image.Synthesised)
				if test.manifest {
					assert.Equal(t, want.Manifest, image.ManifestDigest)
					assert.Equal(t, want.Manifest, image.Name())
				} else {
					assert.Equal(t, want.Config, image.Name())
				}
				require.Len(t, image.Layers, len(want.Layers))
				for n, l := range image.Layers {
					assert.Equal(t, want.Layers[n].DiffID, l.Digest())
				}
			}
		})
	}
}

func removeManifests(t *testing.T, h *bootchost.Host) { h.RemoveManifests(t) }

func tagAll(t *testing.T, h *bootchost.Host) {
	for i := range h.IDs {
		h.Tag(t, i)
	}
}

// A manifest made of a description has the annotations of the original, as far
// as they are true of the uncompressed layers.
func TestAnnotationsOfADescription(t *testing.T) {
	h := bootchost.New(t, "old-sha512", bootchost.Deployment{Layout: "hello", Record: bootchost.ImageInfo})
	original, err := openRepo(t, h).ImageByDigest(t.Context(), h.Images[0].Manifest)
	require.NoError(t, err)
	var want imgspecv1.Manifest
	require.NoError(t, json.Unmarshal(original.Manifest, &want))
	require.NotEmpty(t, want.Layers[0].Annotations)

	h.RemoveManifests(t)
	h.EditImageInfo(t, 0, func(manifest map[string]any) {
		manifest["annotations"] = map[string]any{"org.example.name": "hello"}
		layer := manifest["layers"].([]any)[0].(map[string]any)["annotations"].(map[string]any)
		layer["io.github.containers.zstd-chunked.manifest-checksum"] = "x"
	})
	image, err := openImage(t, h, 0)
	require.NoError(t, err)
	var got imgspecv1.Manifest
	require.NoError(t, json.Unmarshal(image.Manifest, &got))
	assert.Equal(t, digest.FromBytes(image.Manifest), image.ManifestDigest)
	assert.Equal(t, map[string]string{"org.example.name": "hello"}, got.Annotations)
	for n := range want.Layers {
		assert.Equal(t, want.Layers[n].Annotations, got.Layers[n].Annotations)
		assert.Equal(t, got.Layers[n], image.Layers[n].Descriptor)
		assert.Equal(t, h.Images[0].Layers[n].DiffID, got.Layers[n].Digest)
	}
}

func TestImageThatIsGone(t *testing.T) {
	for name, record := range map[string]bootchost.Record{
		"manifest digest": bootchost.ManifestDigest, "description": bootchost.ImageInfo, "EROFS image": bootchost.Nothing,
	} {
		t.Run(name, func(t *testing.T) {
			h := bootchost.New(t, "sha512", bootchost.Deployment{Layout: "hello", Record: record}, bootchost.Deployment{Layout: "kinds", Record: record})
			h.Collect(t, 0)
			_, err := openImage(t, h, 0)
			assert.ErrorIs(t, err, bootc.ErrImageGone)
			assert.ErrorContains(t, err, h.IDs[0][:12])
			_, err = openImage(t, h, 1)
			assert.NoError(t, err)
		})
	}
}

// Images that differ in nothing but their configs share an EROFS image, which
// then does not tell which of them was deployed; bootc's tag does, and so does a
// description.
func TestImageThatMayBeAnyOfSeveral(t *testing.T) {
	deployed := bootchost.Deployment{Layout: "repeated", Record: bootchost.Nothing}
	h := bootchost.New(t, "sha512", deployed)
	_, err := openImage(t, h, 0)
	assert.ErrorIs(t, err, bootc.ErrAmbiguous)
	assert.ErrorContains(t, err, "localhost/repeated:latest")
	assert.ErrorContains(t, err, "localhost/nohistory:latest")
	h.Tag(t, 0)
	image, err := openImage(t, h, 0)
	require.NoError(t, err)
	assert.Equal(t, h.Images[0].Manifest, image.ManifestDigest)

	h = bootchost.New(t, "sha512", deployed)
	h.RemoveManifests(t)
	_, err = openImage(t, h, 0)
	assert.ErrorIs(t, err, bootc.ErrAmbiguous)

	deployed.Record = bootchost.ImageInfo
	for _, prepare := range []func(*testing.T, *bootchost.Host){func(*testing.T, *bootchost.Host) {}, removeManifests} {
		h = bootchost.New(t, "sha512", deployed)
		prepare(t, h)
		image, err = openImage(t, h, 0)
		require.NoError(t, err)
		assert.Equal(t, h.Images[0].Config, image.ConfigDescriptor.Digest)
	}

	// Where the deployment's own is gone, none of the others takes its place.
	deployed.Record = bootchost.ManifestDigest
	h = bootchost.New(t, "sha512", deployed)
	h.Collect(t, 0)
	_, err = openImage(t, h, 0)
	assert.ErrorIs(t, err, bootc.ErrImageGone)
}

// An origin that says nothing does not keep a deployment from its image.
func TestImageOfADeploymentWithoutAnOrigin(t *testing.T) {
	h := bootchost.New(t, "sha512", bootchost.Deployment{Layout: "hello", Origin: "garbage"})
	image, err := openImage(t, h, 0)
	require.NoError(t, err)
	assert.Equal(t, h.Images[0].Manifest, image.ManifestDigest)
}

// Importers have stored manifests converted, under the digest of what they were
// converted from.
func TestImageOfAConvertedManifest(t *testing.T) {
	original := digest.FromString("what was pulled")
	h := bootchost.New(t, "sha512", bootchost.Deployment{
		Layout: "hello",
		Origin: "[origin]\ncontainer-image-reference=ostree-unverified-registry:os\n[image]\nmanifest_digest=" + original.String() + "\n",
	})
	streams := filepath.Join(h.Repository, "streams")
	require.NoError(t, os.Rename(filepath.Join(streams, "oci-manifest-"+h.Images[0].Manifest.String()), filepath.Join(streams, "oci-manifest-"+original.String())))
	image, err := openImage(t, h, 0)
	require.NoError(t, err)
	assert.Equal(t, h.Images[0].Config, image.ConfigDescriptor.Digest)
	assert.Equal(t, h.Images[0].Config, image.Name())
	assert.Equal(t, h.Images[0].Manifest, image.ManifestDigest)
}

func TestImageInfoThatIsNoDescription(t *testing.T) {
	for name, text := range map[string]string{
		"garbage": "x", "no manifest": "{}", "an index": `{"manifest":{"schemaVersion":2,"manifests":[]}}`,
		"another config": `{"manifest":{"schemaVersion":2,"config":{"digest":"` + digest.FromString("x").String() + `","size":1},"layers":[]}}`,
	} {
		t.Run(name, func(t *testing.T) {
			h := bootchost.New(t, "old-sha512", bootchost.Deployment{Layout: "hello", Record: bootchost.ImageInfo})
			require.NoError(t, os.WriteFile(filepath.Join(h.Sysroot, "state/deploy", h.IDs[0], h.IDs[0]+".imginfo"), []byte(text), 0o644))
			_, err := openImage(t, h, 0)
			assert.Error(t, err)
		})
	}
}
