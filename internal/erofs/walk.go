package erofs

import (
	"bytes"
	"context"
	"encoding/binary"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
)

const (
	direntSize    = 12  // of a record in a directory, in bytes
	maxName       = 255 // bytes
	whiteoutNames = 256 // 00 to ff, in the root of images of the first epoch
)

// walk visits every inode that the root directory leads to, once.
type walk struct {
	*image
	algorithm fsverity.Algorithm
	visit     func(fsverity.Digest) error

	seen        []uint64 // a bit for every inode number
	directories []inode  // to be read

	// What directories and extended attributes may yet have. They are in different
	// places of the image, so together they have no more bytes than it.
	dirBytes, xattrBytes int64

	names   [whiteoutNames / 64]uint64 // which names for whiteouts the root has
	scratch []byte
}

func (w *walk) run(ctx context.Context) error {
	w.seen = make([]uint64, w.size/slotSize/64+1)
	w.dirBytes, w.xattrBytes = w.size, w.size
	w.scratch = make([]byte, blockSize)
	root, err := w.inode(w.root)
	if err != nil {
		return err
	}
	if !root.is(modeDirectory) {
		return invalid("its root is not a directory")
	}
	w.isNew(w.root)
	if err := w.inodeXattrs(root); err != nil {
		return err
	}
	for w.directories = append(w.directories, root); len(w.directories) > 0; {
		if err := ctx.Err(); err != nil {
			return err
		}
		last := len(w.directories) - 1
		dir := w.directories[last]
		w.directories = w.directories[:last]
		if err := w.directory(dir); err != nil {
			return err
		}
	}
	if w.whiteouts {
		for _, names := range w.names {
			if ^names != 0 {
				return invalid("its root lacks some of the names 00 to ff")
			}
		}
	}
	return nil
}

// isNew tells whether an inode was not visited before, and notes that it was.
func (w *walk) isNew(number uint64) bool {
	word, bit := &w.seen[number/64], uint64(1)<<(number%64)
	before := *word & bit
	*word |= bit
	return before == 0
}

// directory visits what is in a directory.
func (w *walk) directory(dir inode) error {
	first, end := dir.dataBlocks()
	left := dir.size
	for number := first; number < end; number++ {
		n := min(left, blockSize)
		if err := w.dirBlock(dir, number<<blockBits, n); err != nil {
			return err
		}
		left -= n
	}
	if n := dir.inlineSize(); n > 0 {
		return w.dirBlock(dir, dir.tail(), n)
	}
	return nil
}

// dirBlock visits the entries in n bytes of a directory.
func (w *walk) dirBlock(dir inode, offset, n int64) error {
	if w.dirBytes -= n; w.dirBytes < 0 {
		return invalid("directories share blocks")
	}
	block := make([]byte, n)
	if err := w.read(block, offset); err != nil {
		return err
	}
	return entries(block, func(number uint64, name []byte) error {
		if string(name) == "." || string(name) == ".." {
			return nil
		}
		return w.child(dir, number, name)
	})
}

// entries calls visit with the entries in a block of a directory: records with an
// inode's number and where the name begins, and then the names.
func entries(block []byte, visit func(number uint64, name []byte) error) error {
	le := binary.LittleEndian
	if len(block) < direntSize {
		return invalid("a directory block of %d bytes", len(block))
	}
	namesAt := int(le.Uint16(block[8:]))
	if namesAt == 0 || namesAt%direntSize != 0 || namesAt > len(block) {
		return invalid("a directory's names at %d", namesAt)
	}
	for at := 0; at < namesAt; at += direntSize {
		start, end := int(le.Uint16(block[at+8:])), len(block)
		if at+direntSize < namesAt {
			end = int(le.Uint16(block[at+direntSize+8:]))
		}
		if start < namesAt || start > end || end > len(block) {
			return invalid("a directory's name at %d", start)
		}
		name, _, _ := bytes.Cut(block[start:end], []byte{0}) // the last is padded
		if len(name) == 0 || len(name) > maxName || bytes.IndexByte(name, '/') >= 0 {
			return invalid("the name %.300q", name)
		}
		if err := visit(le.Uint64(block[at:]), name); err != nil {
			return err
		}
	}
	return nil
}

// child visits an entry of a directory.
func (w *walk) child(dir inode, number uint64, name []byte) error {
	n, err := w.inode(number)
	if err != nil {
		return err
	}
	if w.whiteouts {
		if dir.number == w.root {
			w.noteName(name)
		} else if n.isWhiteout() {
			return invalid("a whiteout %.300q that is not in its root", name)
		}
		if n.straddles() {
			return invalid("a symlink %.300q that older kernels refuse", name)
		}
	}
	if !w.isNew(number) {
		return nil
	}
	if err := w.inodeXattrs(n); err != nil {
		return err
	}
	if n.is(modeDirectory) {
		w.directories = append(w.directories, n)
	}
	return nil
}

// noteName notes a name of the root directory that may be one of those for whiteouts.
func (w *walk) noteName(name []byte) {
	if len(name) != 2 {
		return
	}
	number := 0
	for _, c := range name {
		digit := bytes.IndexByte([]byte("0123456789abcdef"), c)
		if digit < 0 {
			return
		}
		number = number<<4 | digit
	}
	w.names[number/64] |= 1 << (number % 64)
}
