package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/splitstream"
)

// pieceSize is the size in bytes of the piece that large layers repeat.
const pieceSize = 4 << 20

// largeLayer adds a layer with one file, of so many times the same random piece.
// Hashed is false where it is too large for that: it can't arrive then.
func (f forge) largeLayer(i *forged, pieces int64, hashed bool) {
	f.t.Helper()
	piece := make([]byte, pieceSize)
	rand.NewChaCha8([32]byte{}).Read(piece)
	object := f.object(piece)

	var frame bytes.Buffer
	entries := tar.NewWriter(&frame)
	require.NoError(f.t, entries.WriteHeader(&tar.Header{Name: "large", Mode: 0o644, Size: pieces * pieceSize, Format: tar.FormatGNU}))
	header, trailer := bytes.Clone(frame.Bytes()), make([]byte, 1024)

	w, hash := splitstream.NewWriter(f.algorithm, splitstream.Layer), sha256.New()
	_, err := io.MultiWriter(w, hash).Write(header)
	require.NoError(f.t, err)
	for range pieces {
		require.NoError(f.t, w.Object(object, pieceSize))
		if hashed {
			hash.Write(piece)
		}
	}
	_, err = io.MultiWriter(w, hash).Write(trailer)
	require.NoError(f.t, err)
	i.add(digest.NewDigest(digest.SHA256, hash), f.stored(w))
}

// endless is more pieces than any test waits for: a terabyte.
const endless = 1 << 40 / pieceSize

// newLarge returns a repository with two images: "large", of a layer that is
// large enough to be caught at while it is being copied, and "endless", of that
// and a layer that comes to no end.
func newLarge(t testing.TB) (repo string, layer digest.Digest) {
	t.Helper()
	f := newForge(t)
	i := f.image()
	f.largeLayer(i, 8, true)
	layer = i.config.RootFS.DiffIDs[0]
	f.tag("large", i)
	i = f.image()
	f.largeLayer(i, 8, true)
	f.largeLayer(i, endless, false)
	f.tag("endless", i)
	return f.repo, layer
}
