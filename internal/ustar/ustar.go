// Package ustar knows the headers of tars: it reads those that need nothing but their own
// block, as archive/tar reads them and several times as fast, and tells of any what is not
// in archive/tar's interface.
package ustar

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"strings"
	"time"
)

// BlockSize is the size of a tar's blocks, in bytes.
const BlockSize = 512

// Padding returns how many bytes follow a content of size bytes, up to the next block.
func Padding(size int64) int64 { return -size & (BlockSize - 1) }

// IsSparse tells whether a tar has less of an entry's file than the file.
func IsSparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// IsHeaderOnly tells whether entries of a type have no content, whatever their headers
// say. That of a global header archive/tar has read with the header.
func IsHeaderOnly(typeflag byte) bool {
	switch typeflag {
	case tar.TypeLink, tar.TypeSymlink, tar.TypeChar, tar.TypeBlock, tar.TypeDir, tar.TypeFifo, tar.TypeXGlobalHeader:
		return true
	}
	return false
}

// Reader reads headers. The zero Reader is ready to use, by one goroutine.
type Reader struct {
	uname, gname string // of the last header, which is often the next one's
}

// Read sets header to what archive/tar would make of the block, if the block is the
// plain header, of the formats ustar, PAX or GNU, of a file, directory, link, device or
// pipe: all ASCII, with numbers in octal, and no older or stranger way of saying
// anything. Otherwise it returns false, and header is not to be used. That no block
// for extended attributes, long names and the like came before is the caller's to know.
func (r *Reader) Read(block *[BlockSize]byte, header *tar.Header) bool {
	sum, ok := checksum(block)
	if !ok {
		return false
	}
	typeflag := block[156]
	if typeflag < tar.TypeReg || typeflag > tar.TypeFifo {
		return false
	}
	format, ok := formatOf(block)
	if !ok {
		return false
	}
	fields := numbers{ok: true, ended: format == tar.FormatUSTAR}
	*header = tar.Header{
		Typeflag: typeflag,
		Mode:     fields.next(block[100:108]),
		Uid:      int(fields.next(block[108:116])),
		Gid:      int(fields.next(block[116:124])),
		Size:     fields.next(block[124:136]),
		ModTime:  time.Unix(fields.next(block[136:148]), 0),
		Devmajor: fields.next(block[329:337]),
		Devminor: fields.next(block[337:345]),
		Format:   format,
	}
	fields.ended = false // GNU tar ends a checksum with a space
	if stated := fields.next(block[148:156]); stated != sum || !fields.ok {
		return false
	}
	header.Name = name(block, format)
	header.Linkname = string(text(block[157:257]))
	header.Uname = again(&r.uname, text(block[265:297]))
	header.Gname = again(&r.gname, text(block[297:329]))
	return true
}

// checksum returns the sum of the block's bytes, with spaces where the checksum itself
// is; false where there is a byte that is not ASCII.
func checksum(block *[BlockSize]byte) (int64, bool) {
	const odd = 0x00ff00ff00ff00ff
	var lanes, all uint64 // of four sums, of 64 times 2 ASCII characters at most
	for i := 0; i < BlockSize; i += 8 {
		word := binary.LittleEndian.Uint64(block[i:])
		all |= word
		lanes += word&odd + word>>8&odd
	}
	sum := int64(lanes&0xffff + lanes>>16&0xffff + lanes>>32&0xffff + lanes>>48)
	for _, c := range block[148:156] {
		sum += ' ' - int64(c)
	}
	return sum, all&0x8080808080808080 == 0
}

// formatOf returns the format that archive/tar tells of a header without a PAX header:
// ustar or GNU; false for others, and where GNU's has more fields than ustar's.
func formatOf(block *[BlockSize]byte) (tar.Format, bool) {
	switch magic := string(block[257:265]); {
	case magic[:6] == "ustar\x00":
		return tar.FormatUSTAR, string(block[508:]) != "tar\x00"
	case magic == "ustar  \x00":
		return tar.FormatGNU, block[345] == 0 && block[357] == 0
	}
	return tar.FormatUnknown, false
}

// numbers reads octal numbers.
type numbers struct {
	ok    bool // all were
	ended bool // a NUL must be the last byte
}

// next reads a field: digits, and NULs or spaces after them. No digit is 0.
func (n *numbers) next(field []byte) int64 {
	var value int64
	digits := 0
	for ; digits < len(field) && '0' <= field[digits] && field[digits] <= '7'; digits++ {
		value = value<<3 | int64(field[digits]-'0')
	}
	for _, c := range field[digits:] {
		n.ok = n.ok && (c == 0 || c == ' ')
	}
	if n.ended && field[len(field)-1] != 0 {
		n.ok = false
	}
	return value
}

func name(block *[BlockSize]byte, format tar.Format) string {
	name := text(block[:100])
	if format == tar.FormatUSTAR {
		if prefix := text(block[345:500]); len(prefix) > 0 {
			return string(prefix) + "/" + string(name)
		}
	}
	return string(name)
}

// text returns a field up to the first NUL.
func text(field []byte) []byte {
	if end := bytes.IndexByte(field, 0); end >= 0 {
		return field[:end]
	}
	return field
}

// again returns a text, which is the last one if that says the same.
func again(last *string, text []byte) string {
	if *last != string(text) {
		*last = string(text)
	}
	return *last
}
