package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/containers/image/v5/transports"
	"github.com/containers/image/v5/types"
	"github.com/opencontainers/go-digest"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

// The progress of copies as JSON lines, in the format that bootc has for its
// --progress-fd, version 0.1.0: https://bootc-dev.github.io/bootc. A line is a
// progressStart or a progressBytes.

const progressVersion = "0.1.0"

// progressStart is the first line.
type progressStart struct {
	Type    string `json:"type"` // Start
	Version string `json:"version"`
}

// progressBytes is how far the copy of an image has come. What was at the destination
// already is part of all numbers. Those called total are 0 where they are not known: of
// images that are not a composefs repository's.
type progressBytes struct {
	Type        string         `json:"type"` // ProgressBytes
	Task        string         `json:"task"` // copying
	Description string         `json:"description"`
	ID          string         `json:"id"` // the image at the destination
	BytesCached int64          `json:"bytesCached"`
	Bytes       int64          `json:"bytes"`
	BytesTotal  int64          `json:"bytesTotal"`
	StepsCached int            `json:"stepsCached"` // of blobs
	Steps       int            `json:"steps"`
	StepsTotal  int            `json:"stepsTotal"`
	Subtasks    []progressBlob `json:"subtasks"`
}

// progressBlob is a blob that is being copied; or was, where it has all its bytes.
type progressBlob struct {
	Subtask     string `json:"subtask"` // blob
	Description string `json:"description"`
	ID          string `json:"id"` // its digest
	BytesCached int64  `json:"bytesCached"`
	Bytes       int64  `json:"bytes"`
	BytesTotal  int64  `json:"bytesTotal"`
}

const (
	// progressInterval is how long after a line the next one comes.
	progressInterval = 200 * time.Millisecond
	// progressPatience is how long the last line waits for its reader.
	progressPatience = time.Second
)

// progressLines writes the progress of copies to a file descriptor that the user names.
// The nil progressLines writes nothing.
type progressLines struct {
	events chan types.ProgressProperties
	begins chan *copying
	ends   chan error
	lines  chan any // one that waits to be written, at most

	listened, written chan struct{}
}

// copying is the copy of an image.
type copying struct {
	id       string
	expected []expectedBlob // nil where that is not known
	blobs    []*blobProgress
}

// expectedBlob is a blob of the image: a layer, with its tar's digest and, where the
// manifest lists it compressed, that of the blob.
type expectedBlob struct {
	digest, compressed digest.Digest
	size, compressedTo int64
}

// blobProgress is how far a blob has come.
type blobProgress struct {
	digest      digest.Digest
	size, bytes int64
	done, found bool
	told        bool // that it is done
}

// newProgressLines returns the lines for the reader of out, which it owns.
func newProgressLines(out io.WriteCloser) *progressLines {
	p := &progressLines{
		events: make(chan types.ProgressProperties), begins: make(chan *copying), ends: make(chan error),
		lines: make(chan any, 1), listened: make(chan struct{}), written: make(chan struct{}),
	}
	p.lines <- progressStart{"Start", progressVersion}
	go p.write(out)
	go p.listen()
	return p
}

// listen takes what copies tell, until events is closed.
func (p *progressLines) listen() {
	defer close(p.listened)
	defer close(p.lines)
	var now *copying // nil between copies
	var last time.Time
	for {
		select {
		case now = <-p.begins:
		case err := <-p.ends:
			if err == nil {
				p.last(now.line())
			}
			now = nil
		case e, more := <-p.events:
			if !more {
				return
			}
			if now == nil {
				continue // of a copy that goes on after its end
			}
			now.note(e)
			// A reader that is slow gets fewer lines.
			if time.Since(last) >= progressInterval && len(p.lines) == 0 {
				p.lines <- now.line()
				last = time.Now()
			}
		}
	}
}

// last has the last line of a copy written, unless nobody reads.
func (p *progressLines) last(line progressBytes) {
	select {
	case p.lines <- line:
	case <-time.After(progressPatience):
	}
}

// write writes lines until there are no more, or nobody reads them.
func (p *progressLines) write(out io.WriteCloser) {
	defer close(p.written)
	defer out.Close()
	encoder := json.NewEncoder(out)
	for line := range p.lines {
		if encoder.Encode(line) != nil {
			break
		}
	}
	for range p.lines {
	}
}

// begin begins the copy of an image. The caller calls end.
func (p *progressLines) begin(ctx context.Context, dest, src types.ImageReference, sys *types.SystemContext) {
	if p != nil {
		p.begins <- &copying{id: transports.ImageName(dest), expected: expectedBlobs(ctx, src, sys)}
	}
}

// end ends the copy of an image, which went well or not.
func (p *progressLines) end(err error) {
	if p != nil {
		p.ends <- err
	}
}

// close ends the lines when there are no more copies.
func (p *progressLines) close() {
	if p == nil {
		return
	}
	close(p.events)
	<-p.listened
	select {
	case <-p.written:
	case <-time.After(progressPatience):
	}
}

// expectedBlobs returns the layers of an image of a composefs repository and its config;
// nil of another.
func expectedBlobs(ctx context.Context, src types.ImageReference, sys *types.SystemContext) []expectedBlob {
	if src.Transport().Name() != "composefs" {
		return nil
	}
	opened, err := openComposefs(ctx, src, sys)
	if err != nil {
		return nil // the copy will say so
	}
	defer opened.Close()
	image := opened.Image()
	var expected []expectedBlob
	known := map[digest.Digest]bool{}
	for _, l := range image.Layers {
		if !known[l.Digest()] {
			known[l.Digest()] = true
			expected = append(expected, expectedBlob{l.Digest(), l.Descriptor.Digest, l.Size, l.Descriptor.Size})
		}
	}
	return append(expected, expectedBlob{digest: image.ConfigDescriptor.Digest, size: image.ConfigDescriptor.Size})
}

// note notes an event.
func (c *copying) note(e types.ProgressProperties) {
	b := c.blob(e.Artifact)
	switch e.Event {
	case types.ProgressEventNewArtifact:
		*b = blobProgress{digest: b.digest, size: b.size}
	case types.ProgressEventRead:
		b.bytes = int64(e.Offset)
	case types.ProgressEventSkipped:
		b.done, b.found = true, true
	case types.ProgressEventDone:
		b.done = true
	}
}

// blob returns the blob that an event is about.
func (c *copying) blob(artifact types.BlobInfo) *blobProgress {
	for _, b := range c.blobs {
		if b.digest == artifact.Digest {
			b.size = max(b.size, artifact.Size)
			return b
		}
	}
	b := &blobProgress{digest: artifact.Digest, size: max(0, artifact.Size)}
	c.blobs = append(c.blobs, b)
	return b
}

// line returns how far the copy has come.
func (c *copying) line() progressBytes {
	l := progressBytes{
		Type: "ProgressBytes", Task: "copying", Description: "Copying image", ID: c.id,
		Subtasks: []progressBlob{}, StepsTotal: len(c.expected),
	}
	for _, b := range c.blobs {
		bytes := b.bytes
		if b.done {
			bytes = max(bytes, b.size)
			l.Steps++
		}
		l.Bytes += bytes
		if b.found {
			l.StepsCached++
			l.BytesCached += bytes
		}
		if !b.told {
			b.told = b.done
			blob := progressBlob{Subtask: "blob", Description: "Blob", ID: b.digest.String(), Bytes: bytes, BytesTotal: b.size}
			if b.found {
				blob.BytesCached = bytes
			}
			l.Subtasks = append(l.Subtasks, blob)
		}
	}
	l.BytesTotal = c.total()
	return l
}

// total returns how many bytes all blobs have. Those that did not come yet are taken to
// be compressed or not as the others are.
func (c *copying) total() (total int64) {
	sizes := map[digest.Digest]int64{}
	for _, b := range c.blobs {
		sizes[b.digest] = b.size
	}
	compressed := false
	for _, e := range c.expected {
		_, seen := sizes[e.compressed]
		compressed = compressed || seen && e.compressed != e.digest
	}
	for _, e := range c.expected {
		size, seen := sizes[e.digest]
		if !seen {
			size, seen = sizes[e.compressed]
		}
		switch {
		case seen:
			total += size
		case compressed && e.compressed != "":
			total += e.compressedTo
		default:
			total += e.size
		}
	}
	return total
}

// progressFD is the flag --progress-fd.
type progressFD struct{ number int }

// keptFD in the environment is the number that the file descriptor has in the process
// in the user namespace.
const keptFD = "_SKOPEO_CFS_PROGRESS_FD"

func (o *progressFD) addFlags(flags *pflag.FlagSet) {
	flags.IntVar(&o.number, "progress-fd", -1, "write the progress as JSON lines to the file descriptor of this `number`")
}

// keep keeps the file descriptor for the process in the user namespace, which has those
// with low numbers for itself.
func (o *progressFD) keep() error {
	if _, done := os.LookupEnv(keptFD); done || o.number < 0 {
		return nil // done: it is that process
	}
	kept, err := unix.FcntlInt(uintptr(o.number), unix.F_DUPFD, 64)
	if err != nil {
		return fmt.Errorf("--progress-fd %d: %w", o.number, err)
	}
	return os.Setenv(keptFD, strconv.Itoa(kept))
}

// open returns the lines, nil where none are wanted. The caller closes them.
func (o *progressFD) open() (*progressLines, error) {
	if o.number < 0 {
		return nil, nil
	}
	number := o.number
	if kept, err := strconv.Atoi(os.Getenv(keptFD)); err == nil {
		number = kept
		_ = os.Unsetenv(keptFD)
	}
	flags, err := unix.FcntlInt(uintptr(number), unix.F_GETFL, 0)
	if err == nil && flags&unix.O_ACCMODE == unix.O_RDONLY {
		err = unix.EBADF
	}
	if err != nil {
		return nil, fmt.Errorf("--progress-fd %d: %w", o.number, err)
	}
	unix.CloseOnExec(number)
	return newProgressLines(os.NewFile(uintptr(number), "--progress-fd")), nil
}
