// Package erofs reads the EROFS images of composefs: which objects of a repository
// their files are in. Those images have the metadata of a tree and nothing else; a
// file whose content is in an object names it in extended attributes of overlayfs.
//
// The format is that of Linux's fs/erofs/erofs_fs.h, of which composefs uses a part:
// neither compression nor other devices. An image is read in blocks, and a few of them
// are held, however large it is.
package erofs

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
)

// ErrInvalid: it is no EROFS image as composefs has them.
var ErrInvalid = errors.New("not a valid EROFS image of composefs")

// invalid returns an ErrInvalid that says why.
func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}

// Objects checks the structure of the image of size bytes in r, and calls visit with
// the objects that its files are in, some of them more than once. It ends with the
// first error: visit's, ctx's, that of reading, or one that wraps ErrInvalid.
func Objects(ctx context.Context, r io.ReaderAt, size int64, a fsverity.Algorithm, visit func(fsverity.Digest) error) error {
	image, err := open(r, size)
	if err != nil {
		return err
	}
	w := &walk{image: image, algorithm: a, visit: visit}
	return w.run(ctx)
}

const (
	blockBits = 12
	blockSize = 1 << blockBits
	slotSize  = 32 // of an inode number, in bytes
)

// image is an open image.
type image struct {
	blocks
	root      uint64 // inode number of the root directory
	xattrs    int64  // where extended attributes begin that inodes share
	whiteouts bool   // its root has names for whiteouts, as in images of the first epoch
}

// maxSize is how large images are that other programs read, in bytes.
const maxSize = 1 << 30

// Offsets and values in the header of composefs, at the start of the image.
const (
	headerSize         = 32
	magicAt, magic     = 0, 0xd078629a
	versionAt, version = 4, 1
	epochAt            = 12 // 0 and 1: the first epoch, 2: the second
	lastEpoch          = 2
)

// Offsets and values in the superblock.
const (
	superblockAt         = 1024
	superblockSize       = 128
	erofsMagicAt         = 0
	erofsMagic           = 0xe0f5e1e2
	compatAt, compat     = 8, 1 | 2 | 4 // checksum, times of inodes, filter of attributes
	blockBitsAt          = 12
	extSlotsAt           = 13
	rootAt               = 14
	metaAt               = 40
	xattrsAt             = 44
	incompatAt, incompat = 80, 4 // files in chunks
	compressionAt        = 84
	devicesAt            = 86
	prefixesAt           = 91
	packedAt             = 96
)

// open reads the headers and refuses what composefs has no use for.
func open(r io.ReaderAt, size int64) (*image, error) {
	if size < superblockAt+superblockSize {
		return nil, invalid("%d bytes", size)
	}
	if size > maxSize {
		return nil, invalid("%d bytes, %d at most", size, maxSize)
	}
	i := &image{blocks: blocks{r: r, size: size}}
	var header [headerSize]byte
	var super [superblockSize]byte
	if err := errors.Join(i.read(header[:], 0), i.read(super[:], superblockAt)); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	epoch := le.Uint32(header[epochAt:])
	switch {
	case le.Uint32(header[magicAt:]) != magic, le.Uint32(super[erofsMagicAt:]) != erofsMagic:
		return nil, invalid("it does not begin as one")
	case le.Uint32(header[versionAt:]) != version, epoch > lastEpoch:
		return nil, invalid("version %d, %d of composefs", le.Uint32(header[versionAt:]), epoch)
	case super[blockBitsAt] != blockBits:
		return nil, invalid("blocks of 2^%d bytes", super[blockBitsAt])
	case le.Uint32(super[compatAt:])&^compat != 0, le.Uint32(super[incompatAt:])&^incompat != 0,
		le.Uint16(super[compressionAt:]) != 0, le.Uint16(super[devicesAt:]) != 0, super[extSlotsAt] != 0,
		super[prefixesAt] != 0, le.Uint64(super[packedAt:]) != 0, le.Uint32(super[metaAt:]) != 0:
		return nil, invalid("it has features that composefs does not use")
	}
	i.root = uint64(le.Uint16(super[rootAt:]))
	i.xattrs = int64(le.Uint32(super[xattrsAt:])) << blockBits
	i.whiteouts = epoch < lastEpoch
	return i, nil
}
