package rearchive_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/containers/image/v5/copy"
	"github.com/containers/image/v5/manifest"
	"github.com/containers/image/v5/pkg/blobinfocache/none"
	"github.com/containers/image/v5/signature"
	"github.com/containers/image/v5/transports/alltransports"
	"github.com/containers/image/v5/types"
	"github.com/opencontainers/go-digest"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/damaged"
	"github.com/skopeo-cfs/skopeo-cfs/internal/repomaker"
	"github.com/skopeo-cfs/skopeo-cfs/rearchive"
	"github.com/skopeo-cfs/skopeo-cfs/source"
	_ "github.com/skopeo-cfs/skopeo-cfs/transport"
)

func parse(t testing.TB, name string) types.ImageReference {
	t.Helper()
	ref, err := alltransports.ParseImageName(name)
	require.NoError(t, err)
	return ref
}

// open opens what is made of an image of a repository.
func open(t testing.TB, repo, name string) (types.ImageSource, error) {
	t.Helper()
	src, err := rearchive.Reference(parse(t, "composefs:["+repo+"]"+name)).NewImageSource(t.Context(), nil)
	if err == nil {
		t.Cleanup(func() { require.NoError(t, src.Close()) })
	}
	return src, err
}

func openRearchived(t testing.TB, repo, name string) *rearchive.Source {
	t.Helper()
	src, err := open(t, repo, name)
	require.NoError(t, err)
	require.IsType(t, (*rearchive.Source)(nil), src)
	return src.(*rearchive.Source)
}

// blob reads a blob, which must have the digest and the size that it should.
func blob(t testing.TB, src types.ImageSource, info types.BlobInfo) []byte {
	t.Helper()
	content, size, err := src.GetBlob(t.Context(), info, none.NoCache)
	require.NoError(t, err)
	defer func() { require.NoError(t, content.Close()) }()
	data, err := io.ReadAll(content)
	require.NoError(t, err)
	require.Equal(t, info.Digest, digest.FromBytes(data))
	require.Len(t, data, int(size))
	require.Equal(t, info.Size, size)
	return data
}

// names returns the names of a tar's entries.
func names(t testing.TB, data []byte) (all []string) {
	t.Helper()
	for in := tar.NewReader(bytes.NewReader(data)); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		require.NoError(t, err)
		all = append(all, h.Name)
	}
}

func manifestOf(t testing.TB, src types.ImageSource) manifest.Manifest {
	t.Helper()
	raw, mediaType, err := src.GetManifest(t.Context(), nil)
	require.NoError(t, err)
	m, err := manifest.FromBlob(raw, mediaType)
	require.NoError(t, err)
	return m
}

// The layers of which headers were altered are others, with the same entries, and
// nothing else of the image is: annotations, labels, history; those layers that
// are right stay.
func TestAlteredLayersAreRearchived(t *testing.T) {
	for name, listing := range map[string]repomaker.Listing{"compressed": repomaker.Gzip, "uncompressed": repomaker.Uncompressed} {
		t.Run(name, func(t *testing.T) {
			repo := t.TempDir()
			added := damaged.Add(t, repo, fsverity.SHA256, repomaker.Options{}, "hello", func(image *repomaker.Image) {
				damaged.AlterHeaders(0, 2)(image)
				image.Listing = listing
				image.Layers[2].Annotations = map[string]string{"kept": "yes", "containerd.io/snapshot/stargz/toc.digest": "no"}
				image.Config.History = []imgspecv1.History{
					{Comment: "first"}, {Comment: "empty", EmptyLayer: true}, {Comment: "second"}, {Comment: "third"},
				}
			})
			original, err := parse(t, "composefs:["+repo+"]hello").NewImageSource(t.Context(), nil)
			require.NoError(t, err)
			defer original.Close()
			image := original.(*source.Source).Image()
			_, tars := damaged.Fixture(t, "hello")

			src := openRearchived(t, repo, "hello")
			m := manifestOf(t, src)
			infos := m.LayerInfos()
			require.Len(t, infos, 3)
			assert.Equal(t, added.Layers[1].Digest, infos[1].Digest)
			diffIDs := []digest.Digest{}
			for i, info := range infos {
				assert.Equal(t, imgspecv1.MediaTypeImageLayer, info.MediaType)
				diffIDs = append(diffIDs, info.Digest)
				assert.Equal(t, names(t, tars[i]), names(t, blob(t, src, info.BlobInfo)))
			}
			assert.Equal(t, []rearchive.Change{
				{Old: added.Layers[0].Digest, New: infos[0].Digest}, {Old: added.Layers[2].Digest, New: infos[2].Digest},
			}, src.Changes())
			assert.NotEqual(t, added.Layers[0].Digest, infos[0].Digest)
			assert.Equal(t, "yes", infos[2].Annotations["kept"])
			assert.NotContains(t, infos[2].Annotations, "containerd.io/snapshot/stargz/toc.digest")

			assertSameButFor(t, image.Manifest, raw(t, src), "config", "layers")
			config := blob(t, src, m.ConfigInfo())
			assertSameButFor(t, image.Config, config, "rootfs")
			var parsed imgspecv1.Image
			require.NoError(t, json.Unmarshal(config, &parsed))
			assert.Equal(t, diffIDs, parsed.RootFS.DiffIDs)

			again := openRearchived(t, repo, "hello")
			assert.Equal(t, raw(t, src), raw(t, again))
		})
	}
}

func raw(t testing.TB, src types.ImageSource) []byte {
	t.Helper()
	data, _, err := src.GetManifest(t.Context(), nil)
	require.NoError(t, err)
	return data
}

// assertSameButFor compares two JSON objects but for some fields.
func assertSameButFor(t testing.TB, want, got []byte, fields ...string) {
	t.Helper()
	var w, g map[string]any
	require.NoError(t, json.Unmarshal(want, &w))
	require.NoError(t, json.Unmarshal(got, &g))
	for _, field := range fields {
		assert.Contains(t, g, field)
		delete(w, field)
		delete(g, field)
	}
	assert.NotEmpty(t, w)
	assert.Equal(t, w, g)
}

// A layer that is there several times is one afterwards, too.
func TestRepeatedLayersAreRearchivedAlike(t *testing.T) {
	repo := t.TempDir()
	_, tars := damaged.Fixture(t, "repeated")
	all := make([]int, len(tars))
	for i := range all {
		all[i] = i
	}
	damaged.Add(t, repo, fsverity.SHA512, repomaker.Options{}, "repeated", damaged.AlterHeaders(all...))
	src := openRearchived(t, repo, "repeated")
	byTar := map[string]digest.Digest{}
	for i, info := range manifestOf(t, src).LayerInfos() {
		if before, seen := byTar[string(tars[i])]; seen {
			assert.Equal(t, before, info.Digest)
		}
		byTar[string(tars[i])] = info.Digest
		blob(t, src, info.BlobInfo)
	}
	assert.Less(t, len(byTar), len(tars))
}

// Docker's manifests stay Docker's.
func TestDockerImagesStayDockers(t *testing.T) {
	path := t.TempDir()
	added := damaged.Add(t, path, fsverity.SHA256, repomaker.Options{}, "hello", damaged.AlterHeaders(1))
	original, err := parse(t, "composefs:["+path+"]hello").NewImageSource(t.Context(), nil)
	require.NoError(t, err)
	defer original.Close()
	image := original.(*source.Source).Image()
	m := manifest.Schema2{
		SchemaVersion: 2, MediaType: manifest.DockerV2Schema2MediaType,
		ConfigDescriptor: manifest.Schema2Descriptor{
			MediaType: manifest.DockerV2Schema2ConfigMediaType, Size: image.ConfigDescriptor.Size, Digest: image.ConfigDescriptor.Digest,
		},
	}
	for _, l := range image.Layers {
		m.LayersDescriptors = append(m.LayersDescriptors, manifest.Schema2Descriptor{
			MediaType: manifest.DockerV2Schema2LayerMediaType, Size: l.Descriptor.Size, Digest: l.Descriptor.Digest,
		})
	}
	data, err := json.Marshal(m)
	require.NoError(t, err)
	repo, err := repomaker.Open(path, fsverity.SHA256, repomaker.Options{})
	require.NoError(t, err)
	_, err = repo.AddDocuments("docker", data, image.Config, added.Layers)
	require.NoError(t, err)

	src := openRearchived(t, path, "docker")
	_, mediaType, err := src.GetManifest(t.Context(), nil)
	require.NoError(t, err)
	assert.Equal(t, manifest.DockerV2Schema2MediaType, mediaType)
	for _, info := range manifestOf(t, src).LayerInfos() {
		assert.Equal(t, manifest.DockerV2SchemaLayerMediaTypeUncompressed, info.MediaType)
		blob(t, src, info.BlobInfo)
	}
}

// What is fine stays itself, and so does what can be repaired.
func TestNothingIsRearchivedWithoutNeed(t *testing.T) {
	for name, options := range map[string]repomaker.Options{"fine": {}, "lost zeros": {LoseTrailer: true}} {
		t.Run(name, func(t *testing.T) {
			repo := t.TempDir()
			added := damaged.Add(t, repo, fsverity.SHA256, options, "trailers", nil)
			src, err := open(t, repo, "trailers")
			require.NoError(t, err)
			assert.IsType(t, (*source.Source)(nil), src)
			assert.Equal(t, added.Manifest.Digest, digest.FromBytes(raw(t, src)))
			for _, l := range added.Layers {
				blob(t, src, types.BlobInfo{Digest: l.Digest, Size: l.Size})
			}
		})
	}
}

// One layer has lost zeros, another was altered: each is mended in its way.
func TestRepairAndRearchiving(t *testing.T) {
	repo := t.TempDir()
	options := repomaker.Options{LoseTrailer: true}
	added := damaged.Add(t, repo, fsverity.SHA256, options, "trailers", damaged.AlterHeaders(0))
	src := openRearchived(t, repo, "trailers")
	infos := manifestOf(t, src).LayerInfos()
	require.Len(t, src.Changes(), 1)
	for i, l := range added.Layers {
		blob(t, src, infos[i].BlobInfo)
		if i > 0 {
			assert.Equal(t, l.Digest, infos[i].Digest)
		}
	}
}

func TestWhatIsNotRearchived(t *testing.T) {
	for name, test := range map[string]struct {
		damage func(t testing.TB, repo string, image *composefsrepo.Image)
		alter  repomaker.Alter
		is     error
		texts  []string
	}{
		"an altered object": {
			damage: func(t testing.TB, repo string, image *composefsrepo.Image) { damaged.AlterObject(t, repo, image, 0) },
			is:     composefsrepo.ErrVerity, texts: []string{"object ", "was altered"},
		},
		"a missing object": {
			damage: func(t testing.TB, repo string, image *composefsrepo.Image) {
				name := image.Layers[0].Verity.String()
				require.NoError(t, os.Remove(filepath.Join(repo, "objects", name[:2], name[2:])))
			},
			is: composefsrepo.ErrMissingObject,
		},
		"what is no tar": {
			alter: func(offset int64, inline []byte) {
				if offset == 0 {
					inline[0] ^= 1
				}
			},
			is: tar.ErrHeader, texts: []string{"re-archiving layer sha256:"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			repo := t.TempDir()
			damaged.Add(t, repo, fsverity.SHA256, repomaker.Options{}, "hello", func(image *repomaker.Image) {
				image.Layers[0].Alter = test.alter
			})
			if test.damage != nil {
				src, err := parse(t, "composefs:["+repo+"]hello").NewImageSource(t.Context(), nil)
				require.NoError(t, err)
				test.damage(t, repo, src.(*source.Source).Image())
				require.NoError(t, src.Close())
			}
			_, err := open(t, repo, "hello")
			assert.ErrorIs(t, err, test.is)
			for _, text := range test.texts {
				assert.ErrorContains(t, err, text)
			}
		})
	}
}

// A layer that was cut on import lacks files, so that it would be another image in
// more than its digests.
func TestCutLayersAreNotRearchived(t *testing.T) {
	for name, where := range damaged.Cuts {
		t.Run(name, func(t *testing.T) {
			repo := t.TempDir()
			damaged.Add(t, repo, fsverity.SHA256, repomaker.Options{}, "kinds", damaged.Cut(t, 0, where))
			_, err := open(t, repo, "kinds")
			assert.ErrorIs(t, err, composefsrepo.ErrCut)
			assert.ErrorContains(t, err, "pulled again")
		})
	}
}

// Another reference than a composefs one is what it was.
func TestOtherTransportsAreLeftAlone(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "manifest.json"), []byte("{}"), 0o600))
	src, err := rearchive.Reference(parse(t, "dir:"+dir)).NewImageSource(t.Context(), nil)
	require.NoError(t, err)
	defer src.Close()
	assert.Equal(t, "{}", string(raw(t, src)))
}

// A policy is asked about the image by its own name.
func TestPoliciesHold(t *testing.T) {
	repo := t.TempDir()
	damaged.Add(t, repo, fsverity.SHA256, repomaker.Options{}, "hello", damaged.AlterHeaders(1))
	resolved, err := filepath.EvalSymlinks(repo)
	require.NoError(t, err)
	for scope, allowed := range map[string]bool{resolved + ":hello": true, resolved + ":other": false} {
		policy, err := signature.NewPolicyContext(&signature.Policy{
			Default: []signature.PolicyRequirement{signature.NewPRReject()},
			Transports: map[string]signature.PolicyTransportScopes{"composefs": {
				scope: []signature.PolicyRequirement{signature.NewPRInsecureAcceptAnything()},
			}},
		})
		require.NoError(t, err)
		dest := parse(t, "dir:"+t.TempDir())
		_, err = copy.Image(t.Context(), policy, dest, rearchive.Reference(parse(t, "composefs:["+repo+"]hello")), nil)
		if allowed {
			assert.NoError(t, err)
		} else {
			assert.ErrorContains(t, err, "rejected")
		}
		require.NoError(t, policy.Destroy())
	}
}

func TestCancellation(t *testing.T) {
	repo := t.TempDir()
	damaged.Add(t, repo, fsverity.SHA256, repomaker.Options{}, "sizes", damaged.AlterHeaders(0))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := rearchive.Reference(parse(t, "composefs:["+repo+"]sizes")).NewImageSource(ctx, nil)
	assert.ErrorIs(t, err, context.Canceled)

	src := openRearchived(t, repo, "sizes")
	info := manifestOf(t, src).LayerInfos()[0].BlobInfo
	t.Run("in a hole", func(t *testing.T) {
		sparse := filepath.Join(t.TempDir(), "sparse")
		require.NoError(t, os.WriteFile(sparse, []byte("data"), 0o600))
		require.NoError(t, os.Truncate(sparse, 1<<40))
		data, err := exec.Command("tar", "--format=gnu", "-S", "-C", filepath.Dir(sparse), "-c", "sparse").Output()
		require.NoError(t, err)
		repo := t.TempDir()
		damaged.Add(t, repo, fsverity.SHA256, repomaker.Options{}, "hello", func(image *repomaker.Image) {
			image.Layers[0].Tar = bytes.NewReader(data)
			damaged.AlterHeaders(0)(image)
		})
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond) // it would take many minutes
		defer cancel()
		_, err = rearchive.Reference(parse(t, "composefs:["+repo+"]hello")).NewImageSource(ctx, nil)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
	})
	t.Run("closed half way", func(t *testing.T) {
		content, _, err := src.GetBlob(t.Context(), info, none.NoCache)
		require.NoError(t, err)
		_, err = io.ReadFull(content, make([]byte, 1000))
		require.NoError(t, err)
		require.NoError(t, content.Close())
		_, err = content.Read(make([]byte, 1))
		assert.Error(t, err)
	})
	t.Run("cancelled half way", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		content, _, err := src.GetBlob(ctx, info, none.NoCache)
		require.NoError(t, err)
		_, err = io.ReadFull(content, make([]byte, 1000))
		require.NoError(t, err)
		cancel()
		_, err = io.Copy(io.Discard, content)
		assert.ErrorIs(t, err, context.Canceled)
		require.NoError(t, content.Close())
	})
}
