//go:build interop

package repomaker_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/containers/image/v5/copy"
	"github.com/opencontainers/go-digest"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
	"github.com/skopeo-cfs/skopeo-cfs/internal/repomaker"
	"github.com/skopeo-cfs/skopeo-cfs/splitstream"
)

// The tests in this file run cfsctl, which composefs-rs makes repositories with.

var algorithms = []fsverity.Algorithm{fsverity.SHA256, fsverity.SHA512}

// cfsctl runs cfsctl on a repository and returns what it printed.
func cfsctl(t *testing.T, repo string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "cfsctl", append([]string{"--repo", repo}, args...)...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("cfsctl %q: %w\n%s%s", args, err, &out, &errOut)
	}
	return out.String(), nil
}

// fsck runs both of cfsctl's checks.
func fsck(t *testing.T, repo string) (whole, images error) {
	t.Helper()
	_, whole = cfsctl(t, repo, "fsck")
	_, images = cfsctl(t, repo, "oci", "fsck")
	return whole, images
}

// fill adds images of every sort to a repository and returns their tags.
func fill(t *testing.T, made *repomaker.Repo) map[string]repomaker.Added {
	t.Helper()
	all := map[string]repomaker.Added{}
	for name, listing := range map[string]repomaker.Listing{
		"gzip": repomaker.Gzip, "zstd": repomaker.Zstd, "uncompressed": repomaker.Uncompressed, "pretended": repomaker.Pretended,
	} {
		tag := "localhost/made/" + name + ":latest"
		added, err := made.AddImage(tag, repomaker.Image{Layers: layersOf(generated(t)), Listing: listing})
		require.NoError(t, err)
		all[tag] = added
	}
	path := fixtures.Unpack(t, "sha256")
	for layout, options := range map[string]copy.Options{
		"hello": compressions["zstd"], "kinds": compressions["gzip"], "gnu-ustar": {}, "trailers": {}, "repeated": {},
		"raw": compressions["none"], "sbom": {},
	} {
		dir, _ := export(t, "["+path+"]localhost/"+layout+":latest", options)
		tag := "100%/odd " + layout
		added, err := made.AddLayout(dir, "exported", tag)
		require.NoError(t, err)
		all[tag] = added
	}
	return all
}

func TestInteropMadeRepositoriesPass(t *testing.T) {
	for _, algorithm := range algorithms {
		for _, options := range []repomaker.Options{{}, {OldHeader: true}, {OldHeader: true, NoMeta: true}} {
			t.Run(fmt.Sprintf("%s/%+v", algorithm, options), func(t *testing.T) {
				made := create(t, algorithm, options)
				all := fill(t, made)
				whole, images := fsck(t, made.Path())
				require.NoError(t, whole)
				require.NoError(t, images)

				out, err := cfsctl(t, made.Path(), "oci", "fsck")
				require.NoError(t, err)
				assert.Contains(t, out, fmt.Sprintf("oci images: %d/%d ok", len(all), len(all)))
				for tag, added := range all {
					raw, err := cfsctl(t, made.Path(), "oci", "inspect", "--manifest", tag)
					require.NoError(t, err, tag)
					assert.Equal(t, added.Manifest.Digest, digest.FromString(strings.TrimSuffix(raw, "\n")), tag)
				}
			})
		}
	}
}

// cfsctl finds the same tree in an image that the maker stored as in the one
// that it stored itself.
func TestInteropMadeImagesHaveTheSameTree(t *testing.T) {
	for _, name := range []string{"sha256", "sha512"} {
		path, made := fixtures.Unpack(t, name), likeFixture(t, name)
		repo := open(t, path)
		for layout, want := range fixtures.Layouts(t, name) {
			if layout == "emptylayers" || layout == "sbom" {
				continue // has no tag; has no tree
			}
			image, err := repo.ImageByDigest(t.Context(), want.Manifest)
			require.NoError(t, err)
			remake(t, made, image)
			theirs, err := cfsctl(t, path, "oci", "compute-id", "localhost/"+layout+":latest")
			require.NoError(t, err)
			ours, err := cfsctl(t, made.Path(), "oci", "compute-id", "remade")
			require.NoError(t, err)
			assert.Equal(t, theirs, ours, "%s in %s", layout, name)
		}
	}
}

// anyObject returns the path of an object that the first layer is made of.
func anyObject(t *testing.T, made *repomaker.Repo, image repomaker.Added) string {
	t.Helper()
	for _, c := range readForm(t, made.Path(), repomaker.StreamName(splitstream.Layer, image.Layers[0].Digest)).chunks {
		if !c.object.IsZero() {
			return made.ObjectPath(c.object)
		}
	}
	t.Fatal("a layer without objects")
	return ""
}

// What passes in the tests above would fail if it were wrong.
func TestInteropWrongRepositoriesFail(t *testing.T) {
	for _, algorithm := range algorithms {
		for name, test := range map[string]struct {
			spoil     func(t *testing.T, made *repomaker.Repo, image repomaker.Added)
			onlyImage bool // nothing is wrong with the repository itself
		}{
			"an object of a layer is altered": {spoil: func(t *testing.T, made *repomaker.Repo, image repomaker.Added) {
				require.NoError(t, os.WriteFile(anyObject(t, made, image), []byte("another"), 0o644))
			}},
			"an object of a layer is missing": {spoil: func(t *testing.T, made *repomaker.Repo, image repomaker.Added) {
				require.NoError(t, os.Remove(anyObject(t, made, image)))
			}},
			"a layer's stream is missing": {spoil: func(t *testing.T, made *repomaker.Repo, image repomaker.Added) {
				require.NoError(t, os.Remove(made.ObjectPath(image.Layers[0].Stream)))
			}},
			"a layer's stream is none": {spoil: func(t *testing.T, made *repomaker.Repo, image repomaker.Added) {
				_, err := made.AddRawStream(repomaker.StreamName(splitstream.Layer, image.Layers[0].Digest), strings.NewReader("no stream"))
				require.NoError(t, err)
			}},
			"a manifest is another's": {onlyImage: true, spoil: func(t *testing.T, made *repomaker.Repo, image repomaker.Added) {
				other := digest.FromString("another manifest")
				require.NoError(t, made.Link(repomaker.StreamName(splitstream.Manifest, other), image.Manifest.Stream))
				require.NoError(t, made.Tag("other", other))
			}},
			"layers are not referred to": {onlyImage: true, spoil: func(t *testing.T, made *repomaker.Repo, image repomaker.Added) {
				opened, err := open(t, made.Path()).ImageByDigest(t.Context(), image.Manifest.Digest)
				require.NoError(t, err)
				_, err = made.AddDocuments("other", opened.Manifest, opened.Config, nil)
				require.NoError(t, err)
			}},
		} {
			t.Run(algorithm.String()+"/"+name, func(t *testing.T) {
				made := create(t, algorithm, repomaker.Options{})
				image, err := made.AddImage("made", repomaker.Image{Layers: layersOf(generated(t))})
				require.NoError(t, err)
				whole, images := fsck(t, made.Path())
				require.NoError(t, whole)
				require.NoError(t, images)

				test.spoil(t, made, image)
				whole, images = fsck(t, made.Path())
				assert.Error(t, images)
				if test.onlyImage {
					assert.NoError(t, whole)
				} else {
					assert.Error(t, whole)
				}
			})
		}
	}
}

// Images that cfsctl pulls are read with the digests that they had.
func TestInteropPulledImagesAreRead(t *testing.T) {
	path := fixtures.Unpack(t, "sha256")
	for _, algorithm := range algorithms {
		repo := filepath.Join(t.TempDir(), "repo")
		out, err := exec.CommandContext(t.Context(), "cfsctl", "init", "--insecure", "--algorithm", algorithm.String(), repo).CombinedOutput()
		require.NoError(t, err, "%s", out)
		for layout, want := range fixtures.Layouts(t, "sha256") {
			dir, manifest := export(t, "["+path+"]@"+want.Manifest.String(), copy.Options{})
			addPlatform(t, dir)
			tag := "localhost/" + layout + ":pulled"
			_, err := cfsctl(t, repo, "oci", "pull", "oci:"+dir+":exported", tag)
			require.NoError(t, err)

			t.Run(algorithm.String()+"/"+layout, func(t *testing.T) {
				image, err := open(t, repo).ImageByTag(t.Context(), tag)
				require.NoError(t, err)
				assert.Equal(t, want.Config, image.ConfigDescriptor.Digest)
				assert.Equal(t, manifest.Layers, descriptors(image))
				for i, l := range image.Layers {
					content, err := readLayer(t, image, i)
					require.NoError(t, err)
					assert.Equal(t, l.Digest(), digest.FromBytes(content))
				}
				// And on, through the transport.
				_, again := export(t, "["+repo+"]"+tag, copy.Options{})
				assert.Equal(t, want.Config, again.Config.Digest)
				assert.Equal(t, manifest.Layers, again.Layers)
			})
		}
		whole, images := fsck(t, repo)
		assert.NoError(t, whole)
		assert.NoError(t, images)
	}
}

// addPlatform says in a layout's index what its one manifest is for: cfsctl
// pulls nothing that is for no platform, and an artifact has no config to look
// into.
func addPlatform(t *testing.T, dir string) {
	t.Helper()
	path := filepath.Join(dir, imgspecv1.ImageIndexFile)
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	var index imgspecv1.Index
	require.NoError(t, json.Unmarshal(raw, &index))
	require.Len(t, index.Manifests, 1)
	index.Manifests[0].Platform = &imgspecv1.Platform{OS: "linux", Architecture: runtime.GOARCH}
	raw, err = json.Marshal(index)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, raw, 0o644))
}
