package main

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/docker/go-units"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/text/language"
	"golang.org/x/text/message"

	"github.com/skopeo-cfs/skopeo-cfs/zerocopy"
)

// progress shows what becomes of layers that are not copied by copy.Image, as
// that shows it: a bar a layer on a terminal, else a line a layer.
type progress struct {
	out   io.Writer // nil: nothing is shown
	start time.Time
	pool  *mpb.Progress // nil where out is no terminal

	mutex sync.Mutex // protects what follows
	bars  map[int]*layerBar
}

// refreshInterval is how often bars are drawn. The end waits for the last time,
// which with the library's choice would be most of the time of a copy that finds
// all layers there.
const refreshInterval = 50 * time.Millisecond

// layerBar is a layer's bar, and when it last moved.
type layerBar struct {
	*mpb.Bar
	moved time.Time
}

func newProgress(out io.Writer) *progress {
	p := &progress{out: out, start: time.Now(), bars: map[int]*layerBar{}}
	if showsBars(out) {
		p.pool = mpb.New(mpb.WithWidth(40), mpb.WithOutput(out), mpb.WithRefreshRate(refreshInterval))
	}
	return p
}

// note shows an event. It may be called concurrently.
func (p *progress) note(e zerocopy.Event) {
	if p.out == nil {
		return
	}
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if p.pool != nil {
		p.move(e)
		return
	}
	switch e.State {
	case zerocopy.Found:
		fmt.Fprintf(p.out, "Copying blob %s already there\n", e.Digest)
	case zerocopy.Done:
		fmt.Fprintf(p.out, "Copying blob %s done\n", e.Digest)
	}
}

// move moves a layer's bar.
func (p *progress) move(e zerocopy.Event) {
	bar := p.bars[e.Layer]
	if bar == nil {
		bar = &layerBar{p.newBar(e), time.Now()}
		p.bars[e.Layer] = bar
	}
	switch e.State {
	case zerocopy.Found, zerocopy.Done:
		bar.SetCurrent(barTotal(e)) // completes it
		return
	case zerocopy.Restarted:
		bar.SetCurrent(0)
	}
	now := time.Now()
	bar.EwmaIncrInt64(e.Bytes, now.Sub(bar.moved))
	bar.moved = now
}

// barTotal is the total of a layer's bar. A bar is complete when it gets there,
// which the layer is only some time after all of its bytes are through.
func barTotal(e zerocopy.Event) int64 { return e.Size + 1 }

func (p *progress) newBar(e zerocopy.Event) *mpb.Bar {
	label, end := "Copying blob "+e.Digest.Encoded()[:12], " done"
	if e.State == zerocopy.Found {
		end = " already there"
	}
	bar := p.pool.AddBar(barTotal(e),
		mpb.BarPriority(e.Layer),
		mpb.BarFillerClearOnComplete(),
		mpb.PrependDecorators(decor.OnComplete(decor.Name(label), label+end)),
		mpb.AppendDecorators(
			decor.OnComplete(decor.CountersKibiByte("%.1f / %.1f"), ""),
			decor.OnComplete(decor.Name(" | "), ""),
			decor.OnComplete(decor.EwmaSpeed(decor.SizeB1024(0), "% .1f", 30), ""),
		))
	return bar
}

// end leaves the terminal to others, and says what has happened if all went well.
func (p *progress) end(stats zerocopy.Stats, err error) {
	if p.pool != nil {
		for _, bar := range p.bars {
			bar.Abort(false) // does nothing to those that are complete
		}
		p.pool.Wait()
	}
	if p.out == nil || err != nil || stats == (zerocopy.Stats{}) {
		return
	}
	size := func(bytes int64) string {
		return units.CustomSize("%.3g %s", float64(bytes), 1000, []string{"B", "kB", "MB", "GB", "TB", "PB"})
	}
	files := message.NewPrinter(language.English).Sprintf("%d", stats.Files)
	extracted := ""
	if stats.Extracted > 0 {
		extracted = fmt.Sprintf(", %d layers extracted by containers-storage", stats.Extracted)
	}
	fmt.Fprintf(p.out, "%s files, %s shared, %s written%s, %.1f s\n",
		files, size(stats.Shared), size(stats.Written), extracted, time.Since(p.start).Seconds())
}
