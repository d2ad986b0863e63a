package packages

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
)

// The database that rpm calls ndb, as SUSE's systems have it: pages of slots, each of
// which leads to a header. See lib/backend/ndb/rpmpkg.c of rpm.
const (
	ndbMagic      = "RpmP"
	ndbSlotMagic  = "Slot"
	ndbBlobMagic  = "BlbS"
	ndbSlotSize   = 16 // bytes
	ndbPageSize   = 4096
	ndbFirstSlot  = 2 * ndbSlotSize // the database's own header comes before
	ndbBlockSize  = 16              // what offsets are counted in, and the size of a blob's head
	ndbHeaderSize = 32
)

// readNDB calls visit with each header.
func readNDB(ctx context.Context, _ fs.FS, file *rpmFile, visit func(io.Reader) error) error {
	header := make([]byte, ndbHeaderSize)
	if _, err := file.ReadAt(header, 0); err != nil {
		return notCut(err)
	}
	version, pages := binary.LittleEndian.Uint32(header[4:]), int64(binary.LittleEndian.Uint32(header[12:]))
	switch {
	case string(header[:4]) != ndbMagic || version != 0:
		return fmt.Errorf("%w: not an ndb of version 0", ErrFormat)
	case pages*ndbPageSize > file.size:
		return fmt.Errorf("%w: %d pages of slots in %d bytes", ErrFormat, pages, file.size)
	}
	left := file.size // each header has its own place
	page := make([]byte, ndbPageSize)
	for number := range pages {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := file.ReadAt(page, number*ndbPageSize); err != nil {
			return notCut(err)
		}
		slots := page
		if number == 0 {
			slots = page[ndbFirstSlot:]
		}
		for ; len(slots) > 0; slots = slots[ndbSlotSize:] {
			size, err := readSlot(file, slots[:ndbSlotSize], visit)
			if err != nil {
				return err
			}
			if left -= size; left < 0 {
				return fmt.Errorf("%w: headers that overlap", ErrFormat)
			}
		}
	}
	return nil
}

// readSlot calls visit with the header that a slot leads to, and returns its size in
// bytes.
func readSlot(file *rpmFile, slot []byte, visit func(io.Reader) error) (int64, error) {
	index, offset := binary.LittleEndian.Uint32(slot[4:]), int64(binary.LittleEndian.Uint32(slot[8:]))*ndbBlockSize
	if string(slot[:4]) != ndbSlotMagic {
		return 0, fmt.Errorf("%w: not a slot", ErrFormat)
	}
	if index == 0 {
		return 0, nil // it is free
	}
	head := make([]byte, ndbBlockSize)
	if _, err := file.ReadAt(head, offset); err != nil {
		return 0, notCut(err)
	}
	size := int64(binary.LittleEndian.Uint32(head[12:]))
	if string(head[:4]) != ndbBlobMagic || binary.LittleEndian.Uint32(head[4:]) != index || size > file.size-offset {
		return 0, fmt.Errorf("%w: not a header of package %d", ErrFormat, index)
	}
	return size, visit(io.NewSectionReader(file, offset+ndbBlockSize, size))
}
