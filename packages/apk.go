package packages

import (
	"context"
	"fmt"
	"io"
	"io/fs"
)

// apkPaths are where apk's database is. Where both are there, they are one by
// symlinks.
var apkPaths = []string{"lib/apk/db/installed", "usr/lib/apk/db/installed"}

const apkDatabase = "apk database"

// readAPK reads apk's database, see apk-package(5) and apk_db_write_fdb in database.c
// of apk-tools.
func readAPK(ctx context.Context, fsys fs.FS, found *list) error {
	for _, path := range apkPaths {
		f, _, err := openRegular(fsys, path)
		if err != nil {
			return in(apkDatabase, path, err)
		}
		if f != nil {
			defer f.Close()
			return in(apkDatabase, path, parseAPK(ctx, f, found))
		}
	}
	return nil
}

// parseAPK adds the packages of a file: fields, each a letter and a value, with an
// empty line behind each package.
func parseAPK(ctx context.Context, r io.Reader, found *list) error {
	p, seen := Package{Kind: APK}, false
	end := func() error {
		defer func() { p, seen = Package{Kind: APK}, false }()
		if !seen {
			return nil
		}
		return found.add(p)
	}
	err := lines(ctx, r, func(line []byte) error {
		if len(line) == 0 {
			return end()
		}
		seen = true
		if len(line) < 2 || line[1] != ':' {
			return fmt.Errorf("%w: a line that is not a field", ErrFormat)
		}
		value := line[2:]
		switch line[0] {
		case 'P':
			p.Name = string(value)
		case 'V':
			p.Version = string(value)
		case 'A':
			p.Arch = string(value)
		case 'o':
			p.Source = string(value)
		case 'I':
			p.Size = parseSize(string(value), 1)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return end()
}
