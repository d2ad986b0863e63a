package splitstream_test

import (
	"bytes"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/splitstream"
)

func TestObjectRefsAreThoseOfTheChunks(t *testing.T) {
	for _, pieces := range []int{0, 1, 3, 511, 512, 513, 3000} {
		o := objects{}
		file, _ := write(t, o, manyPieces(pieces)...)
		got := map[fsverity.Digest]bool{}
		require.NoError(t, mustReader(t, file).ObjectRefs(func(d fsverity.Digest) error {
			assert.False(t, got[d], "twice")
			got[d] = true
			return nil
		}))
		assert.Len(t, got, len(o))
		for d := range o {
			assert.True(t, got[d])
		}
	}
}

func TestObjectRefsEndWithAnError(t *testing.T) {
	file, _ := write(t, objects{}, manyPieces(2000)...)
	calls := 0
	err := mustReader(t, file).ObjectRefs(func(fsverity.Digest) error { calls++; return os.ErrPermission })
	assert.ErrorIs(t, err, os.ErrPermission)
	assert.Equal(t, 1, calls)

	r, err := splitstream.NewReader(failingReaderAt{bytes.NewReader(file), 20_000}, int64(len(file)), fsverity.SHA256)
	require.NoError(t, err)
	assert.ErrorIs(t, r.ObjectRefs(func(fsverity.Digest) error { return nil }), errIO)
}
