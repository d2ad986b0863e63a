package zerocopy_test

import (
	"archive/tar"
	"bytes"
	"io"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/genimage"
	"github.com/skopeo-cfs/skopeo-cfs/internal/repomaker"
)

// generated makes a repository below dir that has an image like a
// distribution's, tagged localhost/image:latest.
func generated(t testing.TB, dir string, spec genimage.Spec) (repo string, added repomaker.Added) {
	t.Helper()
	layers, err := genimage.Generate(spec)
	require.NoError(t, err)
	image := repomaker.Image{Listing: repomaker.Pretended}
	for _, l := range layers {
		in := l.Reader()
		defer in.Close()
		image.Layers = append(image.Layers, repomaker.Layer{Tar: in})
	}
	return made(t, dir, image)
}

// made makes a repository below dir that has an image, tagged
// localhost/image:latest.
func made(t testing.TB, dir string, image repomaker.Image) (repo string, added repomaker.Added) {
	t.Helper()
	repo = filepath.Join(dir, "repository")
	maker, err := repomaker.Create(repo, fsverity.SHA512, repomaker.Options{})
	require.NoError(t, err)
	added, err = maker.AddImage("localhost/image:latest", image)
	require.NoError(t, err)
	return repo, added
}

// tarOf makes a tar of headers, whose files have some content.
func tarOf(t testing.TB, headers ...tar.Header) io.Reader {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, h := range headers {
		var content []byte
		if h.Typeflag == tar.TypeReg {
			content = bytes.Repeat([]byte(h.Name), 100)
		}
		h.Size = int64(len(content))
		require.NoError(t, w.WriteHeader(&h))
		_, err := w.Write(content)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return &out
}
