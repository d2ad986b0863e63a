package sqlitetable

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/internal/needs"
)

// sqlite has the program run SQL, and returns what it prints.
func sqlite(t testing.TB, path, sql string) string {
	t.Helper()
	needs.Tool(t, "sqlite3")
	cmd := exec.Command("sqlite3", "-batch", path)
	cmd.Stdin = strings.NewReader(sql)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return string(out)
}

// open opens the database at a path, with its log if it has one.
func open(t testing.TB, path string) *File {
	t.Helper()
	db, err := os.ReadFile(path)
	require.NoError(t, err)
	log, err := os.ReadFile(path + "-wal")
	if err != nil {
		require.ErrorIs(t, err, os.ErrNotExist)
	}
	f, err := Open(t.Context(), bytes.NewReader(db), int64(len(db)), bytes.NewReader(log), int64(len(log)))
	require.NoError(t, err)
	return f
}

// list lists the rows of a table of an ID and a blob.
func list(ctx context.Context, f *File, table string) (string, error) {
	var b strings.Builder
	err := f.Rows(ctx, table, func(r *Row) error {
		content, size, err := r.Blob(1)
		if err != nil {
			return err
		}
		hash := sha256.New()
		if n, err := io.Copy(hash, content); err != nil || n != size {
			return fmt.Errorf("%d of %d bytes: %w", n, size, err)
		}
		fmt.Fprintf(&b, "%d|%d|%s\n", r.ID, size, hex.EncodeToString(hash.Sum(nil)))
		return nil
	})
	return b.String(), err
}

// asSQLite lists them as SQLite sees them.
func asSQLite(t testing.TB, path, table string) string {
	t.Helper()
	var b strings.Builder
	for _, line := range strings.Fields(sqlite(t, path, "select hnum || '|' || hex(blob) from "+table+" order by hnum;")) {
		id, content, _ := strings.Cut(line, "|")
		raw, err := hex.DecodeString(content)
		require.NoError(t, err)
		fmt.Fprintf(&b, "%s|%d|%x\n", id, len(raw), sha256.Sum256(raw))
	}
	return b.String()
}

const (
	createPackages = "create table 'Packages' (hnum integer primary key autoincrement, blob blob not null); create table other (key text); create index i on other(key);"
	// fill adds rows of all sizes around the limits at which they get pages of their own.
	fill = `with recursive c(x) as (select 1 union all select x+1 from c where x<900)
		insert into Packages select x*3, randomblob(case when x%100=0 then x*300 when x%2 then x*5 else x%50 end) from c;
		insert into other select hex(blob) from Packages where length(blob)<100;`
)

func TestRowsAreSQLites(t *testing.T) {
	for _, prepare := range []string{
		"pragma page_size=512;", "pragma page_size=1024;", "pragma page_size=4096;", "pragma page_size=65536;",
		".filectrl reserve_bytes 32\n", "pragma auto_vacuum=full; pragma page_size=512;", "pragma journal_mode=wal;",
		"pragma encoding='UTF-16le'; pragma page_size=512;",
	} {
		t.Run(strings.TrimSpace(prepare), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "db")
			sqlite(t, path, prepare+createPackages+fill+"delete from Packages where hnum%7=0;")
			if strings.Contains(prepare, "UTF-16") { // which names of tables are in, too
				db, err := os.ReadFile(path)
				require.NoError(t, err)
				_, err = Open(t.Context(), bytes.NewReader(db), int64(len(db)), nil, 0)
				assert.ErrorIs(t, err, ErrFormat)
				return
			}
			got, err := list(t.Context(), open(t, path), "packages")
			require.NoError(t, err)
			assert.Equal(t, asSQLite(t, path, "Packages"), got)
			assert.Greater(t, strings.Count(got, "\n"), 700)
		})
	}
}

// logged makes a database the last changes of which are in its log, and returns a
// path of it as they would be after the machine was switched off.
func logged(t testing.TB, pageSize int, changes string) string {
	t.Helper()
	dir, copied := t.TempDir(), filepath.Join(t.TempDir(), "db")
	path := filepath.Join(dir, "db")
	sqlite(t, path, fmt.Sprintf("pragma page_size=%d;", pageSize)+createPackages+fill+"pragma journal_mode=wal;")
	sqlite(t, path, changes+fmt.Sprintf(".shell cp %s %s\n.shell cp %[1]s-wal %[2]s-wal\n", path, copied))
	require.FileExists(t, copied+"-wal")
	return copied
}

func TestLog(t *testing.T) {
	path := logged(t, 4096, "pragma wal_autocheckpoint=0; update Packages set blob=randomblob(9000) where hnum%5=0;\ndelete from Packages where hnum > 2600;\ninsert into Packages values (5000, randomblob(700000));\n")
	before := open(t, path)
	before.wal = nil
	stale, err := list(t.Context(), before, "Packages")
	require.NoError(t, err)

	whole, err := os.ReadFile(path + "-wal")
	require.NoError(t, err)
	check := func(name string, log []byte) {
		t.Run(name, func(t *testing.T) {
			copied := filepath.Join(t.TempDir(), "db")
			require.NoError(t, exec.Command("cp", path, copied).Run())
			require.NoError(t, os.WriteFile(copied+"-wal", log, 0o600))
			got, err := list(t.Context(), open(t, copied), "Packages")
			require.NoError(t, err)
			assert.Equal(t, asSQLite(t, copied, "Packages"), got)
			assert.Equal(t, name == "none" || name == "of another", got == stale)
		})
	}
	check("whole", whole)
	check("cut", whole[:len(whole)*19/20])
	altered := bytes.Clone(whole)
	altered[len(altered)*19/20] ^= 1
	check("altered", altered)
	check("none", whole[:logHeaderSize])
	salted := bytes.Clone(whole)
	salted[17] ^= 1
	check("of another", salted)
}

func TestNoTable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	sqlite(t, path, createPackages)
	_, err := list(t.Context(), open(t, path), "Parcels")
	assert.ErrorIs(t, err, ErrNoTable)
	got, err := list(t.Context(), open(t, path), "Packages")
	require.NoError(t, err)
	assert.Empty(t, got)
}

func TestNoDatabase(t *testing.T) {
	for _, content := range []string{"", "SQLite format 3", strings.Repeat("x", 5000)} {
		_, err := Open(t.Context(), strings.NewReader(content), int64(len(content)), nil, 0)
		assert.ErrorIs(t, err, ErrFormat)
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	content, err := os.ReadFile("testdata/small")
	require.NoError(t, err)
	f, err := Open(ctx, bytes.NewReader(content), int64(len(content)), nil, 0)
	require.NoError(t, err)
	_, err = list(ctx, f, "Packages")
	assert.ErrorIs(t, err, context.Canceled)
}

// A page that is in two places, or below itself, ends with an error: so does every
// damage, or with rows that are no more than the database's size allows.
func FuzzRows(f *testing.F) {
	for _, name := range []string{"small", "logged"} {
		db, err := os.ReadFile(filepath.Join("testdata", name))
		require.NoError(f, err)
		log, err := os.ReadFile(filepath.Join("testdata", name+"-wal"))
		if err != nil {
			require.ErrorIs(f, err, os.ErrNotExist)
		}
		f.Add(db, log)
	}
	f.Fuzz(func(t *testing.T, db, log []byte) {
		file, err := Open(t.Context(), bytes.NewReader(db), int64(len(db)), bytes.NewReader(log), int64(len(log)))
		if err != nil {
			return
		}
		var read int64
		_ = file.Rows(t.Context(), "Packages", func(r *Row) error {
			for i := range r.columns {
				if content, _, err := r.Blob(i); err == nil {
					n, _ := io.Copy(io.Discard, content)
					read += n
				}
			}
			return nil
		})
		// Cells of a page may overlap: as many as have room for their addresses.
		assert.LessOrEqual(t, read, int64(len(db)+len(log)+1<<16)*(1<<15))
	})
}
