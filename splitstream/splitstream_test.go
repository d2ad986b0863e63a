package splitstream_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
	"github.com/skopeo-cfs/skopeo-cfs/splitstream"
)

// objects is a repository in memory.
type objects map[fsverity.Digest][]byte

func (o objects) add(content []byte) fsverity.Digest {
	h := fsverity.NewHasher(fsverity.SHA256)
	h.Write(content)
	d := h.Sum()
	o[d] = content
	return d
}

func (o objects) open(d fsverity.Digest) (io.ReadCloser, int64, error) {
	content, ok := o[d]
	if !ok {
		return nil, 0, os.ErrNotExist
	}
	return io.NopCloser(bytes.NewReader(content)), int64(len(content)), nil
}

// piece is inline bytes or, if object is set, the content of an object.
type piece struct {
	data   []byte
	object bool
}

// write makes a splitstream of pieces, and returns it and what it rebuilds.
func write(t testing.TB, o objects, pieces ...piece) (file, content []byte) {
	t.Helper()
	w := splitstream.NewWriter(fsverity.SHA256, splitstream.Layer)
	for _, p := range pieces {
		if p.object {
			require.NoError(t, w.Object(o.add(p.data), int64(len(p.data))))
		} else {
			_, err := w.Write(p.data)
			require.NoError(t, err)
		}
		content = append(content, p.data...)
	}
	return finish(t, w), content
}

func finish(t testing.TB, w *splitstream.Writer) []byte {
	t.Helper()
	var file bytes.Buffer
	n, err := w.WriteTo(&file)
	require.NoError(t, err)
	require.EqualValues(t, file.Len(), n)
	return file.Bytes()
}

func newReader(file []byte) (*splitstream.Reader, error) {
	return splitstream.NewReader(bytes.NewReader(file), int64(len(file)), fsverity.Algorithm{})
}

func mustReader(t testing.TB, file []byte) *splitstream.Reader {
	t.Helper()
	r, err := newReader(file)
	require.NoError(t, err)
	return r
}

func sequence(n int) []byte {
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(i * 7 / 3)
	}
	return data
}

func TestWrittenStreamIsReadBack(t *testing.T) {
	big := sequence(300_000)
	for name, pieces := range map[string][]piece{
		"empty":              nil,
		"inline":             {{data: []byte("x")}},
		"object":             {{data: big, object: true}},
		"empty object":       {{object: true}},
		"same object twice":  {{data: big, object: true}, {data: []byte("-")}, {data: big, object: true}},
		"long inline":        {{data: sequence(3 << 20)}},
		"mixed":              {{data: sequence(511)}, {data: sequence(65), object: true}, {data: sequence(447)}, {data: big, object: true}, {data: make([]byte, 1024)}},
		"objects in a row":   {{data: []byte("a"), object: true}, {data: []byte("b"), object: true}, {data: []byte("c"), object: true}},
		"buffer's size":      {{data: sequence(64 << 10), object: true}, {data: sequence(64 << 10)}, {data: sequence(64<<10 + 1), object: true}},
		"more than is ahead": manyPieces(500),
	} {
		t.Run(name, func(t *testing.T) {
			o := objects{}
			file, want := write(t, o, pieces...)
			r := mustReader(t, file)
			assert.Equal(t, splitstream.Layer, r.ContentType())
			assert.Equal(t, fsverity.SHA256, r.Algorithm())
			assert.EqualValues(t, len(want), r.Size())

			read := r.Content(t.Context(), o.open)
			got, err := io.ReadAll(struct{ io.Reader }{read})
			require.NoError(t, err)
			require.NoError(t, read.Close())
			assert.True(t, bytes.Equal(want, got), "read")

			written := r.Content(t.Context(), o.open)
			var to bytes.Buffer
			n, err := written.WriteTo(&to)
			require.NoError(t, err)
			require.NoError(t, written.Close())
			assert.EqualValues(t, len(want), n)
			assert.True(t, bytes.Equal(want, to.Bytes()), "written")
		})
	}
}

func manyPieces(n int) (pieces []piece) {
	for i := range n {
		pieces = append(pieces, piece{data: sequence(i % 700)}, piece{data: append(sequence(i), byte(i), byte(i>>8)), object: true})
	}
	return pieces
}

func TestNamedRefsAreReadBack(t *testing.T) {
	o := objects{}
	a, b := o.add([]byte("a")), o.add([]byte("b"))
	w := splitstream.NewWriter(fsverity.SHA256, splitstream.Manifest)
	require.NoError(t, w.NamedRef("config:sha256:00", a))
	require.NoError(t, w.NamedRef("sha256:11", b))
	require.NoError(t, w.NamedRef("sha256:22", b))
	refs, err := mustReader(t, finish(t, w)).NamedRefs()
	require.NoError(t, err)
	assert.Equal(t, map[string]fsverity.Digest{"config:sha256:00": a, "sha256:11": b, "sha256:22": b}, refs)
}

func TestWriterRefusesWhatItCouldNotWrite(t *testing.T) {
	w := splitstream.NewWriter(fsverity.SHA512, splitstream.Manifest)
	short := objects{}.add(nil) // SHA-256
	assert.ErrorIs(t, w.Object(short, 1), splitstream.ErrAlgorithm)
	assert.ErrorIs(t, w.NamedRef("name", short), splitstream.ErrAlgorithm)
	long, err := fsverity.FromBytes(make([]byte, 64))
	require.NoError(t, err)
	assert.Error(t, w.Object(long, -1))
	assert.Error(t, w.NamedRef("", long))
	assert.Error(t, w.NamedRef("a\x00b", long))
}

// Both header layouts, both algorithms, every content type: all that importers
// wrote can be iterated over, and its inline bytes stay within its size.
func TestFixtureStreamsAreRead(t *testing.T) {
	for _, repository := range fixtures.Repositories {
		want := fsverity.SHA512
		if strings.HasSuffix(repository, "256") {
			want = fsverity.SHA256
		}
		for name, file := range fixtures.Streams(t, repository) {
			r, err := splitstream.NewReader(bytes.NewReader(file), int64(len(file)), want)
			require.NoError(t, err, name)
			inline, _, err := walk(r)
			require.NoError(t, err, name)
			assert.LessOrEqual(t, inline, r.Size())
			refs, err := r.NamedRefs()
			require.NoError(t, err, name)
			isDocument := strings.HasPrefix(name, "oci-manifest-") || strings.HasPrefix(name, "oci-config-")
			if !isDocument {
				assert.Empty(t, refs)
			}
		}
	}
}

// walk iterates over all chunks and counts inline bytes and objects.
func walk(r *splitstream.Reader) (inline, objects int64, err error) {
	chunks := r.Chunks()
	for {
		chunk, err := chunks.Next()
		switch {
		case errors.Is(err, io.EOF):
			return inline, objects, nil
		case err != nil:
			return inline, objects, err
		case chunk.Inline == nil:
			objects++
		default:
			inline += int64(len(chunk.Inline))
		}
	}
}

func TestIterationAllocatesNothingPerChunk(t *testing.T) {
	file, _ := write(t, objects{}, manyPieces(2000)...)
	r := mustReader(t, file)
	few, _ := write(t, objects{}, manyPieces(2)...)
	rFew := mustReader(t, few)
	base := testing.AllocsPerRun(5, func() { walk(rFew) })
	many := testing.AllocsPerRun(5, func() { walk(r) })
	// The decoder's tables may differ a little; 4000 chunks may not.
	assert.Less(t, many-base, 100.0)
}

// layout is a splitstream built by hand, to be wrong in one thing.
type layout struct {
	header [32]byte
	info   []byte
	rest   []byte
}

// handmade returns a splitstream with one inline byte and one object reference.
func handmade() *layout {
	stream := compress(binary.LittleEndian.AppendUint64(nil, math.MaxUint64), []byte("x"))
	l := &layout{info: make([]byte, 80), rest: append(make([]byte, 32), stream...)}
	copy(l.header[:], "SplitStream")
	l.header[14], l.header[15] = 1, 12
	l.setHeader(16, 32)
	l.setHeader(24, 112)
	l.set(0, 112, 112)
	l.set(16, 112, 144)
	l.set(32, 144, 144+uint64(len(stream)))
	l.set(48, 0, 0)
	copy(l.info[64:], "ocilayer")
	binary.LittleEndian.PutUint64(l.info[72:], 1)
	return l
}

func (l *layout) setHeader(at int, v uint64) { binary.LittleEndian.PutUint64(l.header[at:], v) }

func (l *layout) set(at int, start, end uint64) {
	binary.LittleEndian.PutUint64(l.info[at:], start)
	binary.LittleEndian.PutUint64(l.info[at+8:], end)
}

// setStream replaces the chunks.
func (l *layout) setStream(size uint64, chunks ...[]byte) {
	stream := compress(chunks...)
	l.rest = append(l.rest[:32], stream...)
	l.set(32, 144, 144+uint64(len(stream)))
	binary.LittleEndian.PutUint64(l.info[72:], size)
}

// setNamedRefs puts named references behind the chunks.
func (l *layout) setNamedRefs(records ...[]byte) {
	at := uint64(112 + len(l.rest))
	refs := compress(records...)
	l.rest = append(l.rest, refs...)
	l.set(48, at, at+uint64(len(refs)))
}

func (l *layout) file() []byte { return append(append(l.header[:], l.info...), l.rest...) }

func compress(parts ...[]byte) []byte {
	var b bytes.Buffer
	e, _ := zstd.NewWriter(&b)
	for _, p := range parts {
		e.Write(p)
	}
	e.Close()
	return b.Bytes()
}

func number(n int64) []byte { return binary.LittleEndian.AppendUint64(nil, uint64(n)) }

// readAll does all that can be done with a splitstream and returns the first
// error.
func readAll(file []byte, o objects) error {
	r, err := newReader(file)
	if err != nil {
		return err
	}
	if _, _, err := walk(r); err != nil {
		return err
	}
	if _, err := r.NamedRefs(); err != nil {
		return err
	}
	content := r.Content(context.Background(), o.open)
	defer content.Close()
	_, err = io.Copy(io.Discard, content)
	return err
}

func TestHandmadeStreamIsGood(t *testing.T) {
	require.NoError(t, readAll(handmade().file(), nil))

	l := handmade() // an info section with room for later versions
	l.info = append(l.info, "whatever"...)
	l.setHeader(24, 120)
	l.set(0, 120, 120)
	l.set(16, 120, 152)
	l.set(32, 152, 120+uint64(len(l.rest)))
	require.NoError(t, readAll(l.file(), nil))

	l = handmade() // flags are ignored
	l.header[12], l.header[13] = 0xff, 0xff
	require.NoError(t, readAll(l.file(), nil))

	l = handmade() // the old layout
	var old [32]byte
	copy(old[:16], l.header[16:])
	copy(old[18:], "SplitStream")
	old[30], old[31] = 1, 12
	l.header = old
	require.NoError(t, readAll(l.file(), nil))
}

func TestMalformedStreamIsRefused(t *testing.T) {
	huge := uint64(1) << 62
	for name, test := range map[string]struct {
		change func(*layout)
		want   error
	}{
		"no magic":                  {func(l *layout) { l.header[0] = 'X' }, splitstream.ErrFormat},
		"version 1":                 {func(l *layout) { l.header[11] = 1 }, splitstream.ErrVersion},
		"unknown hash":              {func(l *layout) { l.header[14] = 3 }, splitstream.ErrVersion},
		"unknown block size":        {func(l *layout) { l.header[15] = 13 }, splitstream.ErrVersion},
		"info behind the end":       {func(l *layout) { l.setHeader(24, huge) }, splitstream.ErrCorrupt},
		"info turned round":         {func(l *layout) { l.setHeader(16, 200) }, splitstream.ErrCorrupt},
		"info too short":            {func(l *layout) { l.setHeader(24, 111) }, splitstream.ErrCorrupt},
		"info negative":             {func(l *layout) { l.setHeader(16, math.MaxUint64-5) }, splitstream.ErrCorrupt},
		"stream refs outside":       {func(l *layout) { l.set(0, 112, huge) }, splitstream.ErrCorrupt},
		"stream refs uneven":        {func(l *layout) { l.set(0, 112, 113) }, splitstream.ErrCorrupt},
		"object refs outside":       {func(l *layout) { l.set(16, huge, huge) }, splitstream.ErrCorrupt},
		"object refs uneven":        {func(l *layout) { l.set(16, 112, 143) }, splitstream.ErrCorrupt},
		"stream outside":            {func(l *layout) { l.set(32, 144, math.MaxUint64) }, splitstream.ErrCorrupt},
		"named refs outside":        {func(l *layout) { l.set(48, 0, huge) }, splitstream.ErrCorrupt},
		"size negative":             {func(l *layout) { binary.LittleEndian.PutUint64(l.info[72:], math.MaxUint64) }, splitstream.ErrCorrupt},
		"stream no zstd":            {func(l *layout) { l.set(32, 0, 32) }, splitstream.ErrCorrupt},
		"stream cut":                {func(l *layout) { l.set(32, 144, 150) }, splitstream.ErrCorrupt},
		"number cut":                {func(l *layout) { l.setStream(1, []byte{1, 2, 3}) }, splitstream.ErrCorrupt},
		"inline cut":                {func(l *layout) { l.setStream(9, number(-9), []byte("12345678")) }, splitstream.ErrCorrupt},
		"inline beyond the size":    {func(l *layout) { l.setStream(7, number(-8), []byte("12345678")) }, splitstream.ErrCorrupt},
		"second inline beyond it":   {func(l *layout) { l.setStream(9, number(-8), []byte("12345678"), number(-2), []byte("90")) }, splitstream.ErrCorrupt},
		"least number":              {func(l *layout) { l.setStream(math.MaxInt64, number(math.MinInt64)) }, splitstream.ErrCorrupt},
		"object index outside":      {func(l *layout) { l.setStream(10, number(1)) }, splitstream.ErrCorrupt},
		"object index far outside":  {func(l *layout) { l.setStream(10, number(math.MaxInt64)) }, splitstream.ErrCorrupt},
		"more objects than bytes":   {func(l *layout) { l.setStream(2, number(0), number(0), number(0)) }, splitstream.ErrCorrupt},
		"fewer bytes than the size": {func(l *layout) { l.setStream(9, number(-8), []byte("12345678")) }, splitstream.ErrSize},
		"named ref unterminated":    {func(l *layout) { l.setNamedRefs([]byte("0:name")) }, splitstream.ErrCorrupt},
		"named ref without index":   {func(l *layout) { l.setNamedRefs([]byte("name\x00")) }, splitstream.ErrCorrupt},
		"named ref of no stream":    {func(l *layout) { l.setNamedRefs([]byte("0:name\x00")) }, splitstream.ErrCorrupt},
		"named ref of negative":     {func(l *layout) { l.setNamedRefs([]byte("-1:name\x00")) }, splitstream.ErrCorrupt},
		"named ref without a name":  {func(l *layout) { l.set(0, 112, 144); l.setNamedRefs([]byte("0:\x00")) }, splitstream.ErrCorrupt},
		"named refs of one name": {func(l *layout) {
			l.rest = append(l.rest[:32], l.rest...) // two references: zeros, and what follows them
			copy(l.rest[32:64], "another digest, thirty-two bytes")
			l.set(0, 112, 176)
			l.set(32, 176, 176+uint64(len(l.rest)-64))
			l.setNamedRefs([]byte("0:name\x001:name\x00"))
		}, splitstream.ErrCorrupt},
		"named refs no zstd": {func(l *layout) { l.set(48, 0, 32) }, splitstream.ErrCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			l := handmade()
			test.change(l)
			err := readAll(l.file(), objects{})
			require.Error(t, err)
			assert.ErrorIs(t, err, test.want)
		})
	}
}

func TestWhatIsNoSplitstreamIsRefused(t *testing.T) {
	for name, test := range map[string]struct {
		file []byte
		want error
	}{
		"empty":         {nil, splitstream.ErrFormat},
		"short":         {[]byte("SplitStream"), splitstream.ErrFormat},
		"text":          {bytes.Repeat([]byte("text "), 50), splitstream.ErrFormat},
		"before 2026":   {compress([]byte("chunks of the first format")), splitstream.ErrOldFormat},
		"short, before": {[]byte{0x28, 0xB5, 0x2F, 0xFD}, splitstream.ErrOldFormat},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := newReader(test.file)
			assert.ErrorIs(t, err, test.want)
		})
	}
}

func TestAnotherAlgorithmThanAskedForIsRefused(t *testing.T) {
	file := handmade().file()
	_, err := splitstream.NewReader(bytes.NewReader(file), int64(len(file)), fsverity.SHA512)
	assert.ErrorIs(t, err, splitstream.ErrAlgorithm)
}

func TestEveryTruncationIsRefused(t *testing.T) {
	o := objects{}
	file, _ := write(t, o, piece{data: sequence(600)}, piece{data: sequence(100), object: true}, piece{data: sequence(400)})
	for n := range file {
		assert.Error(t, readAll(file[:n], o), "%d of %d bytes", n, len(file))
	}
}

// zeros yields what compresses best.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestBombEndsAtTheStatedSize(t *testing.T) {
	var bomb bytes.Buffer
	e, err := zstd.NewWriter(&bomb)
	require.NoError(t, err)
	// The number 0, thirty million times.
	_, err = io.CopyN(e, zeros{}, 256<<20)
	require.NoError(t, err)
	require.NoError(t, e.Close())

	l := handmade()
	l.rest = append(l.rest[:32], bomb.Bytes()...)
	l.set(32, 144, 144+uint64(bomb.Len()))
	r := mustReader(t, l.file())
	_, objects, err := walk(r)
	assert.ErrorIs(t, err, splitstream.ErrCorrupt)
	assert.LessOrEqual(t, objects, int64(1))

	l = handmade()
	at := uint64(112 + len(l.rest))
	l.rest = append(l.rest, bomb.Bytes()...)
	l.set(48, at, at+uint64(bomb.Len()))
	_, err = mustReader(t, l.file()).NamedRefs()
	assert.ErrorIs(t, err, splitstream.ErrCorrupt)
}

func TestClaimsOfAFileAllocateNothing(t *testing.T) {
	window := []byte{0x28, 0xB5, 0x2F, 0xFD, 0x00, 0xA8} // a frame with a window of 2 GiB
	l := handmade()
	l.rest = append(l.rest[:32], append(window, make([]byte, 64)...)...)
	l.set(32, 144, 144+uint64(len(window)+64))
	binary.LittleEndian.PutUint64(l.info[72:], math.MaxInt64)
	segment := handmade() // a frame of one segment of 1 GiB
	frame := []byte{0x28, 0xB5, 0x2F, 0xFD, 0xA0, 0x00, 0x00, 0x00, 0x40, 0x03, 0x00, 0x00, 0xff}
	segment.rest = append(segment.rest[:32], frame...)
	segment.set(32, 144, 144+uint64(len(frame)))
	for name, file := range map[string][]byte{"window": l.file(), "segment": segment.file()} {
		r := mustReader(t, file)
		result := testing.Benchmark(func(b *testing.B) {
			for b.Loop() {
				_, _, err := walk(r)
				require.Error(b, err)
			}
		})
		assert.Less(t, result.AllocedBytesPerOp(), int64(4<<20), name)
	}
}

// A file of a terabyte, most of it a hole, is not read because it says so.
type sparse struct {
	data []byte
	size int64
}

func (s sparse) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	if off < int64(len(s.data)) {
		copy(p, s.data[off:])
	}
	return len(p), nil
}

func TestHugeSectionsAreNotHeld(t *testing.T) {
	l := handmade()
	end := uint64(1) << 40
	l.set(0, 1<<20, end)
	l.set(16, 1<<20, end)
	l.setStream(10, number(5), number(1<<34))
	l.set(48, 1<<20, end)
	r, err := splitstream.NewReader(sparse{l.file(), 1 << 40}, 1<<40, fsverity.SHA256)
	require.NoError(t, err)
	_, objects, err := walk(r)
	require.NoError(t, err)
	assert.EqualValues(t, 2, objects)
	_, err = r.NamedRefs()
	assert.ErrorIs(t, err, splitstream.ErrCorrupt)
}
