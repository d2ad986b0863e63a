package rearchive

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/internal/damaged"
	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
	"github.com/skopeo-cfs/skopeo-cfs/internal/ustar"
)

// entry is what an entry of a tar says, however the tar says it.
type entry struct {
	tar.Header
	content digest.Digest
}

// representation are the PAX records that say what the other formats have in
// their headers.
var representation = map[string]bool{
	"path": true, "linkpath": true, "size": true, "uid": true, "gid": true, "uname": true, "gname": true,
	"mtime": true, "atime": true, "ctime": true,
}

// entries returns the entries of a tar, up to the end or what can't be read. The
// contents of more than limit bytes are an error.
func entries(r io.Reader, limit int64) ([]entry, error) {
	var all []entry
	for in := tar.NewReader(r); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		e := entry{Header: *h}
		e.PAXRecords, e.Xattrs = map[string]string{}, nil //nolint:staticcheck // the records have them
		for key, value := range h.PAXRecords {
			if !representation[key] && !strings.HasPrefix(key, "GNU.sparse.") {
				e.PAXRecords[key] = value
			}
		}
		e.Format = tar.FormatUnknown
		if e.Typeflag == tar.TypeGNUSparse {
			e.Typeflag = tar.TypeReg
		}
		for _, t := range []*time.Time{&e.ModTime, &e.AccessTime, &e.ChangeTime} {
			*t = t.UTC()
		}
		hash := digest.Canonical.Hash()
		n, err := io.Copy(hash, io.LimitReader(in, limit+1))
		if err != nil {
			return nil, err
		}
		if limit -= n; limit < 0 {
			return nil, errors.New("too much for a test")
		}
		e.content = digest.NewDigest(digest.Canonical, hash)
		all = append(all, e)
	}
}

func allEntries(t testing.TB, data []byte) []entry {
	t.Helper()
	all, err := entries(bytes.NewReader(data), 1<<30)
	require.NoError(t, err)
	return all
}

func rewritten(t testing.TB, data []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	require.NoError(t, rewrite(&out, bytes.NewReader(data)))
	return out.Bytes()
}

// All that the fixtures have of kinds of entries, names, times, owners and
// extensions is in the new tars, which are the same each time.
func TestEntriesAreKept(t *testing.T) {
	for layout := range fixtures.Layouts(t, "sha256") {
		if layout == "sbom" {
			continue
		}
		t.Run(layout, func(t *testing.T) {
			_, tars := damaged.Fixture(t, layout)
			for _, data := range tars {
				again := rewritten(t, data)
				assert.Equal(t, allEntries(t, data), allEntries(t, again))
				assert.Equal(t, again, rewritten(t, data))
				assert.Equal(t, again, rewritten(t, again))
			}
		})
	}
}

// unusual are entries such as no fixture has.
var unusual = map[string]tar.Header{
	"old times":     {Typeflag: tar.TypeReg, Format: tar.FormatPAX, ModTime: time.Unix(-5, 250), AccessTime: time.Unix(1, 5), ChangeTime: time.Unix(2, 0)},
	"GNU's times":   {Typeflag: tar.TypeReg, Format: tar.FormatGNU, ModTime: time.Unix(1<<40, 0), AccessTime: time.Unix(1, 0), ChangeTime: time.Unix(2, 0)},
	"GNU's devices": {Typeflag: tar.TypeChar, Format: tar.FormatGNU, Devmajor: 1 << 30, Devminor: 1 << 31},
	"GNU's ids":     {Typeflag: tar.TypeReg, Format: tar.FormatGNU, Uid: -2, Gid: 1 << 40, ModTime: time.Unix(0, 0)},
	"GNU's link to a name that is not UTF-8": {
		Typeflag: tar.TypeLink, Format: tar.FormatGNU, Linkname: strings.Repeat("\xff", 300), ModTime: time.Unix(0, 0),
	},
	"PAX's name that is not UTF-8": {Typeflag: tar.TypeReg, Format: tar.FormatPAX, Uname: "\xff\xfe"},
	"records of others": {Typeflag: tar.TypeReg, Format: tar.FormatPAX, PAXRecords: map[string]string{
		"SCHILY.xattr.user.x": "a\x00b\nc", "LIBARCHIVE.xattr.user.y": "YQ==", "VENDOR.unknown": "1",
	}},
	"the global header": {Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "x", "GNU.sparse.name": "y"}},
	"GNU's volume":      {Typeflag: 'V', Format: tar.FormatGNU, ModTime: time.Unix(0, 0)},
}

// tarOf returns a tar with an entry.
func tarOf(t testing.TB, h tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if h.Typeflag != tar.TypeXGlobalHeader {
		h.Name = "name"
	}
	require.NoError(t, w.WriteHeader(&h))
	_, err := w.Write(make([]byte, h.Size))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return b.Bytes()
}

func TestUnusualEntriesAreKept(t *testing.T) {
	for name, header := range unusual {
		t.Run(name, func(t *testing.T) {
			data := tarOf(t, header)
			want := allEntries(t, data)
			require.Len(t, want, 1)
			assert.Equal(t, want, allEntries(t, rewritten(t, data)))
		})
	}
}

// Sparse files come out whole, as extraction makes them.
func TestSparseFilesAreWrittenOut(t *testing.T) {
	dir := t.TempDir()
	file, err := os.Create(filepath.Join(dir, "sparse"))
	require.NoError(t, err)
	defer file.Close()
	require.NoError(t, file.Truncate(3<<20))
	for i := range int64(8) { // more than an old header has room for
		_, err = file.WriteAt([]byte("data"), i*300<<10)
		require.NoError(t, err)
	}
	want, err := os.ReadFile(file.Name())
	require.NoError(t, err)
	for _, format := range [][]string{
		{"--format=gnu"},
		{"--format=posix", "--sparse-version=0.0"},
		{"--format=posix", "--sparse-version=0.1"},
		{"--format=posix", "--sparse-version=1.0"},
	} {
		t.Run(strings.Join(format, " "), func(t *testing.T) {
			data, err := exec.Command("tar", append(format, "-S", "-C", dir, "-c", "sparse")...).Output()
			require.NoError(t, err)
			require.Less(t, len(data), len(want), "not sparse")
			again := rewritten(t, data)
			assert.Greater(t, len(again), len(want))
			all := allEntries(t, again)
			assert.Equal(t, allEntries(t, data), all)
			require.Len(t, all, 1)
			assert.Equal(t, "sparse", all[0].Name)
			assert.Equal(t, digest.FromBytes(want), all[0].content)
		})
	}
}

// A few bytes do not make for endless work.
func TestEndlessSparseFilesAreRefused(t *testing.T) {
	_, err := newHeader(&tar.Header{Typeflag: tar.TypeGNUSparse, Name: "file", Size: 1<<40 + 1})
	assert.ErrorIs(t, err, errSparse)
	h, err := newHeader(&tar.Header{Typeflag: tar.TypeGNUSparse, Name: "file", Size: 1 << 40})
	require.NoError(t, err)
	assert.EqualValues(t, tar.TypeReg, h.Typeflag)
}

func TestBrokenTarsAreErrors(t *testing.T) {
	_, tars := damaged.Fixture(t, "hello")
	good := tars[0]
	for name, data := range map[string][]byte{
		"no tar":              bytes.Repeat([]byte("x"), 1024),
		"cut in a header":     good[:100],
		"cut in a content":    good[:len(rewrittenHead(t, good))],
		"a checksum is wrong": append([]byte("y"), good[1:]...),
	} {
		t.Run(name, func(t *testing.T) {
			err := rewrite(io.Discard, bytes.NewReader(data))
			require.Error(t, err)
			assert.NotErrorIs(t, err, io.EOF)
		})
	}
}

// rewrittenHead returns a tar up to the middle of its first file.
func rewrittenHead(t testing.TB, data []byte) []byte {
	t.Helper()
	r := bytes.NewReader(data)
	for in := tar.NewReader(r); ; {
		h, err := in.Next()
		require.NoError(t, err)
		if h.Size > 0 {
			return data[:len(data)-r.Len()+int(h.Size/2)]
		}
	}
}

// FuzzRewrite: whatever is taken for a tar, its entries are kept, and the new
// tar stays as it is when it is rewritten.
func FuzzRewrite(f *testing.F) {
	for _, header := range unusual { // the fixtures are too large to get far with
		f.Add(tarOf(f, header))
	}
	f.Add(tarOf(f, tar.Header{Typeflag: tar.TypeReg, Size: 600}))
	const limit = 4 << 20
	f.Fuzz(func(t *testing.T, data []byte) {
		want, err := entries(bytes.NewReader(data), limit)
		if err != nil {
			return // nothing to compare with, and maybe gigabytes of holes
		}
		var first, second bytes.Buffer
		if err := rewrite(&first, bytes.NewReader(data)); err != nil {
			return // of all that can be read, some can't be written
		}
		got, err := entries(bytes.NewReader(first.Bytes()), limit)
		if err != nil {
			t.Fatal(err)
		}
		if want, got := comparable(want), comparable(got); want != got {
			t.Fatalf("want %s\ngot %s", want, got)
		}
		if err := rewrite(&second, bytes.NewReader(first.Bytes())); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(first.Bytes(), second.Bytes()) {
			t.Fatal("not the same again")
		}
	})
}

// comparable returns what of entries is the same however strange they were: what
// has no content has no size, what is no directory no slash at its end.
func comparable(all []entry) string {
	var text strings.Builder
	for _, e := range all {
		if ustar.IsHeaderOnly(e.Typeflag) {
			e.Size = 0
		}
		fmt.Fprintf(&text, "%q %+q %+q %d %o %d %d %q %q %s %s %s %d %d %q %s\n", e.Typeflag, strings.TrimRight(e.Name, "/"), e.Linkname, e.Size, e.Mode,
			e.Uid, e.Gid, e.Uname, e.Gname, e.ModTime, e.AccessTime, e.ChangeTime, e.Devmajor, e.Devminor, e.PAXRecords, e.content)
	}
	return text.String()
}
