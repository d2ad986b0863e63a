package sqlitetable

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// wal is a write-ahead log: pages that take the place of the database's. It is there
// where the last to use the database could not end in order.
type wal struct {
	r        io.ReaderAt
	pageSize int
	pages    uint32 // number of pages of the database, with the log
	at       map[uint32]int64
	buffer   []byte
}

const (
	logHeaderSize   = 32
	frameHeaderSize = 24
	logMagic        = 0x377f0682 // the last bit tells the order of bytes in checksums
	logVersion      = 3007000
	logLimit        = 1 << 30 // bytes; SQLite ends a log of 4 MB when it can
)

// readLog reads which pages a log has. It returns nil where it has none that are
// valid, as where it was written for an earlier state of the database.
func readLog(ctx context.Context, r io.ReaderAt, size int64, pageSize int) (*wal, error) {
	if size > logLimit {
		return nil, fmt.Errorf("%w: a write-ahead log of %d bytes", ErrFormat, size)
	}
	buffered := bufio.NewReaderSize(io.NewSectionReader(r, 0, size), windowSize)
	header := make([]byte, logHeaderSize)
	if ended, err := readFrame(buffered, header); ended || err != nil {
		return nil, err
	}
	sum := checksum{order: binary.LittleEndian}
	if header[3]&1 != 0 {
		sum.order = binary.BigEndian
	}
	sum.add(header[:24])
	switch word := func(i int) uint32 { return binary.BigEndian.Uint32(header[4*i:]) }; {
	case word(0)&^1 != logMagic || !sum.is(header[24:]):
		return nil, nil // what SQLite itself takes for no log
	case word(1) != logVersion || int(word(2)) != pageSize:
		return nil, fmt.Errorf("%w: a write-ahead log of version %d, with pages of %d bytes", ErrFormat, word(1), word(2))
	}
	return readFrames(ctx, &wal{r: r, pageSize: pageSize, at: map[uint32]int64{}}, buffered, header[16:24], sum)
}

// readFrames reads a log from its first frame on. Only what is before a frame that
// ends a transaction counts.
func readFrames(ctx context.Context, w *wal, r io.Reader, salt []byte, sum checksum) (*wal, error) {
	pending := map[uint32]int64{}
	frame := make([]byte, frameHeaderSize+w.pageSize)
	for at := int64(logHeaderSize); ; at += int64(len(frame)) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		ended, err := readFrame(r, frame)
		if err != nil {
			return nil, err
		}
		number := binary.BigEndian.Uint32(frame)
		sum.add(frame[:8])
		sum.add(frame[frameHeaderSize:])
		if ended || number == 0 || string(frame[8:16]) != string(salt) || !sum.is(frame[16:]) {
			break
		}
		pending[number] = at + frameHeaderSize
		if pages := binary.BigEndian.Uint32(frame[4:]); pages != 0 {
			w.pages = pages
			for number, at := range pending {
				w.at[number] = at
			}
			clear(pending)
		}
	}
	if w.pages == 0 {
		return nil, nil
	}
	return w, nil
}

// readFrame fills b, and tells whether the log has ended before it was full.
func readFrame(r io.Reader, b []byte) (ended bool, err error) {
	_, err = io.ReadFull(r, b)
	switch {
	case err == nil:
		return false, nil
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return true, nil
	}
	return false, fmt.Errorf("reading the write-ahead log: %w", err)
}

// page returns a page, or nil where the log has it not.
func (w *wal) page(number uint32) ([]byte, error) {
	at, ok := w.at[number]
	if !ok {
		return nil, nil
	}
	if w.buffer == nil {
		w.buffer = make([]byte, w.pageSize)
	}
	return w.buffer, readFull(w.r, w.buffer, at)
}

// checksum is that of a log, over all that was added to it.
type checksum struct {
	order  binary.ByteOrder
	s0, s1 uint32
}

// add adds b, which has a multiple of 8 bytes.
func (c *checksum) add(b []byte) {
	for ; len(b) >= 8; b = b[8:] {
		c.s0 += c.order.Uint32(b) + c.s1
		c.s1 += c.order.Uint32(b[4:]) + c.s0
	}
}

// is tells whether it is the checksum that b starts with.
func (c *checksum) is(b []byte) bool {
	return binary.BigEndian.Uint32(b) == c.s0 && binary.BigEndian.Uint32(b[4:]) == c.s1
}
