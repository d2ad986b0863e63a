package erofs

import (
	"errors"
	"io"
)

// heldBlocks is how many blocks of an image are held: inodes are in the order of the
// tree, more or less.
const heldBlocks = 256

// blocks is the content of an image.
type blocks struct {
	r    io.ReaderAt
	size int64
	held [heldBlocks]struct {
		number int64 // and one, 0 where nothing is held
		data   []byte
	}
}

// read fills p from an offset.
func (b *blocks) read(p []byte, offset int64) error {
	if offset < 0 || offset > b.size-int64(len(p)) {
		return invalid("something is at offset %d of %d bytes", offset, b.size)
	}
	for len(p) > 0 {
		block, err := b.block(offset >> blockBits)
		if err != nil {
			return err
		}
		n := copy(p, block[offset&(blockSize-1):])
		p = p[n:]
		offset += int64(n)
	}
	return nil
}

// block returns a block of the image, the last of which may be short. It is valid until
// the next call.
func (b *blocks) block(number int64) ([]byte, error) {
	held := &b.held[number%heldBlocks]
	if held.number == number+1 {
		return held.data, nil
	}
	if held.data == nil {
		held.data = make([]byte, blockSize)
	}
	data := held.data[:min(blockSize, b.size-number<<blockBits)]
	held.number = 0
	if n, err := b.r.ReadAt(data, number<<blockBits); n < len(data) {
		if err == nil || errors.Is(err, io.EOF) {
			err = invalid("it ends at block %d", number)
		}
		return nil, err
	}
	held.number, held.data = number+1, data
	return data, nil
}
