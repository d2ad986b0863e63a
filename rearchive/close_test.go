package rearchive_test

import (
	"io"
	"sync"
	"testing"

	"github.com/containers/image/v5/pkg/blobinfocache/none"
	"github.com/containers/image/v5/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/damaged"
	"github.com/skopeo-cfs/skopeo-cfs/internal/repomaker"
	"github.com/skopeo-cfs/skopeo-cfs/rearchive"
	"github.com/skopeo-cfs/skopeo-cfs/source"
)

// Whatever this project gives to be closed can be closed again, by several at
// once, read or not, and before or after what it was opened from.
func TestClosingTwiceIsHarmless(t *testing.T) {
	path := t.TempDir()
	damaged.Add(t, path, fsverity.SHA256, repomaker.Options{}, "hello", damaged.AlterHeaders(0))
	name := "composefs:[" + path + "]hello"
	opened := func(t *testing.T) *source.Source {
		src, err := parse(t, name).NewImageSource(t.Context(), nil)
		require.NoError(t, err)
		return src.(*source.Source)
	}
	rearchived := func(t *testing.T) types.ImageSource {
		src, err := rearchive.Reference(parse(t, name)).NewImageSource(t.Context(), nil)
		require.NoError(t, err)
		return src
	}
	blob := func(t *testing.T, src types.ImageSource, info types.BlobInfo) io.ReadCloser {
		content, _, err := src.GetBlob(t.Context(), info, none.NoCache)
		require.NoError(t, err)
		return content
	}
	for name, open := range map[string]func(t *testing.T) (closer, parent io.Closer){
		"repository": func(t *testing.T) (io.Closer, io.Closer) {
			repo, err := composefsrepo.Open(t.Context(), path, nil)
			require.NoError(t, err)
			return repo, repo
		},
		"source": func(t *testing.T) (io.Closer, io.Closer) {
			src := opened(t)
			return src, src
		},
		"image": func(t *testing.T) (io.Closer, io.Closer) {
			image, err := parse(t, name).NewImage(t.Context(), nil)
			require.NoError(t, err)
			return image, image
		},
		"layer": func(t *testing.T) (io.Closer, io.Closer) {
			src := opened(t)
			return blob(t, src, types.BlobInfo{Digest: src.Image().Layers[1].Digest()}), src
		},
		"layer that is another": func(t *testing.T) (io.Closer, io.Closer) {
			src := opened(t)
			return blob(t, src, types.BlobInfo{Digest: src.Image().Layers[0].Digest()}), src
		},
		"config": func(t *testing.T) (io.Closer, io.Closer) {
			src := opened(t)
			return blob(t, src, types.BlobInfo{Digest: src.Image().ConfigDescriptor.Digest}), src
		},
		"chunks": func(t *testing.T) (io.Closer, io.Closer) {
			src := opened(t)
			chunks, err := src.Image().LayerChunks(t.Context(), 0)
			require.NoError(t, err)
			return chunks, src
		},
		"re-archived source": func(t *testing.T) (io.Closer, io.Closer) {
			src := rearchived(t)
			return src, src
		},
		"re-archived layer": func(t *testing.T) (io.Closer, io.Closer) {
			src := rearchived(t)
			return blob(t, src, types.BlobInfo{Digest: src.(*rearchive.Source).Changes()[0].New}), src
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, use := range []func(io.Closer){
				func(io.Closer) {},
				func(c io.Closer) { read(c, 1) },
				func(c io.Closer) { read(c, 1<<30) },
			} {
				closer, parent := open(t)
				use(closer)
				for range 3 {
					assert.NoError(t, closer.Close())
				}
				assert.NoError(t, parent.Close())
				assert.NoError(t, closer.Close())

				closer, parent = open(t)
				use(closer)
				var all sync.WaitGroup
				for range 8 {
					all.Add(1)
					go func() {
						defer all.Done()
						assert.NoError(t, closer.Close())
						assert.NoError(t, parent.Close())
					}()
				}
				all.Wait()
			}
		})
	}
}

// read reads up to so many bytes of what can be read.
func read(c io.Closer, limit int64) {
	if r, ok := c.(io.Reader); ok {
		_, _ = io.CopyN(io.Discard, r, limit)
	}
}
