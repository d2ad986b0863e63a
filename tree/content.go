package tree

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
)

// content is where a regular file's content is.
type content struct {
	place     place
	digest    fsverity.Digest // of the object, or of the key where it is in the tar
	inline    []byte
	entry     int // in the tar, its entry's number
	algorithm fsverity.Algorithm
}

// place is a kind of place that has a content.
type place uint8

const (
	nowhere  place = iota // it is empty
	inObject              // one object has all of it
	inline                // it is held
	inTar                 // it is to be read from the layer's tar, and was all inline there
	inPieces              // it is to be read from the layer's tar
)

// Key stands for a content: two files with equal keys have equal contents. The zero
// Key is that of what has no content.
//
// Where Exact, the digest is the content's fs-verity digest, and two contents with
// exact keys of one algorithm are equal only if the keys are. The others are of files
// whose content is in several pieces in their layer; equal contents may have several
// of these.
type Key struct {
	Digest fsverity.Digest
	Exact  bool
}

// Key returns what a regular file's content can be compared by, without reading it.
// That of an inline content is computed each time.
func (n *Node) Key() Key {
	c := &n.content
	switch c.place {
	case inline:
		hasher := fsverity.NewHasher(c.algorithm)
		hasher.Write(c.inline)
		return Key{hasher.Sum(), true}
	case inPieces:
		return Key{c.digest, false}
	}
	return Key{c.digest, !c.digest.IsZero()}
}

// Object returns the object that has all of a regular file's content; the zero
// Digest where the content is empty, inline or in several pieces.
func (n *Node) Object() fsverity.Digest {
	if n.content.place == inObject {
		return n.content.digest
	}
	return fsverity.Digest{}
}

// Inline returns a regular file's content where that is inline in its layer's
// stream, and has 64 KiB at most; else nil. It must not be changed.
func (n *Node) Inline() []byte { return n.content.inline }

// maxInline is how large an inline content may be that is held, in bytes.
const maxInline = 64 << 10

// readContent takes the content of a regular file.
func (l *layer) readContent(number int, e *Entry) (content, error) {
	c := content{algorithm: l.image.Algorithm(), entry: number}
	switch {
	case e.Sparse:
		// Of the same entry of the same layer nothing else comes out.
		sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", l.image.Layers[l.number].Digest(), number))
		c.place, c.digest = inPieces, digestOf(sum[:])
		return c, nil
	case e.Size == 0:
		return c, nil
	}
	reading := contentReading{algorithm: c.algorithm}
	for piece, err := range e.Pieces() {
		if err != nil {
			return content{}, err
		}
		if piece.whole && piece.Size == e.Size {
			c.place, c.digest = inObject, piece.Object
			return c, nil
		}
		reading.add(piece)
	}
	if int64(len(reading.inline)) == e.Size {
		c.place, c.inline = inline, reading.inline
		return c, l.take(len(c.inline))
	}
	c.place, c.digest = reading.key()
	return c, nil
}

// contentReading gathers a content of which not one object has all: its bytes, or
// else what its key is made of.
type contentReading struct {
	algorithm fsverity.Algorithm
	inline    []byte
	run       *fsverity.Hasher // of the inline bytes since the last object
	pieces    hash.Hash        // nil until there is an object
}

func (c *contentReading) add(p Piece) {
	if p.Inline == nil {
		c.endRun()
		c.pieces.Write([]byte{'o'})
		c.pieces.Write(p.Object.Bytes())
		c.pieces.Write(binary.BigEndian.AppendUint64(nil, uint64(p.Offset)))
		c.pieces.Write(binary.BigEndian.AppendUint64(nil, uint64(p.Size)))
		return
	}
	if c.run == nil && c.pieces == nil && len(c.inline)+len(p.Inline) <= maxInline {
		c.inline = append(c.inline, p.Inline...)
		return
	}
	c.startRun()
	c.run.Write(p.Inline)
}

// startRun begins a run of inline bytes, with those that were gathered till now.
func (c *contentReading) startRun() {
	if c.run == nil {
		c.run = fsverity.NewHasher(c.algorithm)
		c.run.Write(c.inline)
		c.inline = nil
	}
}

// endRun adds the run of inline bytes to the pieces.
func (c *contentReading) endRun() {
	if len(c.inline) > 0 {
		c.startRun()
	}
	if c.pieces == nil {
		c.pieces = sha256.New()
	}
	if c.run != nil {
		c.pieces.Write([]byte{'i'})
		c.pieces.Write(c.run.Sum().Bytes())
		c.run = nil
	}
}

func (c *contentReading) key() (place, fsverity.Digest) {
	if c.pieces == nil {
		return inTar, c.run.Sum()
	}
	c.endRun()
	return inPieces, digestOf(c.pieces.Sum(nil))
}

// digestOf returns a SHA-256 as a Digest.
func digestOf(sum []byte) fsverity.Digest {
	d, _ := fsverity.FromBytes(sum) // which takes 32 bytes
	return d
}
