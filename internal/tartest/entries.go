package tartest

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Entry is an entry of a tar, with its content.
type Entry struct {
	tar.Header
	Content string
}

// File returns the entry of a regular file.
func File(name, content string) Entry {
	return Entry{tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644}, content}
}

// Dir returns the entry of a directory.
func Dir(name string) Entry {
	return Entry{Header: tar.Header{Name: name + "/", Typeflag: tar.TypeDir, Mode: 0o750}}
}

// Symlink returns the entry of a symlink.
func Symlink(name, target string) Entry {
	return Entry{Header: tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target}}
}

// HardLink returns the entry of a hard link.
func HardLink(name, target string) Entry {
	return Entry{Header: tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: target, Mode: 0o644}}
}

// With returns the entry with another header.
func (e Entry) With(change func(*tar.Header)) Entry {
	change(&e.Header)
	return e
}

// Tar returns a tar of entries.
func Tar(t testing.TB, entries ...Entry) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, e := range entries {
		e.Size = int64(len(e.Content))
		require.NoError(t, w.WriteHeader(&e.Header), e.Name)
		_, err := io.WriteString(w, e.Content)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return out.Bytes()
}

// Sparse returns a tar of a sparse file of so many bytes, in the format of GNU tar,
// and of an ordinary one, "after". The map says where the data is.
func Sparse(t testing.TB, name, sparseMap, data string, size int64) []byte {
	t.Helper()
	file := File("GNUSparseFile.0/"+name, sparseMap+strings.Repeat("\x00", 512-len(sparseMap))+data)
	records := PAXRecords("GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.name", name, "GNU.sparse.realsize", fmt.Sprint(size))
	header := Tar(t, File("PaxHeaders/"+name, records))[:1024]
	header[156] = 'x'
	copy(header[148:156], "        ")
	sum := 0
	for _, c := range header[:512] {
		sum += int(c)
	}
	copy(header[148:], fmt.Sprintf("%06o\x00 ", sum))
	return append(header, Tar(t, file, File("after", "after"))...)
}
