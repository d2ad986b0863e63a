package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
	"github.com/skopeo-cfs/skopeo-cfs/splitstream"
)

// bad is a reason for which a copy has to fail.
type bad struct {
	// make makes the image and returns its name, without the transport.
	make func(t testing.TB) string
	// texts are to be in the message.
	texts []string
	// late: layers may have been moved already, as it shows only then.
	late bool
	// storageOnly: other destinations don't look into layers.
	storageOnly bool
}

// digestOfNothing is that of no manifest and no config.
const digestOfNothing = "sha256:0000000000000000000000000000000000000000000000000000000000000000"

var badInput = map[string]bad{
	"no such repository": {
		make:  func(t testing.TB) string { return "[" + t.TempDir() + "/none]hello" },
		texts: []string{"/none", "no such file or directory"},
	},
	"a directory that is none": {
		make:  func(t testing.TB) string { return "[" + t.TempDir() + "]hello" },
		texts: []string{"not a composefs repository"},
	},
	"a file": {
		make: func(t testing.TB) string {
			file := filepath.Join(t.TempDir(), "file")
			require.NoError(t, os.WriteFile(file, nil, 0o644))
			return "[" + file + "]hello"
		},
		texts: []string{"/file", "not a directory"},
	},
	"unknown tag":    {make: fixture("helo", nil), texts: []string{"no such tag", "helo", `"localhost/hello:latest"`}},
	"no tag":         {make: fixture("", nil), texts: []string{"names no image"}},
	"no bracket":     {make: func(testing.TB) string { return "[/srv/repo" }, texts: []string{"no closing ]"}},
	"bad digest":     {make: fixture("@sha256:123", nil), texts: []string{"sha256:123", "digest"}},
	"unknown digest": {make: fixture("@"+digestOfNothing, nil), texts: []string{digestOfNothing, "not in the repository"}},
	"ambiguous name": {make: fixture("hello", func(f forge) {
		f.link("streams/refs/oci/quay.io%2Fx%2Fhello:latest", "../../oci-manifest-"+helloManifest)
	}), texts: []string{"ambiguous", `"localhost/hello:latest"`, `"quay.io/x/hello:latest"`}},
	"dangling tag":     {make: fixture("hello", func(f forge) { f.remove("streams/oci-manifest-" + helloManifest) }), texts: []string{"localhost/hello:latest", helloManifest, "not in the repository"}},
	"dangling stream":  {make: fixture("hello", func(f forge) { f.remove(f.streamFile("oci-manifest-" + helloManifest)) }), texts: []string{helloManifest, "object is missing"}},
	"tag to elsewhere": {make: fixture("hello", func(f forge) { f.link("streams/refs/oci/localhost%2Fhello:latest", "../../../../etc/passwd") }), texts: []string{"localhost/hello:latest", "etc/passwd", "symlink points to the wrong place"}},
	"missing object": {
		make:  fixture("hello", func(f forge) { f.remove(f.objectOf(helloText)) }),
		texts: []string{"missing from the repository"}, late: true,
	},
	"truncated object": {
		make:  fixture("hello", func(f forge) { f.change(f.objectOf(helloText), func(b []byte) []byte { return b[:len(b)-1] }) }),
		texts: []string{"object ", "was altered"}, late: true,
	},
	"overlong object": {
		make:  fixture("hello", func(f forge) { f.change(f.objectOf(helloText), func(b []byte) []byte { return append(b, 0) }) }),
		texts: []string{"object ", "was altered"}, late: true,
	},
	"altered object": {
		make:  fixture("hello", func(f forge) { f.change(f.objectOf(helloText), func(b []byte) []byte { b[100] ^= 1; return b }) }),
		texts: []string{"object ", "was altered"}, late: true,
	},
	"altered stream": {
		make: fixture("hello", func(f forge) {
			f.change(f.streamFile("oci-layer-"+helloLayer), func(b []byte) []byte { b[0] ^= 1; return b })
		}),
		texts: []string{helloLayer, "was altered"},
	},
	"altered config": {
		make: fixture("hello", func(f forge) {
			f.change(f.objectOf(`"org.example.fixture": "hello"`), func(b []byte) []byte { return bytes.Replace(b, []byte("fixture"), []byte("Fixture"), 1) })
		}),
		texts: []string{"object ", "was altered"},
	},
	"stream of the wrong content type": {
		make: forgedImage(func(f forge, i *forged) {
			data := tarOf(f.t, "file", nil)
			d := digest.FromBytes(data)
			i.add(d, f.stream("oci-layer-"+d.String(), splitstream.Config, data, nil))
		}),
		texts: []string{"content type ociconfg instead of ocilayer", "layer 2 of 2"},
	},
	"layer missing from the references": {
		make: forgedImage(func(_ forge, i *forged) {
			i.add(digestOfNothing, i.configRefs[i.config.RootFS.DiffIDs[0].String()])
			delete(i.configRefs, digestOfNothing)
			delete(i.manifestRefs, digestOfNothing)
		}),
		texts: []string{digestOfNothing, "layer 2 of 2", "not in the repository"},
	},
	"fewer diff IDs than layers": {
		make:  forgedImage(func(_ forge, i *forged) { i.config.RootFS.DiffIDs = nil }),
		texts: []string{"the manifest has 1 layers", "0 diff IDs"},
	},
	"more diff IDs than layers": {
		make:  forgedImage(func(_ forge, i *forged) { i.config.RootFS.DiffIDs = append(i.config.RootFS.DiffIDs, digestOfNothing) }),
		texts: []string{"the manifest has 1 layers", "2 diff IDs"},
	},
	"diff ID that is no digest": {
		make:  forgedImage(func(_ forge, i *forged) { i.config.RootFS.DiffIDs[0] = "sha256:../../x" }),
		texts: []string{"diff ID", "sha256:../../x"},
	},
	"index under a tag": {
		make: forgedImage(func(f forge, i *forged) {
			i.rawManifest = f.marshal(imgspecv1.Index{Versioned: i.manifest.Versioned, MediaType: imgspecv1.MediaTypeImageIndex, Manifests: i.manifest.Layers})
		}),
		texts: []string{"index of images"},
	},
	"config that is not the manifest's": {
		make: forgedImage(func(_ forge, i *forged) {
			i.manifest.Config = imgspecv1.Descriptor{MediaType: imgspecv1.MediaTypeImageConfig, Digest: digestOfNothing, Size: 100}
		}),
		texts: []string{"config " + digestOfNothing, "does not match its digest"},
	},
	"config that is no JSON": {
		make:  forgedImage(func(_ forge, i *forged) { i.rawConfig = []byte("{\n\n") }),
		texts: []string{"config sha256:", "unexpected end of JSON"},
	},
	"manifest that is no JSON": {
		make:  forgedImage(func(_ forge, i *forged) { i.rawManifest = []byte("\x1b[31m\n\n") }),
		texts: []string{"manifest sha256:", "invalid character"},
	},
	"manifest that does not hash to its name": {
		make:  forgedImage(func(_ forge, i *forged) { i.manifestDigest = digestOfNothing }),
		texts: []string{"manifest " + digestOfNothing, "does not match its digest", "name the image as @sha256:"},
	},
	"layer that does not hash to its diff ID": {
		make: forgedImage(func(f forge, i *forged) {
			i.add(digestOfNothing, f.stream("oci-layer-"+digestOfNothing, splitstream.Layer, tarOf(f.t, "file", nil), nil))
		}),
		texts: []string{"layer " + digestOfNothing, "does not match its digest"}, late: true,
	},
	"layer that is no tar": {
		make: forgedImage(func(f forge, i *forged) {
			data := []byte(strings.Repeat("this is no tar ", 100))
			d := digest.FromBytes(data)
			i.add(d, f.stream("oci-layer-"+d.String(), splitstream.Layer, data, nil))
		}),
		texts: []string{"tar"}, late: true, storageOnly: true,
	},
	"meta.json of version 2":                 {make: withMeta(`{"version":2,"algorithm":"fsverity-sha256-12"}`), texts: []string{"meta.json", "version 2, only 1 is known"}},
	"meta.json with an incompatible feature": {make: withMeta(`{"version":1,"algorithm":"fsverity-sha256-12","features":{"incompatible":["salted"]}}`), texts: []string{"meta.json", "unknown features", "salted"}},
	"meta.json that is no JSON":              {make: withMeta("version = 1"), texts: []string{"meta.json", "not a composefs repository"}},
	"meta.json of another algorithm":         {make: withMeta(`{"version":1,"algorithm":"md5"}`), texts: []string{"meta.json", "md5"}},
	"stream from before 2026": {
		make: fixture("hello", func(f forge) {
			e, err := zstd.NewWriter(nil)
			require.NoError(f.t, err)
			old := f.object(e.EncodeAll([]byte("chunks"), nil))
			f.link("streams/oci-manifest-"+helloManifest, "../"+objectPath(old))
		}),
		texts: []string{"before 2026"},
	},
}

// What the fixture hello is recognised by.
const (
	helloManifest = "sha256:c0a62f56137b0a5aa908d520815a8218ec58472826badadbddd45dfc24fddc3e"
	helloLayer    = "sha256:c91639bd9a886b61a23074f26e87ac5c64b0fef6cc6022b46ff0551f25a13146"
	helloText     = "hello from a composefs repository"
)

// fixture returns a maker of the name of an image in a fixture, after a change
// to the repository.
func fixture(name string, change func(forge)) func(testing.TB) string {
	return func(t testing.TB) string {
		f := forgeAt(t, "sha256")
		if change != nil {
			change(f)
		}
		return "[" + f.repo + "]" + name
	}
}

// forgedImage returns a maker of an image with one layer, after a change to it.
func forgedImage(change func(forge, *forged)) func(testing.TB) string {
	return func(t testing.TB) string {
		f := newForge(t)
		i := f.image(tarOf(t, "first", []byte("first")))
		change(f, i)
		f.tag("bad", i)
		return "[" + f.repo + "]bad"
	}
}

// withMeta returns a maker of a repository with another meta.json.
func withMeta(meta string) func(testing.TB) string {
	return fixture("hello", func(f forge) { f.put("meta.json", []byte(meta)) })
}

// Whatever is wrong, the message says so, nothing is left at the destination,
// and nothing has moved before, where it could be seen when the image was
// opened.
func TestBadInputIsRefused(t *testing.T) {
	for name, test := range badInput {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			from := "composefs:" + test.make(t)
			destinations := map[string]string{"dir": "image", "oci": "layout:x", "oci-archive": "image.tar:x", "docker-archive": "image.tar:x"}
			if test.storageOnly {
				destinations = nil
			}
			for transport, path := range destinations {
				t.Run(transport, func(t *testing.T) {
					dir := t.TempDir()
					got := copyImage(t, from, transport+":"+filepath.Join(dir, path))
					got.assertFailure(t, test.texts...)
					assert.Empty(t, namesIn(t, dir))
					assert.True(t, test.late || !strings.Contains(got.stdout, "Copying blob"), got.stdout)
				})
			}
			t.Run("containers-storage", func(t *testing.T) {
				s := newStore(t, t.TempDir())
				copyImage(t, from, s.image("x")).assertFailure(t, test.texts...)
				s.assertNoImage(t)
				assert.True(t, test.late || len(s.layers(t)) == 0)
			})
			if !test.late {
				t.Run("inspect", func(t *testing.T) {
					got := runCommand(t, "inspect", from)
					got.assertFailure(t, test.texts...)
					assert.Empty(t, got.stdout)
				})
			}
		})
	}
}

func TestRepositoryWithoutPermissionIsRefused(t *testing.T) {
	needRoot(t)
	for name, make := range map[string]func(forge) string{
		"repository": func(f forge) string { return f.repo },
		"objects":    func(f forge) string { return filepath.Join(f.repo, "objects") },
		"tags":       func(f forge) string { return filepath.Join(f.repo, "streams/refs/oci") },
		"an object":  func(f forge) string { return filepath.Join(f.repo, f.objectOf(helloText)) },
	} {
		t.Run(name, func(t *testing.T) {
			f := forgeAt(t, "sha256")
			searchable(t, f.repo)
			require.NoError(t, os.Chmod(make(f), 0))
			dir := t.TempDir()
			searchable(t, dir)
			require.NoError(t, os.Chmod(dir, 0o777))
			c := newCommand(t, "copy", "--insecure-policy", "composefs:["+f.repo+"]hello", "dir:"+dir+"/image")
			c.asUser(t, 65534, 65534)
			c.run(t).assertFailure(t, "permission denied")
			assert.Empty(t, namesIn(t, dir))
		})
	}
}

// asUser has the command run by another user.
func (c *command) asUser(t testing.TB, uid, gid int) {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "skopeo-cfs")
	require.NoError(t, os.Link(c.Path, binary))
	searchable(t, filepath.Dir(binary))
	searchable(t, c.tmp)
	require.NoError(t, os.Chown(c.tmp, uid, gid))
	c.Path, c.Dir = binary, "/"
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
}

// forgeAt returns the forge of a fixture.
func forgeAt(t testing.TB, name string) forge {
	t.Helper()
	return forge{t, fixtures.Unpack(t, name), algorithmOf(name)}
}
