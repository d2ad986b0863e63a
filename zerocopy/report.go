package zerocopy

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/containers/image/v5/copy"
	"github.com/containers/image/v5/types"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
)

// report tells the caller what becomes of the layers, in the ways that were asked
// for: Options.Report, copy.Options.ReportWriter, copy.Options.Progress.
type report struct {
	ctx      context.Context
	tell     func(Event) // nil: nobody asked
	out      io.Writer   // nil: nobody asked
	channel  chan<- types.ProgressProperties
	interval time.Duration

	mutex  sync.Mutex
	layers []layerReport
}

// layerReport is what has been told of a layer.
type layerReport struct {
	begun, ended   bool
	offset, update uint64    // bytes: all, and those since the last event on the channel
	at             time.Time // of that event
}

func newReport(ctx context.Context, copyOptions *copy.Options, options *Options, image *composefsrepo.Image) *report {
	r := &report{ctx: ctx, tell: options.Report, layers: make([]layerReport, len(image.Layers))}
	if options.Report == nil {
		r.out = copyOptions.ReportWriter
	}
	if copyOptions.ProgressInterval > 0 {
		r.channel, r.interval = copyOptions.Progress, copyOptions.ProgressInterval
	}
	return r
}

// note takes an event. It may be called by several goroutines at once.
func (r *report) note(e Event) {
	if r.tell != nil {
		r.tell(e)
	}
	if r.out == nil && r.channel == nil {
		return
	}
	r.mutex.Lock()
	defer r.mutex.Unlock()
	l := &r.layers[e.Layer]
	if l.ended {
		return
	}
	switch e.State {
	case Found:
		l.ended = true
		r.line("Copying blob %s skipped: already exists\n", e.Digest)
		r.send(types.ProgressEventSkipped, e, l)
	case Restarted:
		l.offset, l.update = 0, 0
		r.begin(e, l)
	case Reading:
		r.begin(e, l)
		l.offset += uint64(e.Bytes)
		l.update += uint64(e.Bytes)
		if time.Since(l.at) >= r.interval {
			r.send(types.ProgressEventRead, e, l)
		}
	case Done:
		l.ended = true
		r.send(types.ProgressEventDone, e, l)
	}
}

func (r *report) begin(e Event, l *layerReport) {
	if !l.begun {
		l.begun = true
		r.line("Copying blob %s\n", e.Digest)
		r.send(types.ProgressEventNewArtifact, e, l)
	}
}

func (r *report) line(format string, args ...any) {
	if r.out != nil {
		fmt.Fprintf(r.out, format, args...)
	}
}

// send sends an event, unless nobody takes it until the copy is cancelled.
func (r *report) send(event types.ProgressEvent, e Event, l *layerReport) {
	if r.channel == nil {
		return
	}
	r.forward(types.ProgressProperties{
		Event:        event,
		Artifact:     types.BlobInfo{Digest: e.Digest, Size: e.Size},
		Offset:       l.offset,
		OffsetUpdate: l.update,
	})
	l.update, l.at = 0, time.Now()
}

func (r *report) forward(p types.ProgressProperties) {
	select {
	case r.channel <- p:
	case <-r.ctx.Done():
	}
}

// rest sets the options by which copy.Image reports what is left to do, which is
// all but the layers. The caller calls done when it has returned.
func (r *report) rest(options *copy.Options) (done func()) {
	options.ReportWriter, options.Progress = nil, nil
	if r.out != nil {
		options.ReportWriter = &withoutBlobs{out: r.out}
	}
	if r.channel == nil {
		return func() {}
	}
	channel := make(chan types.ProgressProperties)
	options.Progress = channel
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for p := range channel {
			if p.Event != types.ProgressEventSkipped { // the layers
				r.forward(p)
			}
		}
	}()
	return func() {
		close(channel)
		<-ended
	}
}

// withoutBlobs passes on the lines that copy.Image writes, except those about
// layers. copy.Image writes from a goroutine for each layer.
type withoutBlobs struct {
	out   io.Writer
	mutex sync.Mutex // protects line, and writing to out
	line  []byte
}

// Write implements io.Writer.
func (w *withoutBlobs) Write(p []byte) (int, error) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	w.line = append(w.line, p...)
	for {
		end := bytes.IndexByte(w.line, '\n') + 1
		if end == 0 {
			return len(p), nil
		}
		line := w.line[:end]
		w.line = w.line[end:]
		if bytes.HasPrefix(line, []byte("Copying blob ")) {
			continue
		}
		if _, err := w.out.Write(line); err != nil {
			return 0, err
		}
	}
}
