package sqlitetable

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxColumns is how many columns a table can have in SQLite.
const maxColumns = 32767

// Row is a row of a table, valid during the call that it was given to. Its columns
// are read in their order.
type Row struct {
	ID      int64
	columns []column
	next    int // column that the payload stands before
	payload *payload
}

type column struct {
	kind uint64 // SQLite's serial type
	size int64  // in bytes
}

// newRow reads which columns a row has.
func newRow(id int64, p *payload) (*Row, error) {
	var buffer [9]byte
	read, err := io.ReadFull(p, buffer[:min(9, p.size)])
	if err != nil {
		return nil, err
	}
	size, n := varint(buffer[:read])
	if n == 0 || size < uint64(n) || size > uint64(p.size) || size > 9*maxColumns {
		return nil, fmt.Errorf("%w: a row's header of %d bytes", ErrCorrupt, size)
	}
	header := make([]byte, size)
	p.unread(buffer[:read])
	if _, err := io.ReadFull(p, header); err != nil {
		return nil, err
	}
	row := &Row{ID: id, payload: p}
	left := p.size - int64(size)
	for header = header[n:]; len(header) > 0; {
		kind, n := varint(header)
		c := column{kind, 0}
		if c.size = sizeOf(kind); n == 0 || c.size < 0 || c.size > left {
			return nil, fmt.Errorf("%w: a column beyond its row", ErrCorrupt)
		}
		left -= c.size
		row.columns, header = append(row.columns, c), header[n:]
	}
	return row, nil
}

// sizeOf returns the size in bytes of what has a serial type, -1 if that is none.
func sizeOf(kind uint64) int64 {
	switch {
	case kind >= 12:
		return int64((kind - 12) / 2)
	case kind <= 4:
		return int64(kind)
	case kind == 5:
		return 6
	case kind <= 7:
		return 8
	case kind <= 9:
		return 0
	}
	return -1
}

// Blob returns the content of the column with an index, of text or a blob, and its
// size in bytes. Columns before it can't be read any more.
func (r *Row) Blob(index int) (io.Reader, int64, error) {
	c, err := r.seek(index)
	if err != nil {
		return nil, 0, err
	}
	if c.kind < 12 {
		return nil, 0, fmt.Errorf("%w: column %d is neither text nor a blob", ErrCorrupt, index)
	}
	return io.LimitReader(r.payload, c.size), c.size, nil
}

// text returns the content of a column as a string, "" where it has more than
// limit bytes.
func (r *Row) text(index int, limit int64) (string, error) {
	content, size, err := r.Blob(index)
	if err != nil || size > limit {
		return "", err
	}
	var b strings.Builder
	_, err = io.Copy(&b, content)
	return b.String(), err
}

// integer returns the content of a column as an integer.
func (r *Row) integer(index int) (int64, error) {
	c, err := r.seek(index)
	switch {
	case err != nil:
		return 0, err
	case c.kind == 8 || c.kind == 9:
		return int64(c.kind - 8), nil
	case c.kind < 1 || c.kind > 6:
		return 0, fmt.Errorf("%w: column %d is not an integer", ErrCorrupt, index)
	}
	var b [8]byte
	if _, err := io.ReadFull(r.payload, b[8-c.size:]); err != nil {
		return 0, err
	}
	shift := 64 - 8*uint(c.size)
	return int64(binary.BigEndian.Uint64(b[:])<<shift) >> shift, nil
}

// seek makes the payload stand before a column.
func (r *Row) seek(index int) (column, error) {
	if index < r.next || index >= len(r.columns) {
		return column{}, fmt.Errorf("%w: a row of %d columns", ErrCorrupt, len(r.columns))
	}
	for ; r.next < index; r.next++ {
		if _, err := io.CopyN(io.Discard, r.payload, r.columns[r.next].size); err != nil {
			return column{}, err
		}
	}
	r.next++
	return r.columns[index], nil
}

// payload is what is stored of a row: some bytes in the page of the table, and the
// rest in a chain of further pages.
type payload struct {
	file *File
	size int64  // of the whole
	rest []byte // what was got and not read yet
	next uint32 // page with what follows, 0 for none
}

// Read implements io.Reader. Nobody reads beyond size, so there is no io.EOF.
func (p *payload) Read(b []byte) (int, error) {
	if len(p.rest) == 0 {
		if p.next == 0 {
			return 0, fmt.Errorf("%w: a row that ends early", ErrCorrupt)
		}
		page, err := p.file.page(p.next)
		if err != nil {
			return 0, err
		}
		p.next = binary.BigEndian.Uint32(page)
		p.rest = page[4:p.file.usable]
	}
	n := copy(b, p.rest)
	p.rest = p.rest[n:]
	return n, nil
}

// unread puts back the bytes that were read first.
func (p *payload) unread(b []byte) {
	p.rest = append(append([]byte(nil), b...), p.rest...)
}

// schemaTextLimit is longer than the names of tables are here.
const schemaTextLimit = 4096

// errFound ends a walk.
var errFound = errors.New("found")

// Rows calls visit with every row of a table, in the order of their IDs. A table
// without IDs is ErrCorrupt. Rows returns the error of visit, or one that wraps
// ErrNoTable or ErrCorrupt, or ctx's, or that of reading.
func (f *File) Rows(ctx context.Context, table string, visit func(*Row) error) error {
	root, err := f.rootOf(ctx, table)
	if err != nil {
		return err
	}
	f.begin(ctx)
	return f.walk(root, 0, visit)
}

// begin begins a walk, which may read as many pages as there are: each has its
// place in one table.
func (f *File) begin(ctx context.Context) { f.ctx, f.pagesLeft = ctx, int64(f.pages) }

// rootOf returns the page that a table starts with.
func (f *File) rootOf(ctx context.Context, table string) (root uint32, err error) {
	const kindColumn, nameColumn, rootColumn = 0, 1, 3
	f.begin(ctx)
	err = f.walk(1, 0, func(r *Row) error {
		kind, err := r.text(kindColumn, schemaTextLimit)
		if err != nil || kind != "table" {
			return err
		}
		name, err := r.text(nameColumn, schemaTextLimit)
		if err != nil || !strings.EqualFold(name, table) {
			return err
		}
		number, err := r.integer(rootColumn)
		if err != nil {
			return err
		}
		if number < 1 || number > int64(f.pages) {
			return fmt.Errorf("%w: table %s at page %d of %d", ErrCorrupt, table, number, f.pages)
		}
		root = uint32(number)
		return errFound
	})
	switch {
	case errors.Is(err, errFound):
		return root, nil
	case err == nil:
		return 0, fmt.Errorf("%w: %s", ErrNoTable, table)
	}
	return 0, err
}
