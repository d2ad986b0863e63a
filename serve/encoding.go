package serve

import (
	"io"
	"runtime"

	"github.com/klauspost/compress/zstd"
)

// encoders are what layers are compressed with for clients that take zstd. They are
// few, since each takes memory and most of a core: a client that comes when all are in
// use gets the layer as it is.
type encoders chan *zstd.Encoder

func newEncoders() encoders {
	e := make(encoders, 2*runtime.GOMAXPROCS(0))
	for range cap(e) {
		e <- nil
	}
	return e
}

// take returns an encoder that writes to w, which the caller gives back, or nil.
func (e encoders) take(w io.Writer) *zstd.Encoder {
	select {
	case encoder := <-e:
		if encoder == nil {
			// These options are never an error.
			encoder, _ = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest),
				zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true), zstd.WithWindowSize(1<<20))
		}
		encoder.Reset(w)
		return encoder
	default:
		return nil
	}
}

// giveBack ends the use of an encoder.
func (e encoders) giveBack(encoder *zstd.Encoder) {
	encoder.Reset(nil)
	e <- encoder
}
