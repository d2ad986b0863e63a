package serve

import (
	"context"
	"fmt"
	"os"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/splitstream"
)

// stream is a layer's open splitstream. It does not need the repository to stay
// open.
type stream struct {
	*splitstream.Reader
	file *os.File
}

// openStream opens the stream of a layer. The caller closes it. The error wraps
// composefsrepo.ErrMissingObject where it is gone.
func openStream(ctx context.Context, r *repository, l layer) (*stream, error) {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	repo, err := r.take(ctx)
	if err != nil {
		return nil, err
	}
	defer r.giveBack()
	f, size, err := repo.OpenObject(l.verity)
	if err != nil {
		return nil, fmt.Errorf("layer %s: %w", l.digest, err)
	}
	s, err := splitstream.NewReader(f, size, repo.Algorithm())
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("layer %s: stream %s: %w", l.digest, l.verity, err)
	}
	return &stream{s, f}, nil
}

func (s *stream) Close() error { return s.file.Close() }

// openObject opens an object and tells its size in bytes. The caller closes it.
func openObject(ctx context.Context, r *repository, d fsverity.Digest) (*os.File, int64, error) {
	repo, err := r.take(ctx)
	if err != nil {
		return nil, 0, err
	}
	defer r.giveBack()
	return repo.OpenObject(d)
}
