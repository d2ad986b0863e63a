package main

import (
	"io/fs"
	"path/filepath"
	"sync/atomic"
	"time"
)

// sampler looks again and again how large the files in a directory are.
type sampler struct {
	largest    atomic.Int64
	end, ended chan struct{}
}

const sampleInterval = 50 * time.Millisecond

func watchSize(dir string) *sampler {
	s := &sampler{end: make(chan struct{}), ended: make(chan struct{})}
	go func() {
		defer close(s.ended)
		ticker := time.NewTicker(sampleInterval)
		defer ticker.Stop()
		for {
			s.largest.Store(max(s.largest.Load(), sizeOf(dir)))
			select {
			case <-ticker.C:
			case <-s.end:
				s.largest.Store(max(s.largest.Load(), sizeOf(dir)))
				return
			}
		}
	}()
	return s
}

// stop ends the watch and returns the largest size seen, in bytes.
func (s *sampler) stop() int64 {
	close(s.end)
	<-s.ended
	return s.largest.Load()
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
