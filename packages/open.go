package packages

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"golang.org/x/sys/unix"
)

// openRegular opens a regular file and tells its size in bytes. It returns nil and no
// error for a file that is none, and for what is absent.
func openRegular(fsys fs.FS, path string) (fs.File, int64, error) {
	info, err := fs.Stat(fsys, path)
	if err != nil && isAbsent(err) {
		return nil, 0, nil
	}
	if err != nil || !info.Mode().IsRegular() { // a FIFO would have no end
		return nil, 0, err
	}
	f, err := fsys.Open(path)
	if err != nil {
		return nil, 0, err
	}
	if info, err = f.Stat(); err != nil || !info.Mode().IsRegular() {
		f.Close()
		return nil, 0, err
	}
	return f, info.Size(), nil
}

// readNames calls visit with the names in a directory, if it is there.
func readNames(fsys fs.FS, dir string, visit func(name string) error) error {
	info, err := fs.Stat(fsys, dir)
	if err != nil && isAbsent(err) {
		return nil
	}
	if err != nil || !info.IsDir() {
		return err
	}
	f, err := fsys.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	opened, ok := f.(fs.ReadDirFile)
	if !ok {
		return fmt.Errorf("a %T is not a directory", f)
	}
	for count := 0; ; {
		const atOnce = 1024
		entries, err := opened.ReadDir(atOnce)
		for _, e := range entries {
			if count++; count > 2*maxPackages {
				return in("directory", dir, ErrTooLarge)
			}
			if err := visit(e.Name()); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// isAbsent tells whether an error says that there is nothing at a path: so do
// symlinks that lead nowhere, and files in the place of directories.
func isAbsent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)
}

// in adds to an error which database it is about.
func in(what, path string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s /%s: %w", what, path, err)
}
