package repomaker

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
)

// AddObject adds an object with the content that is read from content, unless
// the repository has it, and returns its digest and its size in bytes.
func (r *Repo) AddObject(content io.Reader) (fsverity.Digest, int64, error) {
	return r.addObject(func(w io.Writer) (int64, error) {
		return io.CopyBuffer(w, onlyReader{content}, r.buffer)
	})
}

// onlyReader keeps io.CopyBuffer to the buffer.
type onlyReader struct{ io.Reader }

// addObject adds an object with the content that write writes.
func (r *Repo) addObject(write func(io.Writer) (int64, error)) (_ fsverity.Digest, size int64, err error) {
	fail := func(err error) (fsverity.Digest, int64, error) {
		return fsverity.Digest{}, 0, fmt.Errorf("adding object: %w", err)
	}
	f, err := os.CreateTemp(filepath.Join(r.path, "objects"), "new-")
	if err != nil {
		return fail(err)
	}
	defer os.Remove(f.Name()) // fails once it is renamed
	defer f.Close()

	hasher := fsverity.NewHasher(r.algorithm)
	if size, err = write(bothWriter{f, hasher}); err != nil {
		return fail(err)
	}
	d := hasher.Sum()
	path := r.ObjectPath(d)
	if _, err := os.Lstat(path); err == nil {
		return d, size, nil
	}
	if err := f.Chmod(0o644); err != nil {
		return fail(err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fail(err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fail(err)
	}
	return d, size, nil
}

// bothWriter writes to a file and to a hash.
type bothWriter struct{ file, hash io.Writer }

func (w bothWriter) Write(p []byte) (int, error) {
	w.hash.Write(p)
	return w.file.Write(p)
}

// ObjectPath returns the path of an object's file, whether there is one or not.
func (r *Repo) ObjectPath(d fsverity.Digest) string {
	name := d.String()
	return filepath.Join(r.path, "objects", name[:2], name[2:])
}
