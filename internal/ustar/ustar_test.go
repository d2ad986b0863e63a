package ustar_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/internal/ustar"
)

// headers are headers of all kinds.
func headers() []tar.Header {
	var all []tar.Header
	for _, format := range []tar.Format{tar.FormatUSTAR, tar.FormatPAX, tar.FormatGNU} {
		for typeflag := byte('0'); typeflag <= '6'; typeflag++ {
			h := tar.Header{
				Name: "usr/lib/x", Typeflag: typeflag, Mode: 0o4755, Uid: 1000, Gid: 27, Uname: "root", Gname: "wheel",
				ModTime: time.Unix(1_700_000_000, 0), Format: format,
			}
			switch typeflag {
			case tar.TypeReg:
				h.Size = 12345
			case tar.TypeLink, tar.TypeSymlink:
				h.Linkname = "../y"
			case tar.TypeChar, tar.TypeBlock:
				h.Devmajor, h.Devminor = 7, 100
			}
			all = append(all, h)
		}
	}
	for i, h := range all[:7] {
		h.Name = fmt.Sprintf("%0120d/%090d", i, i) // with a prefix, in ustar
		all = append(all, h)
	}
	return all
}

// block returns the header's block, where it is a single one.
func block(t testing.TB, h tar.Header) *[ustar.BlockSize]byte {
	t.Helper()
	var out bytes.Buffer
	require.NoError(t, tar.NewWriter(&out).WriteHeader(&h))
	require.Equal(t, ustar.BlockSize, out.Len())
	return (*[ustar.BlockSize]byte)(out.Bytes())
}

func TestUsualHeadersAreRead(t *testing.T) {
	var r ustar.Reader
	for _, h := range headers() {
		var got tar.Header
		b := block(t, h)
		require.True(t, r.Read(b, &got), "%+v", h)
		want, err := tar.NewReader(bytes.NewReader(b[:])).Next()
		require.NoError(t, err)
		assert.Equal(t, *want, got)
	}
}

// Whatever is read is what archive/tar reads.
func FuzzReader(f *testing.F) {
	for _, h := range headers() {
		f.Add(block(f, h)[:], uint16(0), byte(0))
	}
	odd := block(f, tar.Header{Name: "a", Typeflag: tar.TypeReg, Mode: 0o644, Format: tar.FormatGNU})
	f.Add(odd[:], uint16(345), byte('1'))
	f.Add(odd[:], uint16(124), byte(0x80))
	f.Add(odd[:], uint16(100), byte(' '))
	f.Add(odd[:], uint16(107), byte('1'))
	f.Add(odd[:], uint16(0), byte(0xff))
	f.Fuzz(func(t *testing.T, content []byte, at uint16, c byte) {
		if len(content) < ustar.BlockSize {
			return
		}
		b := [ustar.BlockSize]byte(content)
		b[int(at)%ustar.BlockSize] = c
		if at%2 == 0 { // else most would fail for the sum alone
			sum(&b)
		}
		check(t, &b)
	})
}

// Each byte of each header is given the values that mean something, and others.
func TestChangedHeadersAreReadAsByTar(t *testing.T) {
	read := 0
	for _, h := range headers() {
		b := block(t, h)
		for at := range b {
			was := b[at]
			for _, c := range []byte("\x00 /01789Sgx\x7f\x80\xff") {
				b[at] = c
				if at < 148 || at >= 156 {
					sum(b)
				}
				if check(t, b) {
					read++
				}
			}
			b[at] = was
			sum(b)
		}
	}
	assert.Positive(t, read)
}

// check compares a header with that of archive/tar, and tells whether it was read.
func check(t *testing.T, b *[ustar.BlockSize]byte) bool {
	var r ustar.Reader
	var got tar.Header
	if !r.Read(b, &got) {
		return false
	}
	want, err := tar.NewReader(bytes.NewReader(b[:])).Next()
	require.NoError(t, err, "%q", b)
	require.Equal(t, *want, got)
	return true
}

// sum sets the checksum.
func sum(b *[ustar.BlockSize]byte) {
	copy(b[148:156], "        ")
	total := 0
	for _, c := range b {
		total += int(c)
	}
	copy(b[148:156], fmt.Sprintf("%06o\x00 ", total))
}

func BenchmarkReader(b *testing.B) {
	content := block(b, headers()[0])
	var r ustar.Reader
	var h tar.Header
	for b.Loop() {
		if !r.Read(content, &h) {
			b.Fatal("not read")
		}
	}
}
