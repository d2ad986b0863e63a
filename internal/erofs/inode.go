package erofs

import (
	"encoding/binary"
	"math"
)

// Values in an inode.
const (
	compactSize  = 32 // bytes
	extendedSize = 64

	// Of the format: a bit of inodes that have extendedSize, and the layout of data.
	extended     = 1
	layoutMask   = 0b1110
	layoutPlain  = 0 // in blocks
	layoutInline = 4 // in blocks, but for what does not fill one, which is behind the inode
	layoutChunks = 8 // elsewhere

	modeMask      = 0o170000
	modeDirectory = 0o040000
	modeRegular   = 0o100000
	modeLink      = 0o120000
	modeDevice    = 0o020000 // of characters
)

// inode is what of an inode is looked at.
type inode struct {
	number uint64
	offset int64 // in the image
	header int64 // its size, in bytes
	format uint16
	mode   uint16
	size   int64  // of the file
	u      uint32 // the first block of the data, or a device's number
	xattrs int64  // the size of the extended attributes behind the header
}

// inode reads an inode.
func (i *image) inode(number uint64) (inode, error) {
	if number >= uint64(i.size/slotSize) {
		return inode{}, invalid("inode %d of %d bytes", number, i.size)
	}
	n := inode{number: number, offset: int64(number) * slotSize, header: compactSize}
	var raw [extendedSize]byte
	if err := i.read(raw[:compactSize], n.offset); err != nil {
		return inode{}, err
	}
	le := binary.LittleEndian
	n.format = le.Uint16(raw[0:])
	n.size, n.u = int64(le.Uint32(raw[8:])), le.Uint32(raw[16:])
	if n.format&extended != 0 {
		n.header = extendedSize
		if err := i.read(raw[:], n.offset); err != nil {
			return inode{}, err
		}
		size := le.Uint64(raw[8:])
		if size > math.MaxInt64 {
			return inode{}, invalid("inode %d: a file of %d bytes", number, size)
		}
		n.size = int64(size)
	}
	n.mode = le.Uint16(raw[4:])
	if count := int64(le.Uint16(raw[2:])); count > 0 {
		n.xattrs = xattrBodySize + (count-1)*4
	}
	switch n.format & layoutMask {
	case layoutChunks:
	case layoutPlain, layoutInline:
		if n.size > i.size && n.is(modeDirectory) {
			return inode{}, invalid("inode %d: a directory of %d bytes", number, n.size)
		}
	default:
		return inode{}, invalid("inode %d: format %#x", number, n.format)
	}
	if n.tail()+n.inlineSize() > i.size {
		return inode{}, invalid("inode %d reaches beyond the image", number)
	}
	return n, nil
}

// is tells whether the file is of the type that a mode has.
func (n inode) is(mode uint16) bool { return n.mode&modeMask == mode }

// isWhiteout tells whether the file is a whiteout of overlayfs.
func (n inode) isWhiteout() bool { return n.is(modeDevice) && n.u == 0 }

// tail is where the data are that are behind the inode.
func (n inode) tail() int64 { return n.offset + n.header + n.xattrs }

// inlineSize is how many bytes of the data are behind the inode.
func (n inode) inlineSize() int64 {
	if n.format&layoutMask != layoutInline {
		return 0
	}
	return n.size % blockSize
}

// dataBlocks are the numbers of the blocks with the data, first and behind the last.
func (n inode) dataBlocks() (first, end int64) {
	first = int64(n.u)
	switch n.format & layoutMask {
	case layoutPlain:
		return first, first + (n.size+blockSize-1)/blockSize
	case layoutInline:
		return first, first + n.size/blockSize
	}
	return first, first
}

// straddles tells whether it is a symlink that kernels before 6.12 refuse, since what
// is behind the inode reaches into the next block.
func (n inode) straddles() bool {
	return n.is(modeLink) && n.inlineSize() > 0 && n.offset%blockSize+n.header+n.xattrs+n.inlineSize() > blockSize
}
