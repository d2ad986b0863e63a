package main

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/damaged"
	"github.com/skopeo-cfs/skopeo-cfs/internal/repomaker"
	"github.com/skopeo-cfs/skopeo-cfs/internal/trees"
)

// damage makes a repository with an image of the fixtures, and returns the
// image's name.
func damage(t testing.TB, options repomaker.Options, layout string, change func(*repomaker.Image)) (string, repomaker.Added) {
	t.Helper()
	repo := t.TempDir()
	added := damaged.Add(t, repo, fsverity.SHA256, options, layout, change)
	return "composefs:[" + repo + "]" + layout, added
}

// assertArrived demands that what is at a destination is the image that was
// added.
func assertArrived(t testing.TB, to string, added repomaker.Added) {
	t.Helper()
	image := readImage(t, to)
	assert.Equal(t, added.Config.Digest, image.config)
	var layers []digest.Digest
	for _, l := range added.Layers {
		layers = append(layers, l.Digest)
	}
	assert.Equal(t, layers, image.layers)
}

func withListing(listing repomaker.Listing) func(*repomaker.Image) {
	return func(image *repomaker.Image) { image.Listing = listing }
}

// Zeros that an importer lost are an error that names --repair, which brings the
// image as it was to every destination; where contents are not copied, they are
// added unasked.
func TestLostZeros(t *testing.T) {
	for name, listing := range map[string]repomaker.Listing{"compressed": repomaker.Gzip, "uncompressed": repomaker.Uncompressed} {
		t.Run(name, func(t *testing.T) {
			from, added := damage(t, repomaker.Options{LoseTrailer: true}, "trailers", withListing(listing))
			dir := t.TempDir()
			for transport, to := range map[string]string{"dir": "dir:" + dir + "/dir", "oci": "oci:" + dir + "/oci", "docker-archive": "docker-archive:" + dir + "/archive"} {
				t.Run(transport, func(t *testing.T) {
					copyImage(t, from, to).assertFailure(t, "lacks the ", " zero bytes at its end that some importers lost", "--repair")
					copyImage(t, from, to, "--repair").requireSuccess(t)
					assertArrived(t, to, added)
				})
			}
			if listing == repomaker.Uncompressed {
				to := "dir:" + dir + "/preserved"
				copyImage(t, from, to, "--repair", "--preserve-digests").requireSuccess(t)
				assert.Equal(t, added.Manifest.Digest, readImage(t, to).manifest)
			}
			t.Run("containers-storage", func(t *testing.T) {
				s := newStore(t, t.TempDir())
				copyImage(t, from, s.image("extracted"), "--no-zero-copy").requireSuccess(t)
				assertArrived(t, s.image("extracted"), added)
				assert.Equal(t, added.Manifest.Digest, readImage(t, s.image("extracted")).manifest)
				fast := newStore(t, t.TempDir())
				copyImage(t, from, fast.image("fast")).requireSuccess(t)
				assertArrived(t, fast.image("fast"), added)
				assert.Equal(t, added.Manifest.Digest, readImage(t, fast.image("fast")).manifest)
			})
		})
	}
}

// What is fine is copied by --repair and by --rearchive as without them.
func TestMendingWhatIsFine(t *testing.T) {
	from, added := damage(t, repomaker.Options{}, "hello", withListing(repomaker.Uncompressed))
	for _, flag := range []string{"--repair", "--rearchive"} {
		to := "dir:" + filepath.Join(t.TempDir(), "dir")
		copyImage(t, from, to, flag, "--preserve-digests").requireSuccess(t)
		assert.Equal(t, added.Manifest.Digest, readImage(t, to).manifest)
	}
	from, added = damage(t, repomaker.Options{}, "hello", nil)
	s := newStore(t, t.TempDir())
	copyImage(t, from, s.image("hello"), "--repair", "--rearchive").requireSuccess(t)
	assert.Equal(t, added.Manifest.Digest, readImage(t, s.image("hello")).manifest)
}

// --repair repairs nothing else, and --rearchive nothing of which an object was
// altered.
func TestWhatIsNotMended(t *testing.T) {
	for name, test := range map[string]struct {
		damage func(forge)
		change func(*repomaker.Image)
		flag   string
		texts  []string
	}{
		"other headers": {
			change: damaged.AlterHeaders(1), flag: "--repair",
			texts: []string{"hashes to sha256:", "no object was altered", "--rearchive"},
		},
		"an altered object": {
			damage: func(f forge) { f.change(f.objectOf(helloText), func(b []byte) []byte { b[100] ^= 1; return b }) },
			flag:   "--repair", texts: []string{"object ", "was altered"},
		},
		"an altered object to be re-archived": {
			damage: func(f forge) { f.change(f.objectOf(helloText), func(b []byte) []byte { b[100] ^= 1; return b }) },
			flag:   "--rearchive", texts: []string{"object ", "was altered"},
		},
		"no tar": {
			change: func(image *repomaker.Image) {
				image.Layers[0].Alter = func(offset int64, inline []byte) {
					if offset == 0 {
						inline[0] ^= 1
					}
				}
			},
			flag: "--rearchive", texts: []string{"layer sha256:", "invalid tar header"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			from, _ := damage(t, repomaker.Options{}, "hello", test.change)
			if test.damage != nil {
				repo, _, _ := strings.Cut(strings.TrimPrefix(from, "composefs:["), "]")
				test.damage(forge{t, repo, fsverity.SHA256})
			}
			dir := filepath.Join(t.TempDir(), "dir")
			copyImage(t, from, "dir:"+dir, test.flag).assertFailure(t, test.texts...)
			assert.NoDirExists(t, dir)
			s := newStore(t, t.TempDir())
			copyImage(t, from, s.image("hello"), test.flag).assertFailure(t, test.texts...)
			s.assertNoImage(t)
		})
	}
}

// A layer that was cut on import is refused everywhere, with the advice to pull it
// again and no other.
func TestCutLayers(t *testing.T) {
	for name, where := range damaged.Cuts {
		t.Run(name, func(t *testing.T) {
			from, added := damage(t, repomaker.Options{}, "kinds", damaged.Cut(t, 0, where))
			for _, flags := range [][]string{nil, {"--rearchive"}, {"--repair"}} {
				dir := filepath.Join(t.TempDir(), "dir")
				s := newStore(t, t.TempDir())
				for _, to := range []string{"dir:" + dir, s.image("kinds")} {
					got := copyImage(t, from, to, flags...)
					got.assertFailure(t, added.Layers[0].Digest.String(), "was cut when it was imported", "pulled again")
					assert.NotContains(t, got.stderr, "--re", "flags that don't help")
				}
				assert.NoDirExists(t, dir)
				s.assertNoImage(t)
			}
		})
	}
}

// A layer that can't be rebuilt is refused, and re-archived when asked for: the
// same image each time and on each way, in which other tools find the same files.
func TestRearchive(t *testing.T) {
	needTool(t, "podman", "skopeo", "umoci")
	for _, layout := range []string{"hello", "kinds", "rootdir", "gnu-ustar", "sizes"} {
		t.Run(layout, func(t *testing.T) {
			right, _ := damage(t, repomaker.Options{}, layout, nil)
			from, added := damage(t, repomaker.Options{}, layout, damaged.AlterHeaders(0))
			dir := t.TempDir()
			altered := added.Layers[0].Digest.String()
			copyImage(t, from, "dir:"+dir+"/refused").assertFailure(t, altered, "hashes to sha256:", "no object was altered", "--rearchive")
			copyImage(t, from, "dir:"+dir+"/refused", "--rearchive", "--preserve-digests").assertFailure(t, "digest")
			assert.NoDirExists(t, dir+"/refused")

			first, second := "oci:"+dir+"/first:image", "oci:"+dir+"/second:image"
			got := copyImage(t, from, first, "--rearchive")
			got.requireSuccess(t)
			assert.Contains(t, got.stdout, "Re-archiving layer "+altered)
			copyImage(t, from, second, "--rearchive").requireSuccess(t)
			image := readImage(t, first)
			assert.Equal(t, image, readImage(t, second))
			assert.NotEqual(t, added.Config.Digest, image.config)

			s := newStore(t, t.TempDir())
			copyImage(t, from, s.image("refused")).assertFailure(t, altered, "--rearchive")
			copyImage(t, from, s.image("rearchived"), "--rearchive").requireSuccess(t)
			copyImage(t, from, s.image("again"), "--rearchive", "--no-zero-copy").requireSuccess(t)
			for _, name := range []string{"rearchived", "again"} {
				assert.Equal(t, image.config, readImage(t, s.image(name)).config)
				assert.Equal(t, image.layers, readImage(t, s.image(name)).layers)
			}
			other := newStore(t, t.TempDir()) // where no layer of ours is yet
			copyImage(t, right, other.image("right")).requireSuccess(t)
			assert.Equal(t, other.tree(t, "right"), s.tree(t, "rearchived"))

			tool(t, "skopeo", "copy", "--insecure-policy", first, "dir:"+dir+"/skopeo")
			assert.Equal(t, image.config, readImage(t, "dir:"+dir+"/skopeo").config)
			var inspected struct{ Layers []digest.Digest }
			require.NoError(t, json.Unmarshal([]byte(tool(t, "skopeo", "inspect", first)), &inspected))
			assert.Len(t, inspected.Layers, len(image.layers))
			assert.Equal(t, umociTree(t, right, dir+"/right"), umociTree(t, from, dir+"/umoci", "--rearchive"))
		})
	}
}

// tree lists the files of an image as podman mounts it.
func (s store) tree(t testing.TB, image string) map[string]trees.Entry {
	t.Helper()
	at := strings.TrimSpace(s.podman(t, "image", "mount", "localhost/"+image))
	defer s.podman(t, "image", "unmount", "localhost/"+image)
	return settled(trees.List(t, at))
}

// umociTree lists the files of an image as umoci unpacks it, by way of dir.
func umociTree(t testing.TB, from, dir string, flags ...string) map[string]trees.Entry {
	t.Helper()
	needRoot(t)
	copyImage(t, from, "oci:"+dir+":image", flags...).requireSuccess(t)
	tool(t, "umoci", "unpack", "--image", dir+":image", dir+"/bundle")
	defer os.RemoveAll(dir)
	return settled(trees.List(t, dir+"/bundle/rootfs"))
}

// settled takes the times away that are those of unpacking: of directories for
// which the tar has no entry, among them mostly the root.
func settled(all map[string]trees.Entry) map[string]trees.Entry {
	for name, e := range maps.Clone(all) {
		if strings.HasPrefix(e.Mode, "4") {
			e.ModTime = ""
			all[name] = e
		}
	}
	return all
}

// A copy that fails leaves no image, whatever of it was re-archived.
func TestRearchivingThatFailsLeavesNoImage(t *testing.T) {
	from, _ := damage(t, repomaker.Options{}, "dup", func(image *repomaker.Image) {
		first, _ := damaged.Fixture(t, "hello")
		image.Layers = append(first.Layers[:1], image.Layers...)
		image.Config.History = nil
		damaged.AlterHeaders(0, 1)(image)
	})
	s := newStore(t, t.TempDir())
	copyImage(t, from, s.image("dup"), "--rearchive").assertFailure(t, "duplicates of file paths not supported")
	s.assertNoImage(t)
}
