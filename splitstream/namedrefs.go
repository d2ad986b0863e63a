package splitstream

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
)

// maxNamedRefs bounds what the named references may decompress to, in bytes:
// some ten thousand of them, a hundred times what images have.
const maxNamedRefs = 1 << 20

// NamedRefs returns the splitstreams that this one refers to by name: the
// digests of their files. The error wraps ErrCorrupt or is that of reading the
// splitstream.
func (s *Reader) NamedRefs() (map[string]fsverity.Digest, error) {
	refs := map[string]fsverity.Digest{}
	if s.namedRefs.size() == 0 {
		return refs, nil
	}
	d, err := s.decompress(s.namedRefs)
	if err != nil {
		return nil, err
	}
	in := &io.LimitedReader{R: d, N: maxNamedRefs + 1}
	for records := bufio.NewReader(in); ; {
		record, err := records.ReadBytes(0)
		if in.N == 0 {
			return nil, fmt.Errorf("%w: named references of more than %d bytes", ErrCorrupt, maxNamedRefs)
		}
		if errors.Is(err, io.EOF) && len(record) == 0 {
			return refs, nil
		}
		if err != nil {
			return nil, unexpectedEnd(err, "a named reference")
		}
		name, digest, err := s.parseNamedRef(record[:len(record)-1])
		if err != nil {
			return nil, err
		}
		if other, ok := refs[name]; ok && other != digest {
			return nil, fmt.Errorf("%w: two references named %.200q", ErrCorrupt, name)
		}
		refs[name] = digest
	}
}

// parseNamedRef decodes INDEX:NAME.
func (s *Reader) parseNamedRef(record []byte) (string, fsverity.Digest, error) {
	index, name, ok := bytes.Cut(record, []byte(":"))
	i, err := strconv.ParseUint(string(index), 10, 63)
	if !ok || err != nil || len(name) == 0 {
		return "", fsverity.Digest{}, fmt.Errorf("%w: named reference %.200q", ErrCorrupt, record)
	}
	digest, err := s.digestAt(s.streamRefs, int64(i))
	if err != nil {
		return "", fsverity.Digest{}, fmt.Errorf("named reference %.200q: %w", record, err)
	}
	return string(name), digest, nil
}
