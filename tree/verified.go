package tree

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
)

// contentReader reads an object's content. It returns no byte that was not found to
// be the object's.
type contentReader interface {
	io.ReaderAt
	io.Closer
}

// openObject opens an object of so many bytes. Where it has fs-verity, the kernel
// checks what is read, else the reader does.
func openObject(ctx context.Context, image *composefsrepo.Image, d fsverity.Digest, size int64) (contentReader, error) {
	f, got, err := image.OpenObject(d)
	if err != nil {
		return nil, err
	}
	if got != size {
		f.Close()
		return nil, fmt.Errorf("object %s: it has %d bytes, where the tar has %d", d, got, size)
	}
	_, err = fsverity.Measure(f)
	switch {
	case err == nil:
		return &enforced{ctx, f}, nil
	case errors.Is(err, fsverity.ErrNotEnabled):
		return &verified{ctx: ctx, file: f, size: size, digest: d, algorithm: image.Algorithm()}, nil
	default:
		f.Close()
		return nil, fmt.Errorf("object %s: %w", d, err)
	}
}

// enforced is an object with fs-verity.
type enforced struct {
	ctx context.Context
	*os.File
}

func (e *enforced) ReadAt(p []byte, at int64) (int, error) {
	if err := e.ctx.Err(); err != nil {
		return 0, err
	}
	return e.File.ReadAt(p, at)
}

// verified is an object without fs-verity. The first read has all of it read, its
// digest computed, and the hash of each block kept, by which every read of the block
// is checked from then on: nothing keeps the file from being changed meanwhile.
type verified struct {
	ctx       context.Context
	file      *os.File
	size      int64
	digest    fsverity.Digest
	algorithm fsverity.Algorithm

	mutex   sync.Mutex
	checked bool
	err     error
	sums    [][sha256.Size]byte // of the blocks
	block   []byte              // the one last read
	number  int64               // its number
}

const verifiedBlock = 64 << 10 // bytes

// ReadAt implements io.ReaderAt.
func (v *verified) ReadAt(p []byte, at int64) (n int, err error) {
	v.mutex.Lock()
	defer v.mutex.Unlock()
	if at < 0 {
		return 0, errors.New("negative offset")
	}
	if err := v.check(); err != nil {
		return 0, err
	}
	for len(p) > 0 {
		if at >= v.size {
			return n, io.EOF
		}
		if err := v.load(at / verifiedBlock); err != nil {
			return n, err
		}
		copied := copy(p, v.block[at%verifiedBlock:])
		n, at, p = n+copied, at+int64(copied), p[copied:]
	}
	return n, nil
}

// check reads all of the object, once.
func (v *verified) check() error {
	if v.checked || v.err != nil {
		return v.err
	}
	hasher := fsverity.NewHasher(v.algorithm)
	v.sums = nil
	for number := range (v.size + verifiedBlock - 1) / verifiedBlock {
		if err := v.read(number); err != nil {
			return err
		}
		hasher.Write(v.block)
		v.sums = append(v.sums, sha256.Sum256(v.block))
	}
	if hasher.Sum() != v.digest {
		v.block = nil
		v.err = fmt.Errorf("object %s, now of %d bytes, was altered: %w", v.digest, v.size, composefsrepo.ErrVerity)
		return v.err
	}
	v.checked = true
	return nil
}

// load makes a block the one last read.
func (v *verified) load(number int64) error {
	if v.block != nil && v.number == number {
		return nil
	}
	err := v.read(number)
	if err == nil && sha256.Sum256(v.block) != v.sums[number] {
		err = fmt.Errorf("object %s was altered while it was read: %w", v.digest, composefsrepo.ErrVerity)
	}
	if err != nil {
		v.block = nil
	}
	return err
}

func (v *verified) read(number int64) error {
	if err := v.ctx.Err(); err != nil {
		return err
	}
	size := min(verifiedBlock, v.size-number*verifiedBlock)
	if int64(cap(v.block)) < size {
		v.block = make([]byte, size)
	}
	v.block, v.number = v.block[:size], number
	if _, err := v.file.ReadAt(v.block, number*verifiedBlock); err != nil {
		v.block = nil
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("it was cut while it was read: %w", composefsrepo.ErrVerity)
		}
		return fmt.Errorf("object %s: %w", v.digest, err)
	}
	return nil
}

// Close closes the object's file.
func (v *verified) Close() error { return v.file.Close() }
