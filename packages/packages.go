// Package packages lists the packages that are installed in a file system, from the
// databases of its package managers: rpm (all three formats), dpkg, apk and pacman.
//
// Nothing in the file system is trusted, no program is run, and nothing is written, not
// even temporary files.
package packages

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
)

var (
	// ErrFormat: a database is not what its package manager writes.
	ErrFormat = errors.New("malformed package database")
	// ErrTooLarge: a database has more packages, or longer texts, than this package
	// reads.
	ErrTooLarge = errors.New("too many packages, or too much data about them")
)

// Kind is a kind of package, after the package manager's format.
type Kind string

// The kinds.
const (
	RPM  Kind = "rpm"
	Deb  Kind = "deb"
	APK  Kind = "apk"
	ALPM Kind = "alpm" // pacman's
)

// Package is an installed package. Its texts are as the database has them, and may
// have any bytes in them.
type Package struct {
	Kind Kind   `json:"kind"`
	Name string `json:"name"`
	// Version is as the package manager writes it: for rpm, [EPOCH:]VERSION-RELEASE.
	Version string `json:"version"`
	// Arch is the architecture, "" where the database names none.
	Arch string `json:"arch,omitempty"`
	// Source is the source package, as the database names it; "" where it does not,
	// or the source has the package's own name.
	Source string `json:"source,omitempty"`
	// Size is that of the package's files, in bytes, as the package says; 0 where it
	// does not.
	Size int64 `json:"size,omitempty"`
}

// readers read the database of one package manager, if it is there.
var readers = []func(context.Context, fs.FS, *list) error{readRPM, readDpkg, readAPK, readALPM}

// Read returns the packages that are installed in a file system, sorted by name,
// architecture, version and kind. Symlinks are for fsys to follow. An rpm database must be a file
// that implements io.ReaderAt.
//
// A database that can't be read does not hide those of others: their packages are
// returned with the error. It wraps ErrFormat or ErrTooLarge, or is fsys's, and names
// the database; or it is that of ctx.
func Read(ctx context.Context, fsys fs.FS) ([]Package, error) {
	var all list
	var broken error
	for _, read := range readers {
		one := list{texts: all.texts}
		err := read(ctx, fsys, &one)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			broken = errors.Join(broken, err)
			continue
		}
		all.packages = append(all.packages, one.packages...)
		all.texts = one.texts
	}
	slices.SortFunc(all.packages, func(a, b Package) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Arch, b.Arch), cmp.Compare(a.Version, b.Version), cmp.Compare(a.Kind, b.Kind))
	})
	return all.packages, broken
}

const (
	maxPackages = 200_000
	maxText     = 1 << 10  // bytes of a name, a version and so on
	maxTexts    = 32 << 20 // bytes of all of them
)

// list is what was found.
type list struct {
	packages []Package
	texts    int // bytes
}

// add adds a package, which must have a name and a version.
func (l *list) add(p Package) error {
	if p.Name == "" || p.Version == "" {
		return fmt.Errorf("%w: a package without a name or a version", ErrFormat)
	}
	if p.Source == p.Name {
		p.Source = ""
	}
	p.Size = max(p.Size, 0)
	for _, text := range []string{p.Name, p.Version, p.Arch, p.Source} {
		if len(text) > maxText {
			return fmt.Errorf("%w: a text of %d bytes", ErrTooLarge, len(text))
		}
		l.texts += len(text)
	}
	if l.texts > maxTexts || len(l.packages) == maxPackages {
		return ErrTooLarge
	}
	l.packages = append(l.packages, p)
	return nil
}
