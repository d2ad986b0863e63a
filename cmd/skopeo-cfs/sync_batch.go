package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/containers/image/v5/manifest"
	"github.com/containers/image/v5/pkg/blobinfocache"
	"github.com/containers/image/v5/types"
	"github.com/opencontainers/go-digest"

	"github.com/skopeo-cfs/skopeo-cfs/internal/beneath"
	"github.com/skopeo-cfs/skopeo-cfs/internal/blobannotations"
	"github.com/skopeo-cfs/skopeo-cfs/internal/sources"
	"github.com/skopeo-cfs/skopeo-cfs/zerocopy"
)

// batch is what the copies of a sync have in common. It makes them skip what the
// destination has, and counts what they write. The methods that copyOptions calls may
// be called on a nil batch, which a copy of one image has.
//
// A registry is asked for compressed layers by containers/image, which remembers them.
// Of a layout it remembers nothing, so that the batch does.
type batch struct {
	p       *prepared
	layout  string // the path of the layout, if that is the destination
	written int64  // bytes of layers, and shared those that share their blocks with the repository
	shared  int64

	// Of the copy that is under way:
	say    func(there bool) // is called when it is known whether the destination has the image
	there  bool             // it has
	layers []types.BlobInfo // as they are at the source

	// compressed has layers of a layout by the digests of their tars.
	compressed map[digest.Digest]types.BlobInfo

	progress chan types.ProgressProperties
	ended    chan struct{} // is closed to end follow
	followed chan struct{} // is closed when it has ended
	mutex    sync.Mutex
	moved    map[digest.Digest]bool // blobs of the source that were sent
}

// newBatch begins a batch. The caller calls end.
func newBatch(p *prepared, t target) *batch {
	b := &batch{
		p: p, layout: t.place, compressed: map[digest.Digest]types.BlobInfo{}, moved: map[digest.Digest]bool{},
		progress: make(chan types.ProgressProperties), ended: make(chan struct{}), followed: make(chan struct{}),
	}
	go b.follow()
	if t.transport == "containers-storage" { // zerocopy counts what it copies
		return b
	}
	p.options.Progress = b.progress
	if p.lines == nil { // else there is an interval
		p.options.ProgressInterval = time.Hour // only beginnings and ends are of use
	}
	return b
}

// end ends the batch. A copy that was left to itself may still have something to tell,
// which nobody hears then.
func (b *batch) end() {
	close(b.ended)
	<-b.followed
}

// follow notes which blobs are sent, and passes all events on to those who are to be
// told of the progress.
func (b *batch) follow() {
	defer close(b.followed)
	for {
		select {
		case p := <-b.progress:
			b.noteEvent(p)
		case <-b.ended:
			return
		}
	}
}

// flush returns when all events have been noted.
func (b *batch) flush() {
	if b != nil {
		b.progress <- types.ProgressProperties{}
	}
}

func (b *batch) noteEvent(p types.ProgressProperties) {
	if p.Artifact.Digest == "" { // flush's
		return
	}
	if p.Event == types.ProgressEventDone {
		b.mutex.Lock()
		b.moved[p.Artifact.Digest] = true
		b.mutex.Unlock()
	}
	if b.p.lines != nil {
		b.p.lines.events <- p
	}
}

// begin begins the copy of the next image, and calls say when it is known whether that
// is there already.
func (b *batch) begin(say func(there bool)) {
	b.say, b.there, b.layers = say, false, nil
	b.mutex.Lock()
	defer b.mutex.Unlock()
	b.moved = map[digest.Digest]bool{}
}

// source returns the reference to copy from instead of src, which has the layers
// compressed that a layout has so.
func (b *batch) source(src, dest types.ImageReference) types.ImageReference {
	if b == nil || dest.Transport().Name() == "containers-storage" {
		return src
	}
	return sources.Mended(src, func(_ context.Context, s types.ImageSource) (types.ImageSource, error) {
		return &batchSource{s, b}, nil
	})
}

// note counts what a copy into containers-storage came to.
func (b *batch) note(stats zerocopy.Stats) {
	if b == nil {
		return
	}
	b.written += stats.Written
	b.shared += stats.Shared
}

// learn notes what a copy has made of the layers. Where the image was there before,
// this program may not have made it, so only that is believed which is remembered.
func (b *batch) learn(raw []byte, dest types.ImageReference) {
	if b == nil || dest.Transport().Name() == "containers-storage" {
		return
	}
	m, err := manifest.FromBlob(raw, manifest.GuessMIMEType(raw))
	if err != nil || len(m.LayerInfos()) != len(b.layers) {
		return
	}
	b.flush()
	b.mutex.Lock()
	defer b.mutex.Unlock()
	counted := map[digest.Digest]bool{}
	for n, l := range m.LayerInfos() {
		tar := b.layers[n].Digest
		if !counted[l.Digest] && (b.moved[tar] || b.moved[l.Digest]) {
			counted[l.Digest] = true
			b.written += l.Size
		}
		if dest.Transport().Name() == "oci" && l.Digest != tar && b.canShare(l, tar) {
			b.compressed[tar] = l.BlobInfo
		}
	}
}

// canShare tells whether a layer in a layout can take the place of a tar in other
// images. Annotations that describe the blob would be lost.
func (b *batch) canShare(l manifest.LayerInfo, tar digest.Digest) bool {
	if len(blobannotations.Without(l.Annotations)) != len(l.Annotations) {
		return false
	}
	return !b.there || blobinfocache.DefaultCache(b.p.options.DestinationCtx).UncompressedDigest(l.Digest) == tar
}

// batchSource is an image's source, with compressed layers of a layout in the place of
// the same layers uncompressed.
type batchSource struct {
	types.ImageSource
	batch *batch
}

// LayerInfosForCopy returns the layers to copy.
func (s *batchSource) LayerInfosForCopy(ctx context.Context, instance *digest.Digest) ([]types.BlobInfo, error) {
	infos, err := s.ImageSource.LayerInfosForCopy(ctx, instance)
	if err != nil {
		return nil, err
	}
	same := infos == nil // the layers are the manifest's
	if same {
		if infos, err = layersIn(ctx, s.ImageSource); err != nil {
			return nil, err
		}
	}
	s.batch.layers = append([]types.BlobInfo{}, infos...)
	replaced := append([]types.BlobInfo{}, infos...)
	for n, l := range infos {
		if at, ok := s.batch.compressed[l.Digest]; ok && !s.batch.p.options.PreserveDigests {
			replaced[n].Digest, replaced[n].Size, replaced[n].MediaType = at.Digest, at.Size, at.MediaType
			same = false
		}
	}
	if same {
		return nil, nil
	}
	return replaced, nil
}

// layersIn returns the layers of a source's manifest, none where that has no layers.
func layersIn(ctx context.Context, src types.ImageSource) ([]types.BlobInfo, error) {
	raw, mediaType, err := src.GetManifest(ctx, nil)
	if err != nil {
		return nil, err
	}
	m, err := manifest.FromBlob(raw, mediaType)
	if err != nil {
		return nil, err
	}
	infos := []types.BlobInfo{}
	for _, l := range m.LayerInfos() {
		infos = append(infos, l.BlobInfo)
	}
	return infos, nil
}

// openBlob opens a compressed layer in the layout.
func (b *batch) openBlob(l types.BlobInfo) (io.ReadCloser, int64, error) {
	path, err := b.blobPath("oci", b.layout, l.Digest)
	if err != nil {
		return nil, 0, err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, 0, err
	}
	defer dir.Close()
	f, info, err := beneath.OpenRegular(dir, filepath.Base(path))
	if err != nil {
		return nil, 0, err
	}
	return f, info.Size(), nil
}

// GetBlob returns a blob, the compressed layers from the layout.
func (s *batchSource) GetBlob(ctx context.Context, info types.BlobInfo, cache types.BlobInfoCache) (io.ReadCloser, int64, error) {
	for _, at := range s.batch.compressed {
		if at.Digest == info.Digest {
			return s.batch.openBlob(at)
		}
	}
	return s.ImageSource.GetBlob(ctx, info, cache)
}
