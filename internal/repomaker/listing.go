package repomaker

import (
	"fmt"
	"hash"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Listing is what a manifest lists as an image's layers. The blobs themselves
// are in no repository.
type Listing int

const (
	// Gzip lists the layers' tars compressed with gzip.
	Gzip Listing = iota
	// Zstd lists them compressed with zstd.
	Zstd
	// Uncompressed lists the tars themselves, as manifests do that came from
	// containers-storage.
	Uncompressed
	// Pretended lists blobs that are said to be compressed with gzip, without
	// the time that compressing takes: there are none with these digests.
	Pretended
)

// listed makes of a layer's tar, written to it, the blob that a manifest lists,
// and keeps of that what a descriptor says.
type listed struct {
	listing    Listing
	compressor io.WriteCloser // nil where nothing is compressed
	hash       hash.Hash
	size       int64
}

func newListed(listing Listing) (*listed, error) {
	l := &listed{listing: listing, hash: digest.Canonical.Hash()}
	var err error
	switch listing {
	case Gzip:
		l.compressor = gzip.NewWriter(blobWriter{l})
	case Zstd:
		l.compressor, err = zstd.NewWriter(blobWriter{l})
	case Uncompressed, Pretended:
	default:
		err = fmt.Errorf("unknown listing %d", listing)
	}
	return l, err
}

// blobWriter takes the compressed bytes.
type blobWriter struct{ *listed }

func (w blobWriter) Write(p []byte) (int, error) {
	w.size += int64(len(p))
	return w.hash.Write(p)
}

// Write adds to the tar.
func (l *listed) Write(p []byte) (int, error) {
	if l.compressor == nil {
		return len(p), nil
	}
	return l.compressor.Write(p)
}

// descriptor returns the manifest's descriptor of the layer, all of whose tar
// was written.
func (l *listed) descriptor(tar Blob) (imgspecv1.Descriptor, error) {
	switch l.listing {
	case Uncompressed:
		return imgspecv1.Descriptor{MediaType: imgspecv1.MediaTypeImageLayer, Digest: tar.Digest, Size: tar.Size}, nil
	case Pretended:
		pretended := digest.FromString("pretended blob of " + tar.Digest.String())
		return imgspecv1.Descriptor{MediaType: imgspecv1.MediaTypeImageLayerGzip, Digest: pretended, Size: tar.Size/2 + 1}, nil
	}
	mediaType := imgspecv1.MediaTypeImageLayerGzip
	if l.listing == Zstd {
		mediaType = imgspecv1.MediaTypeImageLayerZstd
	}
	if err := l.compressor.Close(); err != nil {
		return imgspecv1.Descriptor{}, err
	}
	return imgspecv1.Descriptor{MediaType: mediaType, Digest: digest.NewDigest(digest.Canonical, l.hash), Size: l.size}, nil
}
