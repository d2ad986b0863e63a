package main

import (
	"io/fs"
	"path/filepath"
	"sync/atomic"
	"time"
)

// sizeWatch looks again and again how large the files in a directory are.
type sizeWatch struct {
	*sampler
	largest atomic.Int64
}

const sizeInterval = 50 * time.Millisecond

func watchSize(dir string) *sizeWatch {
	w := &sizeWatch{}
	w.sampler = sample(sizeInterval, func() { w.largest.Store(max(w.largest.Load(), sizeOf(dir))) })
	return w
}

// stop ends the watch and returns the largest size seen, in bytes.
func (w *sizeWatch) stop() int64 {
	w.sampler.stop()
	return w.largest.Load()
}

// sizeOf returns the size in bytes of all files in a directory. What vanishes
// meanwhile is not counted.
func sizeOf(dir string) int64 {
	var size int64
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			size += info.Size()
		}
		return nil
	})
	return size
}
