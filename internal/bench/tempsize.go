package main

import (
	"io/fs"
	"path/filepath"
	"time"
)

// sampler looks again and again how large the files in a directory are.
type sampler struct {
	end     chan struct{}
	largest chan int64
}

const sampleInterval = 50 * time.Millisecond

func watchSize(dir string) *sampler {
	s := &sampler{make(chan struct{}), make(chan int64)}
	go func() {
		ticker := time.NewTicker(sampleInterval)
		defer ticker.Stop()
		for largest := int64(0); ; {
			largest = max(largest, sizeOf(dir))
			select {
			case <-ticker.C:
			case <-s.end:
				s.largest <- max(largest, sizeOf(dir))
				return
			}
		}
	}()
	return s
}

// stop ends the watch and returns the largest size seen, in bytes.
func (s *sampler) stop() int64 {
	close(s.end)
	return <-s.largest
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
