package verify

import (
	"encoding/binary"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
)

func digestNumber(t testing.TB, n int) fsverity.Digest {
	t.Helper()
	raw := make([]byte, 64)
	binary.LittleEndian.PutUint64(raw, uint64(n))
	d, err := fsverity.FromBytes(raw)
	require.NoError(t, err)
	return d
}

func TestSet(t *testing.T) {
	s := newSet()
	a, b := digestNumber(t, 1), digestNumber(t, 2)
	assert.Zero(t, s.add(a, referenced))
	assert.Equal(t, referenced, s.add(a, claimed))
	assert.Equal(t, referenced|claimed, s.get(a))
	assert.True(t, s.is(a, claimed|damaged))
	assert.False(t, s.is(a, damaged))
	assert.Zero(t, s.get(b))
}

// However many objects there are, what is remembered of each takes some bytes.
func TestSetIsSmall(t *testing.T) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	s := newSet()
	const many = 250_000
	for i := range many {
		s.add(digestNumber(t, i), claimed)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	assert.Less(t, int64(after.HeapAlloc)-int64(before.HeapAlloc), int64(40*many))
	for i := range many {
		if s.get(digestNumber(t, i)) != claimed {
			t.Fatalf("%d is lost", i)
		}
	}
}
