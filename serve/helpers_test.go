package serve_test

import (
	"archive/tar"
	"bytes"
	"testing"

	"github.com/opencontainers/image-spec/specs-go"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/splitstream"
)

var versioned = specs.Versioned{SchemaVersion: 2}

var blobType = splitstream.Blob

// tarOf returns a tar with one file.
func tarOf(t testing.TB, name string, content []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	out := tar.NewWriter(&b)
	require.NoError(t, out.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))}))
	_, err := out.Write(content)
	require.NoError(t, err)
	require.NoError(t, out.Close())
	return b.Bytes()
}
