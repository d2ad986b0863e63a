package tarend

import (
	"archive/tar"
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// newTar returns a tar with entries of many kinds, and where its end begins.
func newTar(t *testing.T) (data []byte, end int) {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []*tar.Header{
		{Name: "dir/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "zeros", Mode: 0o644, Size: 3000},
		{Name: "/" + strings.Repeat("long", 100), Mode: 0o644, Size: 1, Format: tar.FormatGNU},
		{Name: "link", Typeflag: tar.TypeSymlink, Linkname: strings.Repeat("far", 100), Format: tar.FormatPAX},
		{Name: "more zeros", Mode: 0o644, Size: 2048, PAXRecords: map[string]string{"user.x": "y"}},
	} {
		require.NoError(t, w.WriteHeader(h))
		_, err := w.Write(make([]byte, h.Size))
		require.NoError(t, err)
	}
	require.NoError(t, w.Flush())
	end = b.Len()
	require.NoError(t, w.Close())
	return b.Bytes(), end
}

// Wherever a tar is cut, its end is missing, also where it is cut among zeros.
func TestIsMissing(t *testing.T) {
	data, end := newTar(t)
	require.Equal(t, end+1024, len(data))
	for n := range data {
		require.True(t, IsMissing(bytes.NewReader(data[:n])), "%d of %d bytes", n, len(data))
	}
	for _, after := range []int{0, 1, 512, 8192} {
		whole := append(bytes.Clone(data), make([]byte, after)...)
		assert.False(t, IsMissing(bytes.NewReader(whole)))
		assert.False(t, IsMissing(iotest.DataErrReader(bytes.NewReader(whole))))
		assert.False(t, IsMissing(iotest.OneByteReader(bytes.NewReader(whole))))
	}
}

func TestWhatIsNoTarHasNothingMissing(t *testing.T) {
	data, _ := newTar(t)
	assert.False(t, IsMissing(strings.NewReader(strings.Repeat("no tar ", 1000))))
	assert.False(t, IsMissing(io.MultiReader(bytes.NewReader(data[:2000]), iotest.ErrReader(io.ErrClosedPipe))))
}
