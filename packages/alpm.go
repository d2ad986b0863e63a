package packages

import (
	"context"
	"io"
	"io/fs"
	"path"
)

// alpmDirs are where pacman's database is: by default, and on systems whose /usr is
// an image. Where both are there, they are one by symlinks.
var alpmDirs = []string{"usr/lib/sysimage/lib/pacman/local", "var/lib/pacman/local"}

const alpmDatabase = "pacman database"

// readALPM reads pacman's database: a directory for each package, with a file desc.
func readALPM(ctx context.Context, fsys fs.FS, found *list) error {
	for _, dir := range alpmDirs {
		err := readNames(fsys, dir, func(name string) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			file := path.Join(dir, name, "desc")
			f, _, err := openRegular(fsys, file)
			if f == nil {
				return in(alpmDatabase, file, err)
			}
			defer f.Close()
			return in(alpmDatabase, file, parseALPM(ctx, f, found))
		})
		if err != nil || len(found.packages) > 0 {
			return err
		}
	}
	return nil
}

// parseALPM adds the package of a file: names between percent signs, each with its
// values in the lines that follow, up to an empty one.
func parseALPM(ctx context.Context, r io.Reader, found *list) error {
	p, field, values := Package{Kind: ALPM}, "", 0
	err := lines(ctx, r, func(line []byte) error {
		value := string(line)
		switch {
		case value == "":
			field, values = "", 0
			return nil
		case field == "":
			field = value
			return nil
		}
		if values++; values > 1 { // none of these has several
			return nil
		}
		switch field {
		case "%NAME%":
			p.Name = value
		case "%VERSION%":
			p.Version = value
		case "%ARCH%":
			p.Arch = value
		case "%BASE%":
			p.Source = value
		case "%SIZE%":
			p.Size = parseSize(value, 1)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return found.add(p)
}
