// Package repomaker makes composefs repositories for tests and benchmarks, from
// tars and from OCI layouts, as importers write them. For tests of what must be
// refused, it also makes repositories that no importer would write. Nothing is synced
// to disk.
package repomaker

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
)

// Options say what the repository is to have in common with those of older
// importers. The zero Options make what importers make today.
type Options struct {
	// OldHeader: splitstreams have the header that importers wrote before 2026's
	// change of layout.
	OldHeader bool
	// NoMeta: the repository has no meta.json. Importers that wrote the old
	// header wrote none.
	NoMeta bool
	// LoseTrailer: streams of layers lack what follows the two end-of-archive
	// blocks of the tar, as those made between March and May 2026 lack the zero
	// bytes there. Diff IDs are those of the whole tar.
	LoseTrailer bool
}

// Repo is a repository being made. It is not safe for concurrent use.
type Repo struct {
	path      string
	algorithm fsverity.Algorithm
	options   Options
	buffer    []byte // for copying
}

// Create makes an empty repository in the directory path, which it makes where
// it is absent.
func Create(path string, algorithm fsverity.Algorithm, options Options) (*Repo, error) {
	for _, dir := range []string{"", "objects", "images", "streams", filepath.Join("streams", tagDir)} {
		mode := fs.FileMode(0o755)
		if dir == "" {
			mode = 0o700
		}
		if err := os.MkdirAll(filepath.Join(path, dir), mode); err != nil {
			return nil, fmt.Errorf("making repository: %w", err)
		}
	}
	if !options.NoMeta {
		if err := os.WriteFile(filepath.Join(path, "meta.json"), []byte(fmt.Sprintf(meta, algorithm)), 0o644); err != nil {
			return nil, fmt.Errorf("making repository: %w", err)
		}
	}
	return Open(path, algorithm, options)
}

// meta is what is in meta.json. There will be no EROFS images, of which its
// second feature and the last key speak; but so do importers write it.
const meta = `{
  "version": 1,
  "algorithm": "%s",
  "features": {
    "compatible": [],
    "read-only-compatible": [
      "v1_erofs"
    ],
    "incompatible": []
  },
  "erofs_formats": {
    "default": 1
  }
}
`

// Open returns the repository in the directory path, to add to it.
func Open(path string, algorithm fsverity.Algorithm, options Options) (*Repo, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(absolute, "objects")); err != nil {
		return nil, fmt.Errorf("opening repository: %w", err)
	}
	return &Repo{path: absolute, algorithm: algorithm, options: options, buffer: make([]byte, 256<<10)}, nil
}

// Path returns the repository's absolute path.
func (r *Repo) Path() string { return r.path }

// link makes, or replaces, a symlink in the directory streams.
func (r *Repo) link(name, target string) error {
	path := filepath.Join(r.path, "streams", name)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Symlink(target, path)
}
