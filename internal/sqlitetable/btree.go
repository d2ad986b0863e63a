package sqlitetable

import (
	"encoding/binary"
	"fmt"
	"math"
)

// The kinds of pages that make up a table.
const (
	interiorPage = 0x05
	leafPage     = 0x0d
)

// maxDepth is more levels than a table of 2^32 pages can have.
const maxDepth = 40

// walk calls visit with every row below a page, in the order of their IDs.
func (f *File) walk(number uint32, depth int, visit func(*Row) error) error {
	if depth > maxDepth {
		return fmt.Errorf("%w: a table of more than %d levels", ErrCorrupt, maxDepth)
	}
	shared, err := f.page(number)
	if err != nil {
		return err
	}
	page := append([]byte(nil), shared...) // rows have pages of their own, which take its place
	header := page
	if number == 1 {
		header = page[headerSize:]
	}
	cells := int(binary.BigEndian.Uint16(header[3:]))
	switch header[0] {
	case leafPage:
		return f.walkLeaf(page, header[8:], cells, visit)
	case interiorPage:
		pointers := header[12:]
		for i := range cells {
			cell, err := f.cell(page, pointers, i)
			if err != nil {
				return err
			}
			if len(cell) < 4 {
				return fmt.Errorf("%w: a cell beyond its page", ErrCorrupt)
			}
			if err := f.walk(binary.BigEndian.Uint32(cell), depth+1, visit); err != nil {
				return err
			}
		}
		return f.walk(binary.BigEndian.Uint32(header[8:]), depth+1, visit)
	}
	return fmt.Errorf("%w: page %d is of kind %d, not of a table", ErrCorrupt, number, header[0])
}

func (f *File) walkLeaf(page, pointers []byte, cells int, visit func(*Row) error) error {
	for i := range cells {
		cell, err := f.cell(page, pointers, i)
		if err != nil {
			return err
		}
		row, err := f.row(cell)
		if err == nil {
			err = visit(row)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// cell returns the page from its i-th cell on.
func (f *File) cell(page, pointers []byte, i int) ([]byte, error) {
	if 2*i+2 > len(pointers) {
		return nil, fmt.Errorf("%w: more cells than fit their page", ErrCorrupt)
	}
	at := int(binary.BigEndian.Uint16(pointers[2*i:]))
	if at >= f.usable {
		return nil, fmt.Errorf("%w: a cell beyond its page", ErrCorrupt)
	}
	return page[at:f.usable], nil
}

// row returns the row of a leaf's cell.
func (f *File) row(cell []byte) (*Row, error) {
	size, n := varint(cell)
	id, m := varint(cell[n:])
	if n == 0 || m == 0 || size > math.MaxInt64 {
		return nil, fmt.Errorf("%w: a row beyond its page", ErrCorrupt)
	}
	cell = cell[n+m:]
	payload := &payload{file: f, size: int64(size)}
	local := f.localSize(int64(size))
	switch {
	case int64(size) > int64(f.pages)*int64(f.usable):
		return nil, fmt.Errorf("%w: a row of %d bytes", ErrCorrupt, size)
	case local == int64(size) && local <= int64(len(cell)):
		payload.rest = cell[:local]
	case local+4 <= int64(len(cell)):
		payload.rest, payload.next = cell[:local], binary.BigEndian.Uint32(cell[local:])
	default:
		return nil, fmt.Errorf("%w: a row beyond its page", ErrCorrupt)
	}
	return newRow(int64(id), payload)
}

// localSize returns how many bytes of a payload are in its cell.
func (f *File) localSize(size int64) int64 {
	usable := int64(f.usable)
	most := usable - 35
	if size <= most {
		return size
	}
	least := (usable-12)*32/255 - 23
	if local := least + (size-least)%(usable-4); local <= most {
		return local
	}
	return least
}

// varint returns the integer that b starts with and the number of its bytes, 0
// where b ends before it does.
func varint(b []byte) (uint64, int) {
	var v uint64
	for i := range min(len(b), 9) {
		if i == 8 {
			return v<<8 | uint64(b[i]), 9
		}
		v = v<<7 | uint64(b[i]&0x7f)
		if b[i] < 0x80 {
			return v, i + 1
		}
	}
	return 0, 0
}
