// Package sqlitetable reads the rows of a table out of an SQLite database, and
// nothing else: there are no queries, no indexes, and nothing is written. It needs
// no file in the file system, only something that reads at offsets, and reads no
// more of a row than is asked for.
//
// The format is described at https://www.sqlite.org/fileformat2.html. Nothing in
// the database is trusted: what is held and what is read is bounded by its size.
package sqlitetable

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

var (
	// ErrFormat: it is no SQLite database, or of a kind that this package does not
	// know.
	ErrFormat = errors.New("not an SQLite database")
	// ErrCorrupt: the database contradicts itself or the format.
	ErrCorrupt = errors.New("corrupt SQLite database")
	// ErrNoTable: the database has no table of that name.
	ErrNoTable = errors.New("no such table in the SQLite database")
)

const (
	headerSize = 100
	magic      = "SQLite format 3\x00"
	utf8       = 1 // encoding of text; 0 in a database that has none
)

// File is an open database. It is not safe for concurrent use.
type File struct {
	r        io.ReaderAt
	pageSize int
	usable   int    // bytes of a page that SQLite itself uses
	pages    uint32 // number of pages
	wal      *wal   // nil where there is none

	ctx       context.Context // of the walk
	pagesLeft int64           // how many pages it may still read

	window   []byte // a run of pages that was read ahead
	windowAt int64  // its offset in the file
}

// windowSize is how many bytes are read at once: pages are asked for one by one,
// and mostly in order. It is a power of two, as the size of pages is.
const windowSize = 128 << 10

// Open opens the database of size bytes in r. If it has a write-ahead log, that is
// the walSize bytes in log, which may be nil. The caller keeps both open as long as
// the File is used, and closes them. The error wraps ErrFormat or ErrCorrupt, or is
// that of reading.
func Open(ctx context.Context, r io.ReaderAt, size int64, log io.ReaderAt, walSize int64) (*File, error) {
	header := make([]byte, headerSize)
	if size < headerSize {
		return nil, fmt.Errorf("%w: it has %d bytes", ErrFormat, size)
	}
	if err := readFull(r, header, 0); err != nil {
		return nil, err
	}
	f := &File{r: r, pageSize: pageSizeOf(header)}
	f.usable = f.pageSize - int(header[20])
	switch {
	case !bytes.HasPrefix(header, []byte(magic)):
		return nil, ErrFormat
	case f.pageSize < 512 || f.pageSize&(f.pageSize-1) != 0 || f.usable < 480:
		return nil, fmt.Errorf("%w: pages of %d bytes", ErrCorrupt, f.pageSize)
	case binary.BigEndian.Uint32(header[56:]) > utf8:
		return nil, fmt.Errorf("%w in UTF-8", ErrFormat)
	case header[18] > 2:
		return nil, fmt.Errorf("%w: version %d", ErrFormat, header[18])
	}
	pages := size / int64(f.pageSize)
	if log != nil && walSize > 0 {
		var err error
		if f.wal, err = readLog(ctx, log, walSize, f.pageSize); err != nil {
			return nil, err
		}
		if f.wal != nil {
			if int64(f.wal.pages) > pages+int64(len(f.wal.at)) {
				return nil, fmt.Errorf("%w: its write-ahead log makes it %d pages", ErrCorrupt, f.wal.pages)
			}
			pages = int64(f.wal.pages)
		}
	}
	if pages < 1 || pages > 1<<32-2 {
		return nil, fmt.Errorf("%w: it has %d pages", ErrCorrupt, pages)
	}
	f.pages = uint32(pages)
	return f, nil
}

func pageSizeOf(header []byte) int {
	if size := int(binary.BigEndian.Uint16(header[16:])); size != 1 {
		return size
	}
	return 1 << 16
}

// page returns the page with a number, valid until the next call.
func (f *File) page(number uint32) ([]byte, error) {
	if number < 1 || number > f.pages {
		return nil, fmt.Errorf("%w: page %d of %d", ErrCorrupt, number, f.pages)
	}
	if err := f.ctx.Err(); err != nil {
		return nil, err
	}
	if f.pagesLeft--; f.pagesLeft < 0 {
		return nil, fmt.Errorf("%w: pages that are in several places", ErrCorrupt)
	}
	if f.wal != nil {
		if page, err := f.wal.page(number); page != nil || err != nil {
			return page, err
		}
	}
	// Windows begin at multiples of their size: what is read may be checked in blocks.
	at := int64(number-1) * int64(f.pageSize)
	if from := at &^ (windowSize - 1); f.window == nil || from != f.windowAt {
		if err := f.move(from); err != nil {
			return nil, err
		}
	}
	in := int(at - f.windowAt)
	if in+f.pageSize > len(f.window) {
		return nil, fmt.Errorf("%w: it ends within page %d", ErrCorrupt, number)
	}
	return f.window[in : in+f.pageSize], nil
}

// move makes the window one that starts at an offset.
func (f *File) move(at int64) error {
	if f.window == nil {
		f.window = make([]byte, windowSize)
	}
	n, err := f.r.ReadAt(f.window[:windowSize], at)
	f.window, f.windowAt = f.window[:n], at
	if err != nil && !errors.Is(err, io.EOF) {
		f.window = nil
		return fmt.Errorf("reading the SQLite database: %w", err)
	}
	return nil
}

func readFull(r io.ReaderAt, to []byte, at int64) error {
	n, err := r.ReadAt(to, at)
	switch {
	case n == len(to):
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return fmt.Errorf("%w: it ends early", ErrCorrupt)
	}
	return fmt.Errorf("reading the SQLite database: %w", err)
}
