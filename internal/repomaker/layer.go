package repomaker

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/skopeo-cfs/skopeo-cfs/splitstream"
)

// maxInline is the size in bytes of the largest file that importers keep inline.
const maxInline = 64

// Alter is called with each piece of a tar that goes inline, and the piece's
// offset in the tar. It may change the bytes, which it must not keep: the stream
// then rebuilds another tar than that which the diff ID is of.
type Alter func(offset int64, inline []byte)

// AddLayer adds a layer's tar. It holds no more of it than what is inline,
// compressed. Alter may be nil.
func (r *Repo) AddLayer(layer io.Reader, alter Alter) (Blob, error) {
	return r.addLayer(Layer{Tar: layer, Alter: alter})
}

func (r *Repo) addLayer(layer Layer) (Blob, error) {
	hash := digest.Canonical.Digester()
	s := &splitter{
		repo: r, alter: layer.Alter, cut: layer.Cut,
		in:  io.TeeReader(layer.Tar, hash.Hash()),
		out: splitstream.NewWriter(r.algorithm, splitstream.Layer),
	}
	if err := s.split(); err != nil {
		return Blob{}, fmt.Errorf("adding layer: %w", err)
	}
	blob := Blob{Digest: hash.Digest(), Size: s.read}
	var err error
	blob.Stream, err = r.AddStream(StreamName(splitstream.Layer, blob.Digest), s.out)
	return blob, err
}

// splitter makes a splitstream of a tar. It is the reader that archive/tar reads
// through, and everything read goes inline, but for what split takes for itself:
// archive/tar reads no further than it needs.
type splitter struct {
	repo     *Repo
	in       io.Reader
	out      *splitstream.Writer
	alter    Alter
	cut      int64 // bytes, 0 if nothing is cut
	read     int64 // bytes
	external bool  // what is read is an object's
}

// Read implements io.Reader.
func (s *splitter) Read(p []byte) (int, error) {
	n, err := s.in.Read(p)
	s.read += int64(n)
	if s.external {
		return n, err
	}
	inline := p[:n]
	if s.cut > 0 {
		inline = inline[:max(0, min(int64(n), s.cut-(s.read-int64(n))))]
	}
	if s.alter != nil {
		inline = bytes.Clone(inline)
		s.alter(s.read-int64(n), inline)
	}
	if _, writeErr := s.out.Write(inline); writeErr != nil {
		return n, writeErr
	}
	return n, err
}

// split reads the tar to its end.
func (s *splitter) split() error {
	for entries := tar.NewReader(s); ; {
		header, err := entries.Next()
		switch {
		case errors.Is(err, io.EOF):
			return s.trailer()
		case err != nil && !errors.Is(err, tar.ErrInsecurePath):
			return fmt.Errorf("at offset %d: %w", s.read, err)
		}
		if isExternal(header) {
			if err := s.object(entries); err != nil {
				return fmt.Errorf("%q: %w", header.Name, err)
			}
		}
	}
}

// isExternal tells whether an entry's content becomes an object. That of sparse
// files, which is not what the tar has, stays inline.
func isExternal(header *tar.Header) bool {
	for key := range header.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return false
		}
	}
	return header.Typeflag == tar.TypeReg && header.Size > maxInline
}

// object puts the content of the entry that entries stands at outside.
func (s *splitter) object(entries io.Reader) error {
	s.external = true
	defer func() { s.external = false }()
	start := s.read
	d, size, err := s.repo.AddObject(entries)
	switch {
	case err != nil:
		return err
	case s.cut > start && s.cut < s.read:
		return fmt.Errorf("to be cut at offset %d, within an object", s.cut)
	case s.cut > 0 && s.cut <= start:
		return nil
	}
	return s.out.Object(d, size)
}

// trailer reads what follows the end-of-archive blocks.
func (s *splitter) trailer() error {
	s.external = s.repo.options.LoseTrailer
	_, err := io.CopyBuffer(io.Discard, onlyReader{s}, s.repo.buffer)
	return err
}
