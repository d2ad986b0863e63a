package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
)

// bufferSize is how much is read at once, in bytes.
const bufferSize = 128 << 10

// examiner has what one goroutine needs to check objects.
type examiner struct {
	hasher *fsverity.Hasher
	buffer []byte
}

func newExaminer(a fsverity.Algorithm) *examiner {
	return &examiner{fsverity.NewHasher(a), make([]byte, bufferSize)}
}

// object is an object that is being read.
type object struct {
	*os.File
	digest   fsverity.Digest
	size     int64           // in bytes
	measured fsverity.Digest // by the kernel, zero where it has no fs-verity
	first    bool            // nobody else checks it
}

// openObject opens an object. Where it can't, that is noted as a damage, and ok is
// false.
func (c *checker) openObject(d fsverity.Digest) (o object, ok bool) {
	o = object{digest: d, first: c.set.add(d, referenced|claimed)&claimed == 0}
	var err error
	o.File, o.size, o.measured, err = c.repo.ProbeObject(d)
	if err != nil {
		c.unreadable(o, err)
		return o, false
	}
	return o, true
}

// hashes tells whether the object's digest is to be computed. Where the kernel has
// measured it, it checks all that is read.
func (o *object) hashes() bool { return o.first && o.measured != o.digest }

// unreadable notes that an object can't be opened or read.
func (c *checker) unreadable(o object, err error) {
	c.damaged(o.digest)
	if !o.first {
		return // whoever was will find the same
	}
	kind, detail := ObjectUnreadable, reason(err)
	switch {
	case errors.Is(err, composefsrepo.ErrMissingObject):
		kind, detail = ObjectMissing, "it is not there"
	case errors.Is(err, composefsrepo.ErrNotRegular):
		kind, detail = ObjectType, "it is not a regular file"
	}
	c.foundObject(o.digest, Damage{Kind: kind, Detail: detail})
}

// damaged notes that an object is damaged.
func (c *checker) damaged(d fsverity.Digest) {
	c.set.add(d, damaged)
	c.anyDamaged.Store(true)
}

// reason returns the innermost error's text: where it happened is said already.
func reason(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
}

// judge compares an object's name to its digest, which was computed unless the kernel
// has measured it.
func (c *checker) judge(o object, computed fsverity.Digest) {
	if !o.first {
		return
	}
	c.objects.Add(1)
	c.bytes.Add(o.size)
	got := computed
	if !o.measured.IsZero() {
		c.measured.Add(1)
		got = o.measured
	}
	switch {
	case got != o.digest:
		c.damaged(o.digest)
		damage := Damage{Kind: ObjectAltered, Detail: fmt.Sprintf("it has %d bytes of which the digest is %s", o.size, got)}
		if _, err := c.repo.ObjectSize(got); err == nil {
			damage.Kind, damage.Detail = ObjectSwapped, fmt.Sprintf("it has the content of %s", composefsrepo.ObjectPath(got))
		}
		c.foundObject(o.digest, damage)
	case o.measured.IsZero() && c.repo.DemandsVerity():
		c.damaged(o.digest)
		c.foundObject(o.digest, Damage{Kind: ObjectVerity, Detail: "its content is right, but it has no fs-verity, which this repository demands of every object"})
	}
}

// checkObject checks an object, unless somebody did or does, and returns ctx's error.
func (c *checker) checkObject(ctx context.Context, d fsverity.Digest) error {
	if c.set.is(d, claimed) {
		return ctx.Err()
	}
	o, ok := c.openObject(d)
	if !ok {
		return ctx.Err()
	}
	defer o.Close()
	if !o.first {
		return ctx.Err()
	}
	e := c.examiners.Get().(*examiner)
	defer c.examiners.Put(e)
	for left := o.size; left > 0; {
		if err := ctx.Err(); err != nil {
			e.hasher.Sum() // resets it
			return err
		}
		n, err := o.Read(e.buffer[:min(left, bufferSize)])
		if o.hashes() {
			e.hasher.Write(e.buffer[:n])
		}
		left -= int64(n)
		c.progress(int64(n))
		if err != nil && !errors.Is(err, io.EOF) {
			e.hasher.Sum()
			c.unreadable(o, err)
			return nil
		}
		if err != nil {
			break // it has become shorter, and its digest another
		}
	}
	c.judge(o, e.hasher.Sum())
	return nil
}
