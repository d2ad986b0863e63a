package packages

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"path"

	"github.com/skopeo-cfs/skopeo-cfs/internal/sqlitetable"
)

// rpmDirs are where rpm's database is: on systems whose /usr is an image, before
// those, and on systems that rpm-ostree composes. Where several are there, they are
// one by symlinks.
var rpmDirs = []string{"usr/lib/sysimage/rpm", "usr/share/rpm", "var/lib/rpm"}

// rpmFormats are the formats of the database, the file's name telling which it is.
// The one that is written today is first.
var rpmFormats = []struct {
	name string
	read func(context.Context, fs.FS, *rpmFile, func(io.Reader) error) error
}{{"rpmdb.sqlite", readSQLite}, {"Packages.db", readNDB}, {"Packages", readBDB}}

const rpmDatabase = "rpm database"

// rpmFile is a file of a database.
type rpmFile struct {
	io.ReaderAt
	path string
	size int64 // in bytes
}

// readRPM reads rpm's database.
func readRPM(ctx context.Context, fsys fs.FS, found *list) error {
	for _, dir := range rpmDirs {
		for _, format := range rpmFormats {
			name := path.Join(dir, format.name)
			f, size, err := openRegular(fsys, name)
			if err != nil {
				return in(rpmDatabase, name, err)
			}
			if f == nil {
				continue
			}
			defer f.Close()
			r, err := readerAt(f)
			if err == nil && size > 0 { // to rpm, an empty file has no packages
				err = format.read(ctx, fsys, &rpmFile{r, name, size}, func(header io.Reader) error {
					p, err := readHeader(header)
					if err != nil {
						return err
					}
					return found.add(p)
				})
			}
			return in(rpmDatabase, name, err)
		}
	}
	return nil
}

// readerAt returns f as an io.ReaderAt.
func readerAt(f fs.File) (io.ReaderAt, error) {
	if r, ok := f.(io.ReaderAt); ok {
		return r, nil
	}
	return nil, fmt.Errorf("a %T can't be read at offsets", f)
}

// readSQLite reads a database that is one of SQLite: the table Packages, of an ID and
// a header.
func readSQLite(ctx context.Context, fsys fs.FS, file *rpmFile, visit func(io.Reader) error) error {
	const column = 1
	log, logSize, err := openRegular(fsys, file.path+"-wal")
	if err != nil {
		return err
	}
	var logAt io.ReaderAt
	if log != nil {
		defer log.Close()
		if logAt, err = readerAt(log); err != nil {
			return err
		}
	}
	db, err := sqlitetable.Open(ctx, file, file.size, logAt, logSize)
	if err != nil {
		return err
	}
	return db.Rows(ctx, "Packages", func(row *sqlitetable.Row) error {
		header, _, err := row.Blob(column)
		if err != nil {
			return err
		}
		return visit(header)
	})
}
