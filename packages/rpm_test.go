package packages

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/internal/needs"
	"github.com/skopeo-cfs/skopeo-cfs/internal/packagemaker"
)

// asRPM returns what rpm says is installed in a root directory.
func asRPM(t testing.TB, root, backend string) []string {
	t.Helper()
	out := packagemaker.RunRPM(t, root, backend, "-qa", "--qf", `%{name}|%|epoch?{%{epoch}:}:{}|%{version}-%{release}|%{arch}|%{sourcerpm}|%{longsize}\n`)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	for i, line := range lines {
		fields := strings.Split(line, "|")
		require.Len(t, fields, 5, line)
		source := sourceName(fields[3])
		if source == fields[0] {
			source = ""
		}
		lines[i] = strings.Join([]string{fields[0], strings.TrimPrefix(fields[1], "0:"), strings.Replace(fields[2], "(none)", "", 1), source, fields[4]}, "|")
	}
	slices.Sort(lines)
	return lines
}

// asLines returns packages in that form.
func asLines(packages []Package) []string {
	var lines []string
	for _, p := range packages {
		lines = append(lines, fmt.Sprintf("%s|%s|%s|%s|%d", p.Name, p.Version, p.Arch, p.Source, p.Size))
	}
	slices.Sort(lines)
	return lines
}

var rpms = []packagemaker.Package{
	{Name: "alpha", Version: "2:1.0~rc1-3.el9"},
	{Name: "beta-libs", Version: "1.2-4", Source: "beta-source"},
	{Name: "kernel", Version: "6.1.0-1"},
	{Name: "kernel", Version: "6.2.0-1"},
	{Name: "glib", Version: "0:2-1", Arch: "x86_64"},
	{Name: "glib", Version: "0:2-1", Arch: "i686"},
}

// installRPMs makes packages and has rpm install them, of which one has many files, so
// that its header needs many pages.
func installRPMs(t testing.TB) (root string) {
	t.Helper()
	root = t.TempDir()
	many := packagemaker.Package{Name: "gamma", Version: "3-1", Files: map[string]string{"/usr/share/gamma/one": strings.Repeat("x", 12345)}}
	for i := range 400 {
		many.Files[fmt.Sprintf("/usr/share/gamma/a-rather-long-name-of-a-file-%d", i)] = "content"
	}
	var paths []string
	for _, p := range append(slices.Clone(rpms), many) {
		paths = append(paths, packagemaker.RPM(t, p))
	}
	packagemaker.InstallRPMs(t, root, paths...)
	return root
}

func TestRPM(t *testing.T) {
	root := installRPMs(t)
	want := asRPM(t, root, "sqlite")
	require.Len(t, want, len(rpms)+1)
	dir := filepath.Join(root, packagemaker.RPMDir)
	headers := headersOf(t, os.DirFS(dir), "rpmdb.sqlite")
	assertPackages := func(t *testing.T, root string, want []string) {
		t.Helper()
		got, err := Read(t.Context(), os.DirFS(root))
		require.NoError(t, err)
		assert.Equal(t, want, asLines(got))
	}
	assertPackages(t, root, want)

	t.Run("ndb", func(t *testing.T) {
		other := t.TempDir()
		writeFile(t, filepath.Join(other, packagemaker.RPMDir, "Packages.db"), makeNDB(headers))
		assertPackages(t, other, want)
	})
	t.Run("bdb", func(t *testing.T) {
		other := t.TempDir()
		writeFile(t, filepath.Join(other, packagemaker.RPMDir, "Packages"), nil)
		makeBDB(t, headers, filepath.Join(other, packagemaker.RPMDir, "Packages"))
		assertPackages(t, other, want)
		assert.Equal(t, want, asRPM(t, other, "bdb_ro"))
	})
	// The database is found at each of its places, and once where one leads to another.
	t.Run("places", func(t *testing.T) {
		db, err := os.ReadFile(filepath.Join(dir, "rpmdb.sqlite"))
		require.NoError(t, err)
		for _, place := range rpmDirs {
			other := t.TempDir()
			writeFile(t, filepath.Join(other, place, "rpmdb.sqlite"), db)
			assertPackages(t, other, want)
			if place != "var/lib/rpm" {
				require.NoError(t, os.MkdirAll(filepath.Join(other, "var/lib"), 0o755))
				require.NoError(t, os.Symlink("../../"+place, filepath.Join(other, "var/lib/rpm")))
				assertPackages(t, other, want)
			}
		}
	})
	// So it is left when the machine is switched off while rpm is at work.
	t.Run("log", func(t *testing.T) {
		needs.Tool(t, "sqlite3")
		other := t.TempDir()
		copied := filepath.Join(other, packagemaker.RPMDir, "rpmdb.sqlite")
		writeFile(t, copied, nil)
		sqlite := exec.Command("sqlite3", "-batch", filepath.Join(dir, "rpmdb.sqlite"))
		sqlite.Stdin = strings.NewReader(fmt.Sprintf("begin; delete from Packages where hnum < 3;\ncommit;\n.shell cp rpmdb.sqlite rpmdb.sqlite-wal %s\nbegin; insert into Packages select hnum+50, blob from Packages;\nrollback;", filepath.Dir(copied)))
		sqlite.Dir = dir
		out, err := sqlite.CombinedOutput()
		require.NoError(t, err, "%s", out)
		got, err := Read(t.Context(), os.DirFS(other))
		require.NoError(t, err)
		assert.Len(t, got, len(want)-2)
		require.NoError(t, os.Remove(copied+"-wal"))
		assertPackages(t, other, want)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "rpmdb.sqlite"), readFile(t, copied), 0o600))
	})
	t.Run("erased", func(t *testing.T) {
		packagemaker.RunRPM(t, root, "sqlite", "--erase", "--allmatches", "kernel", "gamma")
		assertPackages(t, root, asRPM(t, root, "sqlite"))
		assert.Len(t, asRPM(t, root, "sqlite"), len(rpms)-2)
	})
}

func writeFile(t testing.TB, path string, content []byte) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, content, 0o600))
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	return content
}

// headersOf returns the headers in a database.
func headersOf(t testing.TB, fsys fs.FS, name string) (headers [][]byte) {
	t.Helper()
	f, size, err := openRegular(fsys, name)
	require.NoError(t, err)
	require.NotNil(t, f)
	defer f.Close()
	r, err := readerAt(f)
	require.NoError(t, err)
	require.NoError(t, readSQLite(t.Context(), fsys, &rpmFile{r, name, size}, func(header io.Reader) error {
		content, err := io.ReadAll(header)
		headers = append(headers, content)
		return err
	}))
	return headers
}

// makeNDB makes a database of the format that only SUSE's rpm writes.
func makeNDB(headers [][]byte) []byte {
	db := []byte("RpmP" + strings.Repeat("\x00", 8) + "\x01" + strings.Repeat("\x00", 19))
	var blobs []byte
	for i, header := range headers {
		number, block, size := byte(i+1), (ndbPageSize+len(blobs))/ndbBlockSize, len(header)
		db = append(db, "Slot"...)
		db = append(db, number, 0, 0, 0, byte(block), byte(block>>8), byte(block>>16), 0, 1, 0, 0, 0)
		blobs = append(append(blobs, "BlbS"...), number, 0, 0, 0, 's', 'u', 'm', 's', byte(size), byte(size>>8), byte(size>>16), 0)
		blobs = append(blobs, header...)
		blobs = append(blobs, make([]byte, ndbBlockSize-len(blobs)%ndbBlockSize)...)
	}
	for len(db) < ndbPageSize {
		db = append(db, "Slot"+strings.Repeat("\x00", 12)...)
	}
	return append(db, blobs...)
}

// makeBDB has Berkeley DB make a database, as rpm did before it could only read them.
func makeBDB(t testing.TB, headers [][]byte, path string) {
	t.Helper()
	needs.Tool(t, "db_load")
	var dump strings.Builder
	dump.WriteString("VERSION=3\nformat=bytevalue\ntype=hash\nHEADER=END\n 00000000\n 09000000\n")
	for i, header := range headers {
		fmt.Fprintf(&dump, " %02x000000\n %s\n", i+1, hex.EncodeToString(header))
	}
	dump.WriteString("DATA=END\n")
	require.NoError(t, os.Remove(path))
	load := exec.Command("db_load", path)
	load.Stdin = strings.NewReader(dump.String())
	out, err := load.CombinedOutput()
	require.NoError(t, err, "%s", out)
}

func TestBadRPMDatabases(t *testing.T) {
	for _, format := range rpmFormats {
		for _, content := range []string{"x", strings.Repeat("x", 10000), "SQLite format 3\x00", "RpmP" + strings.Repeat("\x00", 28)} {
			name := path.Join("var/lib/rpm", format.name)
			_, err := Read(t.Context(), fstest.MapFS{name: {Data: []byte(content)}})
			if content[0] == 'R' && format.name == "Packages.db" {
				assert.NoError(t, err)
				continue
			}
			assert.ErrorContains(t, err, "rpm database /"+name)
		}
		got, err := Read(t.Context(), fstest.MapFS{path.Join("var/lib/rpm", format.name): {}})
		assert.NoError(t, err, "rpm takes an empty file for a database without packages")
		assert.Empty(t, got)
	}
}

// notAt is a file that can't be read at offsets.
type notAt struct{ fs.File }

type notAtFS struct{ fs.FS }

func (n notAtFS) Open(name string) (fs.File, error) {
	f, err := n.FS.Open(name)
	return notAt{f}, err
}

func TestNeedsOffsets(t *testing.T) {
	_, err := Read(t.Context(), notAtFS{fstest.MapFS{"var/lib/rpm/rpmdb.sqlite": {Data: []byte("x")}}})
	assert.ErrorContains(t, err, "can't be read at offsets")
}

// seedHeader returns a header of a few entries.
func seedHeader(tags ...entry) []byte {
	var index, data []byte
	for _, e := range tags {
		value := []byte("value\x00")
		if e.Type == typeInt32 {
			value = []byte{0, 0, 0, 7}
		} else if e.Type == typeInt64 {
			value = []byte{0, 0, 0, 0, 0, 0, 0, 8}
		}
		index = appendUint32(index, uint32(e.Tag), e.Type, uint32(len(data)), 1)
		data = append(data, value...)
	}
	return append(append(appendUint32(nil, uint32(len(tags)), uint32(len(data))), index...), data...)
}

func appendUint32(b []byte, numbers ...uint32) []byte {
	for _, n := range numbers {
		b = append(b, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	return b
}

var wholeHeader = seedHeader(entry{Tag: tagName, Type: typeString}, entry{Tag: tagVersion, Type: typeString}, entry{Tag: tagRelease, Type: typeString},
	entry{Tag: tagEpoch, Type: typeInt32}, entry{Tag: tagSize, Type: typeInt32}, entry{Tag: 1028, Type: typeInt32}, entry{Tag: tagArch, Type: typeString},
	entry{Tag: tagSourceRPM, Type: typeString}, entry{Tag: tagLongSize, Type: typeInt64})

func TestHeader(t *testing.T) {
	p, err := readHeader(strings.NewReader(string(wholeHeader)))
	require.NoError(t, err)
	assert.Equal(t, Package{Kind: RPM, Name: "value", Version: "7:value-value", Arch: "value", Size: 8}, p)
	for n := range wholeHeader {
		_, err := readHeader(strings.NewReader(string(wholeHeader[:n])))
		assert.ErrorIs(t, err, ErrFormat, n)
	}
	for name, header := range map[string][]byte{
		"no name":         seedHeader(entry{Tag: tagVersion, Type: typeString}, entry{Tag: tagRelease, Type: typeString}),
		"name a number":   seedHeader(entry{Tag: tagName, Type: typeInt32}, entry{Tag: tagVersion, Type: typeString}, entry{Tag: tagRelease, Type: typeString}),
		"nothing":         {},
		"no entries":      appendUint32(nil, 0, 0),
		"too many":        appendUint32(nil, maxEntries+1, 0),
		"too much":        appendUint32(nil, 1, maxHeaderData+1),
		"beyond the data": append(appendUint32(nil, 1, 1, tagName, typeString, 1, 1), 0),
		"before the data": append(appendUint32(nil, 1, 1, tagName, typeString, 1<<32-1, 1), 0),
	} {
		_, err := readHeader(strings.NewReader(string(header)))
		assert.ErrorIs(t, err, ErrFormat, name)
	}
}

func FuzzHeader(f *testing.F) {
	f.Add(wholeHeader)
	f.Fuzz(func(t *testing.T, header []byte) {
		p, err := readHeader(strings.NewReader(string(header)))
		if err == nil {
			assert.NotEmpty(t, p.Name)
			assert.LessOrEqual(t, len(p.Name)+len(p.Version)+len(p.Arch)+len(p.Source), 6*maxText)
		} else {
			assert.ErrorIs(t, err, ErrFormat)
		}
	})
}

// FuzzDatabase has databases of the formats that this package itself reads.
func FuzzDatabase(f *testing.F) {
	f.Add(0, makeNDB([][]byte{wholeHeader}))
	f.Add(1, seedBDB())
	f.Fuzz(func(t *testing.T, format int, content []byte) {
		read := []func(context.Context, fs.FS, *rpmFile, func(io.Reader) error) error{readNDB, readBDB}[format&1]
		var got int64
		_ = read(t.Context(), nil, &rpmFile{strings.NewReader(string(content)), "x", int64(len(content))}, func(header io.Reader) error {
			n, err := io.Copy(io.Discard, header)
			got += n
			return err
		})
		assert.LessOrEqual(t, got, int64(len(content))*int64(1<<15))
	})
}

// seedBDB returns a database with one header.
func seedBDB() []byte {
	const size = 512
	db := make([]byte, 3*size)
	copy(db[12:], "\x61\x15\x06\x00")
	db[20], db[21], db[25] = size&0xff, size>>8, bdbMetaPage
	table := db[size : 2*size]
	table[20], table[25] = 2, bdbSortedPage
	value := size - 5 - bdbOffPageSize
	table[26], table[27], table[28], table[29] = (size-5)&0xff, (size-5)>>8, byte(value&0xff), byte(value>>8)
	copy(table[size-5:], "\x01\x01\x00\x00\x00")
	copy(table[value:], []byte{bdbOffPage, 0, 0, 0, 2, 0, 0, 0, byte(len(wholeHeader)), byte(len(wholeHeader) >> 8), 0, 0})
	overflow := db[2*size:]
	overflow[22], overflow[23], overflow[25] = byte(len(wholeHeader)), byte(len(wholeHeader)>>8), bdbOverflowPage
	copy(overflow[bdbPageHeader:], wholeHeader)
	return db
}

func TestSeeds(t *testing.T) {
	for name, content := range map[string][]byte{"Packages": seedBDB(), "Packages.db": makeNDB([][]byte{wholeHeader})} {
		got, err := Read(t.Context(), fstest.MapFS{"usr/share/rpm/" + name: {Data: content}})
		require.NoError(t, err)
		assert.Len(t, got, 1)
	}
}
