package bootc

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const manifestHex = "c0a62f56137b0a5aa908d520815a8218ec58472826badadbddd45dfc24fddc3e"

func TestOriginOfEachForm(t *testing.T) {
	for text, want := range map[string]Image{
		"ostree-unverified-image:docker://quay.io/org/os:42":                        {"docker", "quay.io/org/os:42"},
		"ostree-unverified-image:registry:quay.io/org/os:42":                        {"docker", "quay.io/org/os:42"},
		"ostree-unverified-registry:quay.io/org/os:42":                              {"docker", "quay.io/org/os:42"},
		"ostree-unverified-registry:localhost:5000/os":                              {"docker", "localhost:5000/os"},
		"ostree-image-signed:docker://quay.io/org/os:42":                            {"docker", "quay.io/org/os:42"},
		"ostree-image-signed:docker://quay.io/org/os@sha256:" + manifestHex:         {"docker", "quay.io/org/os@sha256:" + manifestHex},
		"ostree-remote-image:fedora:docker://quay.io/org/os:42":                     {"docker", "quay.io/org/os:42"},
		"ostree-remote-image:fedora:registry:quay.io/org/os:42":                     {"docker", "quay.io/org/os:42"},
		"ostree-remote-registry:fedora:quay.io/org/os:42":                           {"docker", "quay.io/org/os:42"},
		"ostree-unverified-image:containers-storage:localhost/os:latest":            {"containers-storage", "localhost/os:latest"},
		"ostree-image-signed:containers-storage:localhost/os":                       {"containers-storage", "localhost/os"},
		"ostree-remote-image:r:containers-storage:localhost/os":                     {"containers-storage", "localhost/os"},
		"ostree-unverified-image:oci:/var/tmp/layout:42":                            {"oci", "/var/tmp/layout:42"},
		"ostree-unverified-image:oci-archive:/var/tmp/os.tar":                       {"oci-archive", "/var/tmp/os.tar"},
		"ostree-unverified-image:dir:/var/tmp/os;x#y = z":                           {"dir", "/var/tmp/os;x#y = z"},
		`ostree-unverified-image:oci:/a\`:                                           {"oci", `/a\`},
		`ostree-unverified-image:oci:/%(manifest_digest)s "quoted":'latest'`:        {"oci", `/%(manifest_digest)s "quoted":'latest'`},
		"ostree-unverified-image:docker://quay.io/org/os:42@sha256:" + manifestHex:  {"docker", "quay.io/org/os:42@sha256:" + manifestHex},
		"ostree-unverified-image:docker-daemon:os:42":                               {"docker-daemon", "os:42"},
		"ostree-unverified-image:containers-storage:[overlay@/var/lib/s]quay.io/os": {"containers-storage", "[overlay@/var/lib/s]quay.io/os"},
	} {
		t.Run(text, func(t *testing.T) {
			for _, line := range []string{
				"[origin]\ncontainer-image-reference=" + text + "\n",
				"# bootc\r\n[origin]\r\nother = x\r\ncontainer-image-reference = " + text + " \r\n[more]\r\n",
			} {
				o, err := parseOrigin([]byte(line + "[boot]\nboot_type=uki\ndigest=00ff\n[image]\nmanifest_digest = sha256:" + manifestHex))
				require.NoError(t, err)
				assert.Equal(t, origin{image: want, manifestDigest: "sha256:" + manifestHex, bootType: UKI, bootDigest: "00ff"}, o)
			}
		})
	}
}

func TestOriginOfGarbage(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":           "",
		"no section":        "container-image-reference=ostree-unverified-registry:os",
		"no key":            "[origin]\nrefspec=fedora:x\n",
		"no INI":            "\x00\xff\x7fELF",
		"a broken section":  "[origin\ncontainer-image-reference=ostree-unverified-registry:os",
		"no reference":      "[origin]\ncontainer-image-reference=\n",
		"another form":      "[origin]\ncontainer-image-reference=docker://quay.io/os",
		"no transport":      "[origin]\ncontainer-image-reference=ostree-unverified-image:quay.io/os",
		"no name":           "[origin]\ncontainer-image-reference=ostree-unverified-image:docker://",
		"no remote":         "[origin]\ncontainer-image-reference=ostree-remote-image:docker://quay.io/os",
		"an empty remote":   "[origin]\ncontainer-image-reference=ostree-remote-registry::quay.io/os",
		"a wrong digest":    "[origin]\ncontainer-image-reference=ostree-unverified-registry:os\n[image]\nmanifest_digest=sha256:../../x",
		"a wrong boot type": "[origin]\ncontainer-image-reference=ostree-unverified-registry:os\n[boot]\nboot_type=floppy",
		"an open quote":     "[origin]\ncontainer-image-reference=`ostree-unverified-registry:os",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseOrigin([]byte(text))
			assert.ErrorIs(t, err, ErrOrigin)
		})
	}
}

// What else an origin says is known even where one part of it is wrong.
func TestOriginIsReadAsFarAsItGoes(t *testing.T) {
	o, err := parseOrigin([]byte("[origin]\ncontainer-image-reference=quay.io/os\n[image]\nmanifest_digest=sha256:" + manifestHex))
	require.ErrorIs(t, err, ErrOrigin)
	assert.Equal(t, "sha256:"+manifestHex, o.manifestDigest.String())
}

func TestImageInfo(t *testing.T) {
	m, err := parseImageInfo([]byte(`{"config":{},"manifest":{"schemaVersion":2}}`))
	require.NoError(t, err)
	assert.JSONEq(t, `{"schemaVersion":2}`, string(m))
	for _, text := range []string{"", "x", "[]", "{}", `{"manifest":null}`} {
		_, err := parseImageInfo([]byte(text))
		assert.ErrorIs(t, err, ErrOrigin, text)
	}
}

func FuzzOrigin(f *testing.F) {
	f.Add([]byte("[origin]\ncontainer-image-reference=ostree-unverified-image:docker://quay.io/os\n[boot]\nboot_type=bls\n[image]\nmanifest_digest=sha256:" + manifestHex))
	f.Add([]byte("[a.b]\nx=`y\n\"\"\"z\"\"\"=1\n[\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := parseOrigin(data)
		if err == nil && (o.image.Name == "" || o.image.Transport == "") {
			t.Errorf("no image and no error: %+v", o)
		}
		if o.manifestDigest != "" && o.manifestDigest.Validate() != nil {
			t.Errorf("accepted digest %q", o.manifestDigest)
		}
	})
}

func FuzzImageInfo(f *testing.F) {
	f.Add([]byte(`{"config":{},"manifest":{"schemaVersion":2,"config":{"digest":"sha256:00"}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parseImageInfo(data)
		if err == nil && len(m) == 0 {
			t.Error("no manifest and no error")
		}
		configOf(m)
	})
}
