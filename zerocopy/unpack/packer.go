package unpack

import (
	"encoding/json"
	"fmt"
	"hash/maphash"
	"io"
	"path/filepath"

	"github.com/vbatts/tar-split/tar/storage"
)

// packer writes the entries of tar-split's record as tar-split's own JSON packer
// does, which refuses a path that occurs twice and keeps all paths for that. This
// one keeps their hashes, a tenth of the memory. Should two paths have one hash, the
// layer is refused as unusual.
type packer struct {
	encoder  *json.Encoder
	position int
	seed     maphash.Seed
	seen     map[uint64]struct{}
}

func newPacker(w io.Writer) *packer {
	return &packer{encoder: json.NewEncoder(w), seed: maphash.MakeSeed(), seen: map[uint64]struct{}{}}
}

// add writes an entry.
func (p *packer) add(e storage.Entry) error {
	if e.Type == storage.FileType {
		hash := maphash.String(p.seed, filepath.Clean(e.GetName()))
		if _, twice := p.seen[hash]; twice {
			return fmt.Errorf("%q: %w: it occurs twice", e.GetName(), ErrUnusual)
		}
		p.seen[hash] = struct{}{}
	}
	e.Position = p.position
	p.position++
	if err := p.encoder.Encode(e); err != nil {
		return fmt.Errorf("writing the record of the tar: %w", err)
	}
	return nil
}
