// Package usage computes how much space images take in a composefs repository, and how
// much of it they share.
package usage

import (
	"cmp"
	"context"
	"errors"
	"io"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
)

// Image is what an image takes: the objects that its layers are rebuilt from, and
// those that hold the layers' streams. Manifests, configs and EROFS images are a few
// more and not counted.
type Image struct {
	Layers []Layer
	// Objects is the number of the image's objects, each counted once, Size the sum
	// of their sizes in bytes.
	Objects int
	Size    int64
	// Shared is the part of Size in objects that other images have too, Unique the
	// part that only this one has.
	Shared, Unique int64
	// Missing is the number of objects that the repository lacks. Their size is
	// counted as 0.
	Missing int
	// Common has the other images with which this one has objects in common, those
	// with the most bytes first.
	Common []Common
}

// Layer is what a layer is rebuilt from. An object that occurs several times in it
// is counted once.
type Layer struct {
	Objects     int
	ObjectBytes int64 // the sum of the objects' sizes
	InlineBytes int64 // the bytes of the layer's content that its stream itself has
	StreamBytes int64 // the size of the stream's file
}

// Common is what an image has in common with another.
type Common struct {
	Image   int // the other's index
	Layers  int // with the same diff IDs, or digests of blobs
	Objects int
	Bytes   int64 // the sum of the objects' sizes
}

// Of returns what each of the images takes. They are of one repository. Where an
// image is given twice, as when it has two tags, the two have everything in common.
// Layers are read side by side; the contents of objects are not read.
func Of(ctx context.Context, images []*composefsrepo.Image) ([]Image, error) {
	c := &counter{index: map[fsverity.Digest]int{}, layers: map[fsverity.Digest]*layer{}}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for _, image := range images {
		for n, l := range image.Layers {
			if c.layers[l.Verity] != nil {
				continue
			}
			counted := &layer{}
			c.layers[l.Verity] = counted
			group.Go(func() error { return c.count(groupCtx, image, n, counted) })
		}
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return c.sum(images), nil
}

// counter numbers the objects of all images.
type counter struct {
	layers map[fsverity.Digest]*layer // by the digests of their streams

	mu    sync.Mutex
	index map[fsverity.Digest]int
	sizes []int64 // -1: it is missing
}

type layer struct {
	Layer
	stream  int   // the object with the layer's stream
	objects []int // distinct and sorted, with the stream
}

// count reads the stream of an image's n-th layer.
func (c *counter) count(ctx context.Context, image *composefsrepo.Image, n int, counted *layer) error {
	chunks, err := image.LayerChunks(ctx, n)
	if err != nil {
		return err
	}
	defer chunks.Close()
	if counted.stream, err = c.add(image, image.Layers[n].Verity); err != nil {
		return err
	}
	counted.objects = []int{counted.stream}
	for limit := minObjects; ; {
		chunk, err := chunks.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		if chunk.Object.IsZero() {
			counted.InlineBytes += int64(len(chunk.Inline))
			continue
		}
		object, err := c.add(image, chunk.Object)
		if err != nil {
			return err
		}
		counted.objects = append(counted.objects, object)
		// A stream may name one object any number of times.
		if len(counted.objects) > limit {
			counted.objects = distinct(counted.objects)
			limit = max(minObjects, 2*len(counted.objects))
		}
	}
	counted.objects = distinct(counted.objects)
	return nil
}

// minObjects is the number of objects of a layer from which on they are sorted while
// it is read.
const minObjects = 1 << 16

// distinct sorts numbers and removes what occurs twice.
func distinct(numbers []int) []int {
	slices.Sort(numbers)
	return slices.Compact(numbers)
}

// add returns an object's number.
func (c *counter) add(image *composefsrepo.Image, d fsverity.Digest) (int, error) {
	c.mu.Lock()
	number, known := c.index[d]
	if !known {
		number = len(c.sizes)
		c.index[d] = number
		c.sizes = append(c.sizes, -1)
	}
	c.mu.Unlock()
	if known {
		return number, nil
	}
	size, err := image.ObjectSize(d)
	switch {
	case errors.Is(err, composefsrepo.ErrMissingObject), errors.Is(err, composefsrepo.ErrNotRegular):
		return number, nil
	case err != nil:
		return 0, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sizes[number] = size
	return number, nil
}

// sum compares the images, when all layers are read.
func (c *counter) sum(images []*composefsrepo.Image) []Image {
	sets := make([][]int, len(images))
	users := make([]int, len(c.sizes)) // by object, how many images have it
	for i, image := range images {
		for _, l := range image.Layers {
			sets[i] = append(sets[i], c.layers[l.Verity].objects...)
		}
		sets[i] = distinct(sets[i])
		for _, object := range sets[i] {
			users[object]++
		}
	}
	sums := make([]Image, len(images))
	for i, image := range images {
		sums[i] = c.sumOne(image, sets[i], users)
		for j := range images {
			if common := c.common(sets[i], sets[j]); j != i && common.Objects > 0 {
				common.Image, common.Layers = j, commonLayers(image, images[j])
				sums[i].Common = append(sums[i].Common, common)
			}
		}
		slices.SortStableFunc(sums[i].Common, func(a, b Common) int { return cmp.Compare(b.Bytes, a.Bytes) })
	}
	return sums
}

func (c *counter) sumOne(image *composefsrepo.Image, set, users []int) Image {
	out := Image{Objects: len(set)}
	for _, l := range image.Layers {
		out.Layers = append(out.Layers, c.sumLayer(c.layers[l.Verity]))
	}
	for _, object := range set {
		size := c.sizes[object]
		if size < 0 {
			out.Missing++
			continue
		}
		out.Size += size
		if users[object] > 1 {
			out.Shared += size
		} else {
			out.Unique += size
		}
	}
	return out
}

func (c *counter) sumLayer(l *layer) Layer {
	out := l.Layer
	for _, object := range l.objects {
		size := max(c.sizes[object], 0)
		if object == l.stream {
			out.StreamBytes = size
			continue
		}
		out.Objects++
		out.ObjectBytes += size
	}
	return out
}

// common intersects two sorted sets.
func (c *counter) common(a, b []int) Common {
	var out Common
	for len(a) > 0 && len(b) > 0 {
		switch cmp.Compare(a[0], b[0]) {
		case -1:
			a = a[1:]
		case 1:
			b = b[1:]
		default:
			out.Objects++
			out.Bytes += max(c.sizes[a[0]], 0)
			a, b = a[1:], b[1:]
		}
	}
	return out
}

// commonLayers counts the layers of a that b has too.
func commonLayers(a, b *composefsrepo.Image) int {
	n := 0
	for _, l := range a.Layers {
		if slices.ContainsFunc(b.Layers, func(other composefsrepo.Layer) bool { return other.Digest() == l.Digest() }) {
			n++
		}
	}
	return n
}
