package source_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/containers/image/v5/pkg/blobinfocache/none"
	"github.com/containers/image/v5/types"
	"github.com/opencontainers/go-digest"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
	"github.com/skopeo-cfs/skopeo-cfs/source"
)

// open returns the source of the image with a digest in a repository.
func open(t testing.TB, path string, d digest.Digest) *source.Source {
	t.Helper()
	repo, err := composefsrepo.Open(t.Context(), path, nil)
	require.NoError(t, err)
	image, err := repo.ImageByDigest(t.Context(), d)
	require.NoError(t, err)
	s := source.New(nil, repo, image)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// readBlob reads a blob that has to be of the size that is announced.
func readBlob(t testing.TB, s *source.Source, d digest.Digest) ([]byte, error) {
	blob, size, err := s.GetBlob(t.Context(), types.BlobInfo{Digest: d, Size: -1}, none.NoCache)
	if err != nil {
		return nil, err
	}
	defer blob.Close()
	data, err := io.ReadAll(blob)
	if err == nil && int64(len(data)) != size {
		err = errors.New("it is not of the size that was announced")
	}
	return data, err
}

func TestBlobs(t *testing.T) {
	for _, name := range fixtures.Repositories {
		path := fixtures.Unpack(t, name)
		for layout, want := range fixtures.Layouts(t, name) {
			t.Run(name+"/"+layout, func(t *testing.T) {
				s := open(t, path, want.Manifest)
				raw, typ, err := s.GetManifest(t.Context(), nil)
				require.NoError(t, err)
				assert.Equal(t, want.Manifest, digest.FromBytes(raw))
				assert.Equal(t, imgspecv1.MediaTypeImageManifest, typ)

				blobs := []digest.Digest{want.Config}
				for _, l := range want.Layers {
					blobs = append(blobs, l.DiffID)
				}
				for _, b := range want.Blobs {
					blobs = append(blobs, b.Digest)
				}
				for _, d := range blobs {
					data, err := readBlob(t, s, d)
					require.NoError(t, err)
					assert.Equal(t, d, digest.FromBytes(data))
				}
			})
		}
	}
}

func TestBlobsThatTheRepositoryDoesNotHave(t *testing.T) {
	want := fixtures.Expected(t)["hello"]
	s := open(t, fixtures.Unpack(t, "sha256"), want.Manifest)
	for _, l := range want.Layers {
		_, err := readBlob(t, s, l.Digest)
		assert.ErrorIs(t, err, source.ErrNoCompressedLayer)
		assert.ErrorContains(t, err, l.Digest.String())
	}
	unknown := digest.FromString("unknown")
	_, err := readBlob(t, s, unknown)
	assert.ErrorIs(t, err, composefsrepo.ErrNotFound)
	assert.ErrorContains(t, err, unknown.String())
	_, err = readBlob(t, s, want.Manifest)
	assert.ErrorIs(t, err, composefsrepo.ErrNotFound, "a manifest is no blob of it")
}

func TestThereAreNoInstances(t *testing.T) {
	want := fixtures.Expected(t)["hello"]
	s := open(t, fixtures.Unpack(t, "sha256"), want.Manifest)
	_, _, err := s.GetManifest(t.Context(), &want.Manifest)
	assert.Error(t, err)
	_, err = s.LayerInfosForCopy(t.Context(), &want.Manifest)
	assert.Error(t, err)
	_, err = s.GetSignatures(t.Context(), &want.Manifest)
	assert.Error(t, err)
	signatures, err := s.GetSignatures(t.Context(), nil)
	require.NoError(t, err)
	assert.Empty(t, signatures)
}

// A config that no manifest of the repository has is an image all the same, of
// the tars.
func TestSynthesisedManifest(t *testing.T) {
	path, want := fixtures.Unpack(t, "sha512"), fixtures.Expected(t)["hello"]
	require.NoError(t, os.Remove(filepath.Join(path, "streams/oci-manifest-"+want.Manifest.String())))
	s := open(t, path, want.Config)
	require.True(t, s.Image().Synthesised)
	assert.False(t, s.ChangesManifest())
	infos, err := s.LayerInfosForCopy(t.Context(), nil)
	require.NoError(t, err)
	assert.Nil(t, infos)
	for i, l := range want.Layers {
		assert.Equal(t, l.DiffID, s.Image().Layers[i].Descriptor.Digest)
		data, err := readBlob(t, s, l.DiffID)
		require.NoError(t, err)
		assert.Equal(t, l.DiffID, digest.FromBytes(data))
	}
	config, err := readBlob(t, s, want.Config)
	require.NoError(t, err)
	assert.Equal(t, want.Config, digest.FromBytes(config))
}

// A layer that is not what its digest says ends with an error, in whichever way
// it is read, and all that was read before it is as long as was announced.
func TestAlteredLayerEndsWithAnError(t *testing.T) {
	path, want := fixtures.Unpack(t, "sha256"), fixtures.Expected(t)["hello"]
	alter(t, path, "hello from a composefs repository")
	s := open(t, path, want.Manifest)
	l := want.Layers[0]
	for name, read := range map[string]func(io.Reader) (int64, error){
		"read":    func(r io.Reader) (int64, error) { return io.Copy(io.Discard, struct{ io.Reader }{r}) },
		"written": func(r io.Reader) (int64, error) { return io.Copy(struct{ io.Writer }{io.Discard}, r) },
		"byte by byte": func(r io.Reader) (int64, error) {
			return io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{r}, make([]byte, 1))
		},
		"its size, then": func(r io.Reader) (int64, error) {
			if _, err := io.CopyN(io.Discard, r, l.DiffSize); err != nil {
				return 0, err
			}
			n, err := r.Read(make([]byte, 1))
			return l.DiffSize + int64(n), err
		},
	} {
		t.Run(name, func(t *testing.T) {
			blob, size, err := s.GetBlob(t.Context(), types.BlobInfo{Digest: l.DiffID}, none.NoCache)
			require.NoError(t, err)
			defer blob.Close()
			assert.Equal(t, l.DiffSize, size)
			n, err := read(blob)
			assert.ErrorIs(t, err, composefsrepo.ErrVerity)
			assert.NotErrorIs(t, err, io.EOF)
			assert.Equal(t, size, n)
			_, err = blob.Read(make([]byte, 1))
			assert.ErrorIs(t, err, composefsrepo.ErrVerity, "the error stays")
		})
	}
}

// alter changes a byte in the object that has the text.
func alter(t testing.TB, path, text string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(path, "objects/*/*"))
	require.NoError(t, err)
	for _, file := range files {
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		if at := bytes.Index(data, []byte(text)); at >= 0 {
			data[at] ^= 1
			require.NoError(t, os.WriteFile(file, data, 0o644))
			return
		}
	}
	require.Fail(t, "no object has it", text)
}

func TestBlobsAreReadSideBySide(t *testing.T) {
	want := fixtures.Expected(t)["many"]
	s := open(t, fixtures.Unpack(t, "old-sha512"), want.Manifest)
	require.True(t, s.HasThreadSafeGetBlob())
	var readers errgroup.Group
	for range 3 {
		for _, l := range want.Layers {
			readers.Go(func() error {
				data, err := readBlob(t, s, l.DiffID)
				if err == nil && digest.FromBytes(data) != l.DiffID {
					err = errors.New("another blob")
				}
				return err
			})
		}
	}
	assert.NoError(t, readers.Wait())
}

// A reader may be closed before its end, and while others go on.
func TestBlobsMayBeLeft(t *testing.T) {
	want := fixtures.Expected(t)["sizes"]
	s := open(t, fixtures.Unpack(t, "sha256"), want.Manifest)
	for _, read := range []int64{0, 1, 1000, 1 << 20} {
		blob, _, err := s.GetBlob(t.Context(), types.BlobInfo{Digest: want.Layers[0].DiffID}, none.NoCache)
		require.NoError(t, err)
		_, err = io.CopyN(io.Discard, blob, read)
		require.NoError(t, err)
		require.NoError(t, blob.Close())
	}
	_, err := readBlob(t, s, want.Layers[0].DiffID)
	assert.NoError(t, err)
}

func TestReference(t *testing.T) {
	image := &composefsrepo.Image{}
	s := source.New(nil, nil, image)
	assert.Nil(t, s.Reference())
	assert.Same(t, image, s.Image())
	assert.NoError(t, s.Close())
}
