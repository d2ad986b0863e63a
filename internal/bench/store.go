package main

import (
	"os"
	"path/filepath"
)

// store is a containers-storage directory with the driver overlay, on the disk.
type store struct{ dir string }

func (b *bench) newStore() (store, error) {
	dir, err := os.MkdirTemp(b.disk.path, "store-")
	return store{dir}, err
}

func (s store) root() string { return filepath.Join(s.dir, "root") }

// image returns how a copy names the image in the store.
func (s store) image() string {
	return "containers-storage:[overlay@" + s.root() + "+" + filepath.Join(s.dir, "run") + "]localhost/copied:latest"
}

func (s store) remove() error { return removeAll(s.dir) }
