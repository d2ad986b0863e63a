package splitstream_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/splitstream"
)

// tracked counts what is open.
type tracked struct {
	io.Reader
	open *atomic.Int64
}

func (t tracked) Close() error { t.open.Add(-1); return nil }

// opener opens objects in memory and counts those that are open.
func opener(o objects, open *atomic.Int64) splitstream.OpenObject {
	return func(d fsverity.Digest) (io.ReadCloser, int64, error) {
		r, size, err := o.open(d)
		if err != nil {
			return nil, 0, err
		}
		open.Add(1)
		return tracked{r, open}, size, nil
	}
}

func TestObjectsOfTheWrongSizeAreAnError(t *testing.T) {
	for name, change := range map[string]func([]byte) []byte{
		"truncated": func(b []byte) []byte { return b[:len(b)-1] },
		"overlong":  func(b []byte) []byte { return append(b, 0) },
		"empty":     func([]byte) []byte { return nil },
	} {
		for at, size := range map[string]int{"small": 100, "large": 200_000} {
			t.Run(name+" "+at, func(t *testing.T) {
				o := objects{}
				file, content := write(t, o, piece{data: sequence(512)}, piece{data: sequence(size), object: true}, piece{data: sequence(412)})
				for d, b := range o {
					o[d] = change(bytes.Clone(b))
				}
				var open atomic.Int64
				c := mustReader(t, file).Content(t.Context(), opener(o, &open))
				n, err := io.Copy(io.Discard, c)
				assert.ErrorIs(t, err, splitstream.ErrSize)
				assert.LessOrEqual(t, n, int64(len(content)))
				_, again := c.Read(make([]byte, 1))
				assert.ErrorIs(t, again, splitstream.ErrSize)
				require.NoError(t, c.Close())
				assert.Zero(t, open.Load())
			})
		}
	}
}

// An object that ends before the size that it was opened with.
func TestObjectThatShrinksIsAnError(t *testing.T) {
	o := objects{}
	file, _ := write(t, o, piece{data: sequence(200_000), object: true})
	c := mustReader(t, file).Content(t.Context(), func(d fsverity.Digest) (io.ReadCloser, int64, error) {
		return io.NopCloser(bytes.NewReader(o[d][:150_000])), 200_000, nil
	})
	defer c.Close()
	_, err := io.Copy(io.Discard, c)
	assert.ErrorIs(t, err, splitstream.ErrSize)
}

func TestErrorsOfObjectsArePassedOn(t *testing.T) {
	file, _ := write(t, objects{}, piece{data: sequence(512)}, piece{data: sequence(100), object: true})
	c := mustReader(t, file).Content(t.Context(), objects{}.open)
	defer c.Close()
	n, err := io.Copy(io.Discard, c)
	assert.ErrorIs(t, err, os.ErrNotExist)
	assert.EqualValues(t, 512, n)
}

func TestCloseInTheMiddleLeavesNothingOpen(t *testing.T) {
	o := objects{}
	var pieces []piece
	for i := range 300 {
		pieces = append(pieces, piece{data: append(sequence(100_000), byte(i)), object: true})
	}
	file, _ := write(t, o, pieces...)
	for _, read := range []int{0, 1, 64 << 10, 100_000, 1_000_000} {
		var open atomic.Int64
		c := mustReader(t, file).Content(t.Context(), opener(o, &open))
		_, err := io.CopyN(io.Discard, struct{ io.Reader }{c}, int64(read))
		require.NoError(t, err)
		require.NoError(t, c.Close())
		require.NoError(t, c.Close())
		assert.Zero(t, open.Load())
		_, err = c.Read(make([]byte, 1))
		assert.ErrorIs(t, err, os.ErrClosed)
	}
}

func TestCancelEndsReading(t *testing.T) {
	o := objects{}
	file, _ := write(t, o, manyPieces(3000)...)
	ctx, cancel := context.WithCancel(t.Context())
	var open atomic.Int64
	c := mustReader(t, file).Content(ctx, opener(o, &open))
	_, err := io.CopyN(io.Discard, struct{ io.Reader }{c}, 10_000)
	require.NoError(t, err)
	cancel()
	_, err = io.Copy(io.Discard, c)
	assert.ErrorIs(t, err, context.Canceled)
	require.NoError(t, c.Close())
	assert.Zero(t, open.Load())
}

type failingWriter struct{}

var errFull = errors.New("full")

func (failingWriter) Write(p []byte) (int, error) { return len(p) / 2, errFull }

func TestErrorOfTheWriterIsReturned(t *testing.T) {
	o := objects{}
	file, _ := write(t, o, piece{data: sequence(200_000), object: true})
	c := mustReader(t, file).Content(t.Context(), o.open)
	defer c.Close()
	n, err := c.WriteTo(failingWriter{})
	assert.ErrorIs(t, err, errFull)
	assert.Positive(t, n)
}

type failingReaderAt struct {
	io.ReaderAt
	from int64
}

var errIO = errors.New("input/output error")

func (f failingReaderAt) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > f.from {
		return 0, errIO
	}
	return f.ReaderAt.ReadAt(p, off)
}

// An error of the disk is not the splitstream's.
func TestErrorsOfReadingAreNotCorruption(t *testing.T) {
	o := objects{}
	file, _ := write(t, o, piece{data: sequence(600)}, piece{data: sequence(100), object: true})
	for _, from := range []int64{10, 50, 120, 150} {
		r, err := splitstream.NewReader(failingReaderAt{bytes.NewReader(file), from}, int64(len(file)), fsverity.SHA256)
		if err == nil {
			_, _, err = walk(r)
		}
		assert.ErrorIs(t, err, errIO, "from %d", from)
		assert.NotErrorIs(t, err, splitstream.ErrCorrupt)
	}
}
