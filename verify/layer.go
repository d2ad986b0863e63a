package verify

import (
	"context"
	"encoding"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/lostzeros"
	"github.com/skopeo-cfs/skopeo-cfs/internal/tarend"
	"github.com/skopeo-cfs/skopeo-cfs/splitstream"
)

// layer is a layer, or a blob of an artifact, that is compared with its digests.
type layer struct {
	*stream
	wants []wantedSum

	// What reading it came to.
	sums   map[digest.Algorithm]hash.Hash
	read   int64 // bytes
	err    error // of the stream
	broken bool  // an object can't be read, so that sums are of nothing

	endKnown, cut bool // whether the tar has no end
}

// wantedSum is a digest that a layer should have, mostly the only one.
type wantedSum struct {
	digest.Digest
	images []*image
}

// want adds a digest that the layer should have.
func (l *layer) want(d digest.Digest, im *image) {
	i := slices.IndexFunc(l.wants, func(w wantedSum) bool { return w.Digest == d })
	if i < 0 {
		i = len(l.wants)
		l.wants = append(l.wants, wantedSum{Digest: d})
	}
	l.wants[i].images = append(l.wants[i].images, im)
	if l.sums[d.Algorithm()] == nil {
		l.sums[d.Algorithm()] = d.Algorithm().Hash()
	}
}

// judgeLayers tells what is wrong with the layers whose objects are sound.
func (c *checker) judgeLayers(ctx context.Context) error {
	for _, l := range c.layers {
		if l.broken || !l.readable || c.touched(l.stream) {
			continue
		}
		if l.err == nil && l.read != l.size {
			l.err = fmt.Errorf("%w: %d bytes instead of %d", splitstream.ErrSize, l.read, l.size)
		}
		if l.err != nil {
			c.streamDamage(l.stream, l.err.Error())
			continue
		}
		for _, w := range l.wants {
			if err := c.judgeLayer(ctx, l, w); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

// judgeLayer compares a layer with a digest that it should have. The error is ctx's.
func (c *checker) judgeLayer(ctx context.Context, l *layer, w wantedSum) error {
	h := l.sums[w.Algorithm()]
	got := digest.NewDigest(w.Algorithm(), h)
	if got == w.Digest {
		return nil
	}
	part := partLayer
	if l.kind == splitstream.Blob {
		part = partBlob
	}
	damage := Damage{Kind: LayerAltered, part: part, Path: streamPath(layerPrefix, w.Digest), Digest: w.Digest,
		Detail: fmt.Sprintf("it hashes to %s; no object was altered", got)}
	if l.kind == splitstream.Layer {
		zeros, err := findZeros(h, l.size, w.Digest)
		if err != nil {
			return err
		}
		cut := zeros == 0 && c.isCut(ctx, l)
		switch {
		case zeros > 0:
			damage.Kind, damage.Detail = LayerZeros, fmt.Sprintf("it lacks the %d zero bytes at its end that some importers lost", zeros)
		case cut:
			damage.Kind, damage.Detail = LayerCut, fmt.Sprintf("it was cut when it was imported: after %d bytes it ends without an end of the archive; no object was altered", l.size)
		}
	}
	c.found(damage, w.images...)
	return ctx.Err()
}

// findZeros returns how many zeros a layer of size bytes lacks at its end, 0 if that is
// not what is wrong with it. The hash stays what it is.
func findZeros(h hash.Hash, size int64, want digest.Digest) (int64, error) {
	state, err := h.(encoding.BinaryMarshaler).MarshalBinary() // which the hashes of digests have
	if err != nil {
		return 0, err
	}
	longer := want.Algorithm().Hash()
	if err := longer.(encoding.BinaryUnmarshaler).UnmarshalBinary(state); err != nil {
		return 0, err
	}
	sum, err := hex.DecodeString(want.Encoded())
	if err != nil {
		return 0, err
	}
	if zeros, found := lostzeros.Find(longer, size, sum); found {
		return zeros, nil
	}
	return 0, nil
}

// isCut tells whether a layer's tar has no end.
func (c *checker) isCut(ctx context.Context, l *layer) bool {
	if !l.endKnown {
		l.cut, l.endKnown = c.lacksEnd(ctx, l), true
	}
	return l.cut
}

func (c *checker) lacksEnd(ctx context.Context, l *layer) bool {
	file, r, err := c.openReader(l.object)
	if err != nil {
		return false
	}
	defer file.Close()
	content := r.Content(ctx, func(d fsverity.Digest) (io.ReadCloser, int64, error) { return c.repo.OpenObject(d) })
	defer content.Close()
	return tarend.IsMissing(content)
}
