package main

import (
	"io"
	"sync/atomic"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// verifyBar shows on a terminal how much was checked. The nil verifyBar shows nothing.
type verifyBar struct {
	done, total atomic.Int64
	pool        *mpb.Progress // nil where there is no terminal
	bar         *mpb.Bar
	stop, ended chan struct{}
}

func newVerifyBar(out io.Writer) *verifyBar {
	v := &verifyBar{stop: make(chan struct{}), ended: make(chan struct{})}
	if !showsBars(out) {
		return v
	}
	v.pool = mpb.New(mpb.WithWidth(40), mpb.WithOutput(out), mpb.WithRefreshRate(refreshInterval))
	v.bar = v.pool.AddBar(0,
		mpb.BarRemoveOnComplete(),
		mpb.PrependDecorators(decor.Name("Checking")),
		mpb.AppendDecorators(
			decor.CountersKibiByte("%.1f / %.1f"),
			decor.Name(" | "),
			decor.AverageSpeed(decor.SizeB1024(0), "% .1f"),
		))
	go v.move()
	return v
}

// note notes how far the check has come. It may be called concurrently.
func (v *verifyBar) note(done, total int64) {
	v.done.Store(done)
	v.total.Store(total)
}

// move moves the bar until end is called.
func (v *verifyBar) move() {
	defer close(v.ended)
	ticks := time.NewTicker(refreshInterval)
	defer ticks.Stop()
	for {
		select {
		case <-ticks.C:
			v.bar.SetTotal(v.total.Load(), false)
			v.bar.SetCurrent(v.done.Load())
		case <-v.stop:
			return
		}
	}
}

// end removes the bar.
func (v *verifyBar) end() {
	if v == nil || v.pool == nil {
		return
	}
	close(v.stop)
	<-v.ended
	v.bar.Abort(true)
	v.pool.Wait()
}
