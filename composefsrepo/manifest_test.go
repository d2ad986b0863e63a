package composefsrepo

import (
	"testing"

	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
)

const (
	configPart  = `"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:fb2ac53b70d375cdcc5868388ea2dcdb839bcc0d23a7c508cf635b728cdb271c","size":2}`
	dockerPart  = `"config":{"mediaType":"application/vnd.docker.container.image.v1+json","digest":"sha256:fb2ac53b70d375cdcc5868388ea2dcdb839bcc0d23a7c508cf635b728cdb271c","size":2}`
	layersPart  = `"layers":[]`
	versionPart = `"schemaVersion":2`
)

func TestMediaTypeOfAManifest(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"OCI":             {`{` + versionPart + `,"mediaType":"application/vnd.oci.image.manifest.v1+json",` + configPart + `,` + layersPart + `}`, imgspecv1.MediaTypeImageManifest},
		"OCI unsaid":      {`{` + versionPart + `,` + configPart + `,` + layersPart + `}`, imgspecv1.MediaTypeImageManifest},
		"Docker":          {`{` + versionPart + `,"mediaType":"` + dockerManifest + `",` + dockerPart + `,` + layersPart + `}`, dockerManifest},
		"Docker unsaid":   {`{` + versionPart + `,` + dockerPart + `,` + layersPart + `}`, dockerManifest},
		"with a subject":  {`{` + versionPart + `,` + configPart + `,` + layersPart + `,"subject":{"digest":"x"}}`, imgspecv1.MediaTypeImageManifest},
		"with a new part": {`{` + versionPart + `,` + configPart + `,` + layersPart + `,"new":[1]}`, imgspecv1.MediaTypeImageManifest},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := parseManifest([]byte(test.text))
			require.NoError(t, err)
			assert.Equal(t, test.want, m.MediaType)
		})
	}
}

func TestWhatIsNoManifestIsRefused(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":          ``,
		"no JSON":          `manifest`,
		"an index":         `{` + versionPart + `,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`,
		"an index unsaid":  `{` + versionPart + `,"manifests":[]}`,
		"a Docker list":    `{` + versionPart + `,"mediaType":"application/vnd.docker.distribution.manifest.list.v2+json","manifests":[]}`,
		"both":             `{` + versionPart + `,"mediaType":"application/vnd.oci.image.manifest.v1+json",` + configPart + `,` + layersPart + `,"manifests":[]}`,
		"schema 1":         `{"schemaVersion":1,"fsLayers":[]}`,
		"both schemas":     `{` + versionPart + `,"fsLayers":[],` + configPart + `,` + layersPart + `}`,
		"no version":       `{` + configPart + `,` + layersPart + `}`,
		"another type":     `{` + versionPart + `,"mediaType":"text/plain",` + configPart + `,` + layersPart + `}`,
		"no config":        `{` + versionPart + `,` + layersPart + `}`,
		"digest of config": `{` + versionPart + `,"config":{"digest":"sha256:../../x","size":2},` + layersPart + `}`,
		"digest of layer":  `{` + versionPart + `,` + configPart + `,"layers":[{"digest":"sha256:0","size":1}]}`,
		"negative size":    `{` + versionPart + `,` + configPart + `,"layers":[{"digest":"sha256:fb2ac53b70d375cdcc5868388ea2dcdb839bcc0d23a7c508cf635b728cdb271c","size":-1}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseManifest([]byte(text))
			assert.ErrorIs(t, err, ErrInvalidImage)
		})
	}
}

func TestWhatIsNoDiffIDIsRefused(t *testing.T) {
	for _, text := range []string{`x`, `{"rootfs":[]}`, `{"rootfs":{"diff_ids":["sha256:00"]}}`, `{"rootfs":{"diff_ids":["../../x"]}}`, `{"rootfs":{"diff_ids":[""]}}`} {
		_, err := parseDiffIDs([]byte(text))
		assert.ErrorIs(t, err, ErrInvalidImage, text)
	}
	ids, err := parseDiffIDs([]byte(`{}`))
	require.NoError(t, err)
	assert.Empty(t, ids)
}

// documents returns the manifests and configs of a fixture.
func documents(f *testing.F) (manifests, configs [][]byte) {
	repo, err := Open(f.Context(), fixtures.Unpack(f, "sha512"), nil)
	require.NoError(f, err)
	defer repo.Close()
	for _, want := range fixtures.Layouts(f, "sha512") {
		image, err := repo.ImageByDigest(f.Context(), want.Manifest)
		require.NoError(f, err)
		manifests, configs = append(manifests, image.Manifest), append(configs, image.Config)
	}
	return manifests, configs
}

func FuzzManifest(f *testing.F) {
	manifests, _ := documents(f)
	for _, m := range manifests {
		f.Add(m)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parseManifest(data)
		if err != nil {
			return
		}
		for _, d := range append(m.Layers, m.Config) {
			if d.Digest.Validate() != nil || d.Size < 0 {
				t.Errorf("accepted descriptor %+v", d)
			}
		}
	})
}

func FuzzConfig(f *testing.F) {
	_, configs := documents(f)
	for _, c := range configs {
		f.Add(c)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		diffIDs, err := parseDiffIDs(data)
		if err != nil {
			return
		}
		for _, d := range diffIDs {
			if err := d.Validate(); err != nil {
				t.Errorf("accepted diff ID %q", d)
			}
		}
	})
}
