package main

import "time"

// sampler calls a function again and again.
type sampler struct{ end, ended chan struct{} }

// sample calls look at once, in every interval, and once more before stop
// returns; never two at a time.
func sample(interval time.Duration, look func()) *sampler {
	s := &sampler{end: make(chan struct{}), ended: make(chan struct{})}
	go func() {
		defer close(s.ended)
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			look()
			select {
			case <-ticker.C:
			case <-s.end:
				look()
				return
			}
		}
	}()
	return s
}

// stop ends the calls.
func (s *sampler) stop() {
	close(s.end)
	<-s.ended
}
