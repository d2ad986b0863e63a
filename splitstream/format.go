// Package splitstream reads and writes splitstreams. A composefs repository has a
// splitstream for each tar of a layer, each manifest and each config. It rebuilds the
// file, bit for bit, from bytes of its own and from the contents of objects, which it
// names by their fs-verity digests.
//
// A Reader returns the header of a splitstream, its Chunks, and, with a function that
// opens objects, the rebuilt file as a Content. A Writer makes splitstreams.
package splitstream

import (
	"encoding/binary"
	"fmt"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
)

// The file, all integers little-endian. A header of 32 bytes:
//
//	                              current  old layout
//	magic "SplitStream"                 0  18
//	version u8, 0                      11  29
//	flags u16, ignored                 12  16
//	verity hash u8                     14  30
//	log2 of the verity block size u8   15  31
//	info: range                        16   0
//
// The old layout is what a Rust compiler made of the same fields where nobody
// had told it to keep their order; importers shipped it until early 2026.
//
// A range is two u64, start and end, offsets in the file. The info section:
//
//	stream_refs: range     0  array of raw verity digests
//	object_refs: range    16  array of raw verity digests
//	stream: range         32  the chunks, zstd
//	named_refs: range     48  empty, or zstd of "INDEX:NAME\0"…, INDEX into stream_refs
//	content_type u64      64  eight ASCII bytes
//	stream_size u64       72  size of the file that is rebuilt
//	anything              80  for later versions
//
// Chunks: an i64 n; n < 0: -n inline bytes follow; n >= 0: the whole content of
// the object object_refs[n].
const (
	headerSize = 32
	infoSize   = 80
	version    = 0
)

var (
	magic     = []byte("SplitStream")
	zstdMagic = []byte{0x28, 0xB5, 0x2F, 0xFD}
)

// Type is the content type of a splitstream: what the file is that it rebuilds.
type Type [8]byte

// The content types in use.
var (
	Layer    = Type([]byte("ocilayer")) // an uncompressed tar
	Config   = Type([]byte("ociconfg")) // the config of an image
	Manifest = Type([]byte("ocimanif")) // the manifest of an image
	Blob     = Type([]byte("oci_blob")) // any other blob, as it was pulled
)

// String returns the type's eight bytes, quoted where they are not plain text.
func (t Type) String() string {
	if quoted := fmt.Sprintf("%q", t[:]); quoted != `"`+string(t[:])+`"` {
		return quoted
	}
	return string(t[:])
}

// section is a range of the file.
type section struct{ start, end int64 }

func (s section) size() int64 { return s.end - s.start }

// parseSection decodes the range at the start of raw and checks that it lies in
// a file of fileSize bytes.
func parseSection(raw []byte, fileSize int64) (section, error) {
	start, end := binary.LittleEndian.Uint64(raw), binary.LittleEndian.Uint64(raw[8:])
	if start > end || end > uint64(fileSize) {
		return section{}, fmt.Errorf("%w: range %d to %d in a file of %d bytes", ErrCorrupt, start, end, fileSize)
	}
	return section{int64(start), int64(end)}, nil
}

// header is what the first 32 bytes say.
type header struct {
	algorithm fsverity.Algorithm
	info      section
}
