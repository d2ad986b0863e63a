package unpack

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vbatts/tar-split/tar/storage"
)

// The record is, byte for byte, the one of tar-split's packer.
func TestPackerWritesWhatTarSplitWrites(t *testing.T) {
	var ours, theirs bytes.Buffer
	p, reference := newPacker(&ours), storage.NewJSONPacker(&theirs)
	names := []string{"a", "a/b", "./c", "/d", "<&>", "\u2028", "not UTF-8 \xff", "", "e//f"}
	for i, name := range names {
		entry := storage.Entry{Type: storage.FileType, Size: int64(i), Payload: []byte{1, 2, byte(i)}}
		entry.SetName(name)
		for _, e := range []storage.Entry{{Type: storage.SegmentType, Payload: []byte(name)}, entry} {
			require.NoError(t, p.add(e))
			_, err := reference.AddEntry(e)
			require.NoError(t, err)
		}
	}
	assert.Equal(t, theirs.String(), ours.String())
	for _, again := range []string{"a", "./a", "a/", "c", "not UTF-8 \xff", "e/f", "."} {
		entry := storage.Entry{Type: storage.FileType}
		entry.SetName(again)
		assert.ErrorIs(t, p.add(entry), ErrUnusual, again)
		_, err := reference.AddEntry(entry)
		assert.ErrorIs(t, err, storage.ErrDuplicatePath, again)
	}
}
