package unpack_test

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/internal/needs"
	"github.com/skopeo-cfs/skopeo-cfs/zerocopy/unpack"
)

// manyFiles is a feed of so many small files, each in its own piece.
type manyFiles struct {
	pieces
	t    testing.TB
	left int
	heap uint64 // in bytes, when the last of them was read
}

func (m *manyFiles) Next() (unpack.Piece, error) {
	if m.left == 0 {
		m.heap = heap()
		return unpack.Piece{}, io.EOF
	}
	m.left--
	content := makeTar(m.t, file(fmt.Sprintf("usr/share/a/directory-%d/subdirectory/file-number-%d.txt", m.left/50, m.left), "a small file\n"))
	return unpack.Piece{Inline: bytes.TrimSuffix(content, make([]byte, 1024))}, nil // but for its end
}

// heap returns how many bytes of the heap are in use.
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// Most of what a file takes is its path, which tar-split keeps.
func TestAFileTakesLittleMemory(t *testing.T) {
	needs.Root(t)
	const files = 12_000
	feed := &manyFiles{t: t, left: files}
	before := heap()
	result, err := unpack.Layer(t.Context(), feed, within(t), unpack.Options{TempDir: t.TempDir()})
	require.NoError(t, err)
	defer result.TarSplit.Close()
	each := (float64(feed.heap) - float64(before)) / files
	t.Logf("%.0f bytes a file", each)
	assert.Less(t, each, 100.0)
}
