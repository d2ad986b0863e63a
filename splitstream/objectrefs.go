package splitstream

import (
	"fmt"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
)

// refsWindow is how many references are read at once.
const refsWindow = 512

// ObjectRefs calls visit with the objects that the splitstream may refer to, which
// are those of its chunks, and rarely others. It ends with the first error, which is
// visit's or that of reading the splitstream, and holds some of them, however many
// there are.
func (s *Reader) ObjectRefs(visit func(fsverity.Digest) error) error {
	size := int64(s.algorithm.Size())
	window := make([]byte, min(refsWindow*size, s.objectRefs.size()))
	for at := s.objectRefs.start; at < s.objectRefs.end; at += int64(len(window)) {
		window = window[:min(int64(len(window)), s.objectRefs.end-at)]
		if err := readFull(s.r, window, at); err != nil {
			return fmt.Errorf("reading object references: %w", err)
		}
		for rest := window; len(rest) > 0; rest = rest[size:] {
			d, err := fsverity.FromBytes(rest[:size])
			if err != nil {
				return err
			}
			if err := visit(d); err != nil {
				return err
			}
		}
	}
	return nil
}
