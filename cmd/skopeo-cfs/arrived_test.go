package main

import (
	"io"
	"testing"

	"github.com/containers/image/v5/manifest"
	"github.com/containers/image/v5/pkg/blobinfocache/none"
	"github.com/containers/image/v5/pkg/compression"
	"github.com/containers/image/v5/transports/alltransports"
	"github.com/containers/image/v5/types"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
)

// arrived is what an image is at its destination.
type arrived struct {
	manifest digest.Digest
	typ      string        // the manifest's media type
	config   digest.Digest // of the bytes
	layers   []digest.Digest
}

// readImage reads the whole of an image, whose layers it decompresses.
func readImage(t testing.TB, name string) arrived {
	t.Helper()
	ref, err := alltransports.ParseImageName(name)
	require.NoError(t, err)
	sys := &types.SystemContext{DockerInsecureSkipTLSVerify: types.OptionalBoolTrue}
	src, err := ref.NewImageSource(t.Context(), sys)
	require.NoError(t, err)
	defer src.Close()
	raw, typ, err := src.GetManifest(t.Context(), nil)
	require.NoError(t, err)
	m, err := manifest.FromBlob(raw, typ)
	require.NoError(t, err)
	infos, err := src.LayerInfosForCopy(t.Context(), nil)
	require.NoError(t, err)
	if infos == nil {
		for _, l := range m.LayerInfos() {
			infos = append(infos, l.BlobInfo)
		}
	}
	a := arrived{
		manifest: digest.FromBytes(raw), typ: typ,
		config: contentDigest(t, src, m.ConfigInfo(), false),
	}
	assert.Equal(t, m.ConfigInfo().Digest, a.config)
	for _, info := range infos {
		a.layers = append(a.layers, contentDigest(t, src, info, true))
	}
	return a
}

// contentDigest returns the digest of a blob's content.
func contentDigest(t testing.TB, src types.ImageSource, info types.BlobInfo, decompress bool) digest.Digest {
	t.Helper()
	blob, _, err := src.GetBlob(t.Context(), info, none.NoCache)
	require.NoError(t, err)
	defer blob.Close()
	var content io.ReadCloser = io.NopCloser(blob)
	if decompress {
		content, _, err = compression.AutoDecompress(blob)
		require.NoError(t, err)
	}
	defer content.Close()
	d, err := digest.FromReader(content)
	require.NoError(t, err)
	return d
}

// assertIs demands that what arrived has the digests of a fixture: the same
// config, and so the same image ID, and the same layers.
func (a arrived) assertIs(t testing.TB, want fixtures.Image) {
	t.Helper()
	assert.Equal(t, want.Config, a.config)
	var layers []digest.Digest
	for _, l := range want.Layers {
		layers = append(layers, l.DiffID)
	}
	for _, b := range want.Blobs {
		layers = append(layers, b.Digest)
	}
	assert.Equal(t, layers, a.layers)
}
