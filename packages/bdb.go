package packages

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
)

// The database of Berkeley DB that rpm had before 2020: a hash table, whose larger
// values are in chains of pages of their own. See src/dbinc/db_page.h of Berkeley DB.
const (
	bdbMagic        = 0x061561
	bdbMetaSize     = 512 // bytes; all that is read of the first page
	bdbPageHeader   = 26  // bytes
	bdbUnsortedPage = 2
	bdbOverflowPage = 7
	bdbMetaPage     = 8
	bdbSortedPage   = 13
	bdbInPage       = 1 // kind of a value that is in the table's page
	bdbOffPage      = 3 // kind of one that is not
	bdbOffPageSize  = 12
)

// bdb is an open database.
type bdb struct {
	file     *rpmFile
	order    binary.ByteOrder
	pageSize int64
	pages    int64
	left     int64 // how many pages may still be read: each has its place
}

// readBDB calls visit with each header.
func readBDB(ctx context.Context, _ fs.FS, file *rpmFile, visit func(io.Reader) error) error {
	meta := make([]byte, bdbMetaSize)
	if _, err := file.ReadAt(meta, 0); err != nil {
		return notCut(err)
	}
	db := &bdb{file: file, order: binary.LittleEndian}
	if binary.BigEndian.Uint32(meta[12:]) == bdbMagic {
		db.order = binary.BigEndian
	}
	db.pageSize = int64(db.order.Uint32(meta[20:]))
	switch {
	case db.order.Uint32(meta[12:]) != bdbMagic || meta[25] != bdbMetaPage:
		return fmt.Errorf("%w: not a hash table of Berkeley DB", ErrFormat)
	case meta[24] != 0:
		return fmt.Errorf("%w: it is encrypted", ErrFormat)
	case db.pageSize < 512 || db.pageSize > 64<<10 || db.pageSize&(db.pageSize-1) != 0:
		return fmt.Errorf("%w: pages of %d bytes", ErrFormat, db.pageSize)
	}
	db.pages = file.size / db.pageSize
	db.left = 2 * db.pages
	page := make([]byte, db.pageSize)
	for number := int64(1); number < db.pages; number++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := db.read(page, number); err != nil {
			return err
		}
		if kind := page[25]; kind != bdbSortedPage && kind != bdbUnsortedPage {
			continue
		}
		if err := db.readTable(page, visit); err != nil {
			return err
		}
	}
	return nil
}

// read reads a page.
func (db *bdb) read(page []byte, number int64) error {
	if number < 1 || number >= db.pages {
		return fmt.Errorf("%w: page %d of %d", ErrFormat, number, db.pages)
	}
	if db.left--; db.left < 0 {
		return fmt.Errorf("%w: pages that are in several places", ErrFormat)
	}
	_, err := db.file.ReadAt(page, number*db.pageSize)
	return notCut(err)
}

// readTable calls visit with the headers in a page of the table.
func (db *bdb) readTable(page []byte, visit func(io.Reader) error) error {
	items := int(db.order.Uint16(page[20:]))
	for i := 1; i < items; i += 2 {
		key, err := db.item(page, i-1)
		if err != nil {
			return err
		}
		value, err := db.item(page, i)
		if err != nil {
			return err
		}
		switch {
		case string(key) == "\x01\x00\x00\x00\x00": // what numbers are given out is said there
		case value[0] == bdbInPage:
			err = visit(&bdbValue{rest: value[1:]})
		case value[0] == bdbOffPage && len(value) >= bdbOffPageSize:
			err = visit(&bdbValue{db: db, next: int64(db.order.Uint32(value[4:])), left: int64(db.order.Uint32(value[8:]))})
		default:
			err = fmt.Errorf("%w: a value of kind %d", ErrFormat, value[0])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// item returns a key or a value of a page: its kind, and what is in the page of it.
// The first is at the page's end, each next one before it.
func (db *bdb) item(page []byte, i int) ([]byte, error) {
	offset := func(i int) int {
		if i < 0 {
			return len(page)
		}
		at := bdbPageHeader + 2*i
		if at+2 > len(page) {
			return len(page)
		}
		return int(db.order.Uint16(page[at:]))
	}
	from, to := offset(i), offset(i-1)
	if from >= to || to > len(page) {
		return nil, fmt.Errorf("%w: a value beyond its page", ErrFormat)
	}
	return page[from:to], nil
}

// bdbValue reads a value.
type bdbValue struct {
	db   *bdb
	rest []byte // what was got and not read yet
	page []byte
	next int64 // the page with what follows
	left int64 // bytes to be got
}

// Read implements io.Reader.
func (v *bdbValue) Read(b []byte) (int, error) {
	for len(v.rest) == 0 {
		if v.left <= 0 {
			return 0, io.EOF
		}
		if v.page == nil {
			v.page = make([]byte, v.db.pageSize)
		}
		if err := v.db.read(v.page, v.next); err != nil {
			return 0, err
		}
		size := int64(v.db.order.Uint16(v.page[22:]))
		if v.page[25] != bdbOverflowPage || size > v.db.pageSize-bdbPageHeader {
			return 0, fmt.Errorf("%w: page %d has no value", ErrFormat, v.next)
		}
		v.next = int64(v.db.order.Uint32(v.page[16:]))
		v.rest = v.page[bdbPageHeader:][:min(size, v.left)]
		v.left -= size
	}
	n := copy(b, v.rest)
	v.rest = v.rest[n:]
	return n, nil
}
