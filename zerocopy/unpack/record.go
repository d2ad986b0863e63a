package unpack

import (
	"bufio"
	"context"
	"encoding"
	"encoding/hex"
	"fmt"
	"hash"
	"os"

	"github.com/opencontainers/go-digest"
	"github.com/vbatts/tar-split/tar/storage"
	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/internal/lostzeros"
)

// item is a piece of the tar, in its order: bytes of its own and, of an entry,
// the content.
type item struct {
	raw []byte // headers, and the padding before them

	isEntry bool
	name    string // as the tar has it
	size    int64

	// buffers yields the content, nil where it is empty. It is closed when all of
	// it was there, and crc is its checksum then; else the context ends.
	buffers chan *buffer
	crc     []byte
}

// record computes the digest and writes what tar-split needs to rebuild the tar.
type record struct {
	hash     hash.Hash
	size     int64
	tarSplit *os.File
	buffered *bufio.Writer
	packer   *packer
	options  Options
	reported int64
	result   Result
}

func newRecord(options Options) (*record, error) {
	file, err := nameless(options.TempDir)
	if err != nil {
		return nil, fmt.Errorf("making a file for the record of the tar: %w", err)
	}
	r := &record{hash: digest.SHA256.Hash(), tarSplit: file, options: options}
	r.buffered = bufio.NewWriterSize(r.tarSplit, 64<<10)
	r.packer = newPacker(r.buffered)
	return r, nil
}

// nameless creates a file without a name in a directory, "" for that of
// os.TempDir. It is gone when it is closed.
func nameless(dir string) (*os.File, error) {
	if dir == "" {
		dir = os.TempDir()
	}
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	switch {
	case err == nil:
		return os.NewFile(uintptr(fd), dir+"/(tar-split)"), nil
	case err == unix.EOPNOTSUPP, err == unix.EISDIR: // a filesystem, a kernel that has none
		file, err := os.CreateTemp(dir, "tar-split-*")
		if err != nil {
			return nil, err
		}
		if err := os.Remove(file.Name()); err != nil {
			file.Close()
			return nil, err
		}
		return file, nil
	}
	return nil, &os.PathError{Op: "open", Path: dir, Err: err}
}

// run takes all items.
func (r *record) run(ctx context.Context, items <-chan *item) error {
	for i := range items {
		if err := r.take(ctx, i); err != nil {
			return err
		}
		if r.size-r.reported >= progressStep {
			r.report()
		}
	}
	if err := ctx.Err(); err != nil { // there may have been no more items for that
		return err
	}
	if err := r.complete(); err != nil {
		return err
	}
	r.report()
	if err := r.buffered.Flush(); err != nil {
		return fmt.Errorf("writing the record of the tar: %w", err)
	}
	r.result.Digest, r.result.Size, r.result.TarSplit = digest.NewDigest(digest.SHA256, r.hash), r.size, r.tarSplit
	return nil
}

// progressStep is how many bytes of progress are worth telling.
const progressStep = 1 << 20

func (r *record) report() {
	if r.options.Progress != nil && r.size > r.reported {
		r.options.Progress(r.size - r.reported)
	}
	r.reported = r.size
}

func (r *record) take(ctx context.Context, i *item) error {
	if err := r.segment(i.raw); err != nil {
		return err
	}
	if !i.isEntry {
		return nil
	}
	if i.buffers != nil {
		if err := r.content(ctx, i.buffers); err != nil {
			return err
		}
	}
	entry := storage.Entry{Type: storage.FileType, Size: i.size, Payload: i.crc}
	entry.SetName(i.name)
	return r.packer.add(entry)
}

// content takes an entry's content, and sends its buffers back.
func (r *record) content(ctx context.Context, buffers <-chan *buffer) error {
	for {
		select {
		case b, ok := <-buffers:
			if !ok {
				return nil
			}
			r.write(b.data)
			if b.home != nil {
				b.home <- b // has room for all of them
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// complete adds the zeros that an importer has lost, if that is what the digest
// lacks.
func (r *record) complete() error {
	want := r.options.DiffID
	if want == "" || digest.NewDigest(digest.SHA256, r.hash) == want {
		return nil
	}
	sum, err := hex.DecodeString(want.Encoded())
	if err != nil {
		return fmt.Errorf("diff ID %s: %w", want, err)
	}
	state, err := r.hash.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil {
		return fmt.Errorf("keeping the state of the hash: %w", err)
	}
	if zeros, found := lostzeros.Find(r.hash, r.size, sum); found {
		r.size += zeros
		return r.packer.add(storage.Entry{Type: storage.SegmentType, Payload: make([]byte, zeros)})
	}
	return r.hash.(encoding.BinaryUnmarshaler).UnmarshalBinary(state)
}

// segment records bytes of the tar that are no file's content.
func (r *record) segment(raw []byte) error {
	if len(raw) == 0 {
		return nil
	}
	r.write(raw)
	return r.packer.add(storage.Entry{Type: storage.SegmentType, Payload: raw})
}

func (r *record) write(data []byte) {
	r.hash.Write(data)
	r.size += int64(len(data))
}
