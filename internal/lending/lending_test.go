package lending_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
	"github.com/skopeo-cfs/skopeo-cfs/internal/lending"
)

// pair returns the ends of a socket.
func pair(t testing.TB) (lender, borrower *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	var conns []*net.UnixConn
	for _, fd := range fds {
		f := os.NewFile(uintptr(fd), "socket")
		conn, err := net.FileConn(f)
		require.NoError(t, err)
		require.NoError(t, f.Close())
		t.Cleanup(func() { conn.Close() })
		conns = append(conns, conn.(*net.UnixConn))
	}
	return conns[0], conns[1]
}

func openImage(t testing.TB, path string, d digest.Digest) *composefsrepo.Image {
	t.Helper()
	repo, err := composefsrepo.Open(t.Context(), path, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, repo.Close()) })
	image, err := repo.ImageByDigest(t.Context(), d)
	require.NoError(t, err)
	return image
}

// served is what serving came to.
type served struct {
	report string
	err    error
}

// serve lends an image's objects over a new socket.
func serve(t testing.TB, image *composefsrepo.Image) (*net.UnixConn, <-chan served) {
	t.Helper()
	ours, theirs := pair(t)
	end := make(chan served, 1)
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	go func() {
		report, err := lending.NewLender(image).Serve(ctx, ours)
		ours.Close()
		end <- served{report, err}
	}()
	return theirs, end
}

// borrowed returns the image as a borrower has it, which got it as JSON.
func borrowed(t testing.TB, image *composefsrepo.Image, b *lending.Borrower) *composefsrepo.Image {
	t.Helper()
	raw, err := json.Marshal(image.Lend())
	require.NoError(t, err)
	lent := &composefsrepo.Lent{}
	require.NoError(t, json.Unmarshal(raw, lent))
	other, err := lent.Open(b.Open)
	require.NoError(t, err)
	return other
}

// Whoever borrows an image reads the same layers, side by side.
func TestBorrowedImagesAreTheSame(t *testing.T) {
	for _, name := range fixtures.Repositories {
		path := fixtures.Unpack(t, name)
		for layout, want := range fixtures.Layouts(t, name) {
			t.Run(name+"/"+layout, func(t *testing.T) {
				image := openImage(t, path, want.Manifest)
				conn, end := serve(t, image)
				b := lending.NewBorrower(conn)
				other := borrowed(t, image, b)
				assert.Equal(t, image.Manifest, other.Manifest)
				assert.Equal(t, image.ConfigDescriptor, other.ConfigDescriptor)
				assert.Equal(t, image.Layers, other.Layers)
				var readers errgroup.Group
				for i := range other.Layers {
					readers.Go(func() error {
						content, err := other.OpenLayer(t.Context(), i)
						if err != nil {
							return err
						}
						_, err = io.Copy(io.Discard, content)
						content.Close()
						if err == nil {
							err = other.CheckObjects(t.Context(), i)
						}
						return err
					})
				}
				require.NoError(t, readers.Wait())
				require.NoError(t, b.Report("done"))
				require.NoError(t, conn.Close())
				assert.Equal(t, served{"done", nil}, <-end)
			})
		}
	}
}

// objectsOf returns all objects of an image's layers, with their streams.
func objectsOf(t testing.TB, image *composefsrepo.Image) map[fsverity.Digest]struct{} {
	t.Helper()
	all := map[fsverity.Digest]struct{}{}
	for i, l := range image.Layers {
		objects, err := image.LayerObjects(t.Context(), i)
		require.NoError(t, err)
		all[l.Verity] = struct{}{}
		for d := range objects {
			all[d] = struct{}{}
		}
	}
	return all
}

// Nothing is lent but the layers of the image, and their objects only when the stream
// that refers to them was asked for.
func TestOnlyTheImageIsLent(t *testing.T) {
	path, all := fixtures.Unpack(t, "sha512"), fixtures.Expected(t)
	image := openImage(t, path, all["hello"].Manifest)
	own, conn := objectsOf(t, image), (*net.UnixConn)(nil)
	conn, _ = serve(t, image)
	b := lending.NewBorrower(conn)
	streams := map[fsverity.Digest]bool{}
	for _, l := range image.Layers {
		streams[l.Verity] = true
	}
	for d := range own {
		if !streams[d] {
			_, err := b.Open(d)
			assert.ErrorContains(t, err, lending.ErrNotLent.Error())
		}
	}
	for d := range streams {
		f, err := b.Open(d)
		require.NoError(t, err)
		flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
		require.NoError(t, err)
		assert.Equal(t, unix.O_RDONLY, flags&unix.O_ACCMODE)
		require.NoError(t, f.Close())
	}
	objects, err := filepath.Glob(filepath.Join(path, "objects/*/*"))
	require.NoError(t, err)
	lent := 0
	for _, object := range objects {
		relative, err := filepath.Rel(path, object)
		require.NoError(t, err)
		d, ok := composefsrepo.ParseObjectPath(relative)
		if !ok {
			continue
		}
		f, err := b.Open(d)
		if _, mine := own[d]; mine {
			require.NoError(t, err)
			require.NoError(t, f.Close())
			lent++
		} else {
			assert.ErrorContains(t, err, lending.ErrNotLent.Error())
		}
	}
	assert.Equal(t, len(own), lent)
	assert.Greater(t, len(objects), lent)
}

// What an altered stream refers to is nobody's, and an object that is gone is said to be.
func TestAlteredAndMissingObjects(t *testing.T) {
	path, want := fixtures.Unpack(t, "sha256"), fixtures.Expected(t)["hello"]
	image := openImage(t, path, want.Manifest)
	objects, err := image.LayerObjects(t.Context(), 0)
	require.NoError(t, err)
	conn, _ := serve(t, image)
	b := lending.NewBorrower(conn)
	f, err := b.Open(image.Layers[0].Verity)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	for d := range objects {
		require.NoError(t, os.Remove(filepath.Join(path, composefsrepo.ObjectPath(d))))
		_, err := b.Open(d)
		assert.ErrorIs(t, err, fs.ErrNotExist)
	}

	stream := filepath.Join(path, composefsrepo.ObjectPath(image.Layers[1].Verity))
	raw, err := os.ReadFile(stream)
	require.NoError(t, err)
	raw[200] ^= 1
	require.NoError(t, os.WriteFile(stream, raw, 0o644))
	_, err = b.Open(image.Layers[1].Verity)
	assert.Error(t, err)
}

// A borrower that speaks otherwise is not answered.
func TestLenderEndsWithTheProtocol(t *testing.T) {
	image := openImage(t, fixtures.Unpack(t, "sha256"), fixtures.Expected(t)["hello"].Manifest)
	for name, raw := range map[string]string{"unknown": "x\x00", "no digest": "o\x03abc", "half": "o", "half a digest": "o\x20abc"} {
		t.Run(name, func(t *testing.T) {
			conn, end := serve(t, image)
			_, err := conn.Write([]byte(raw))
			require.NoError(t, err)
			require.NoError(t, conn.CloseWrite())
			assert.ErrorIs(t, (<-end).err, lending.ErrProtocol)
		})
	}
	conn, end := serve(t, image)
	require.NoError(t, conn.CloseWrite())
	assert.Equal(t, served{}, <-end)
	assert.Error(t, lending.NewBorrower(conn).Report(string(make([]byte, 256))))
	_, err := lending.NewBorrower(conn).Open(image.Layers[0].Verity)
	assert.Error(t, err)
}

// A lender that is not ours is not believed blindly either.
func TestBorrowerRefusesOtherAnswers(t *testing.T) {
	for name, raw := range map[string]string{"no descriptor": "f", "nothing": "", "half a reason": "e\x00\x09abc"} {
		t.Run(name, func(t *testing.T) {
			ours, theirs := pair(t)
			_, err := ours.Write([]byte(raw))
			require.NoError(t, err)
			require.NoError(t, ours.CloseWrite())
			_, err = lending.NewBorrower(theirs).Open(fsverity.Digest{})
			assert.Error(t, err)
		})
	}
}

func FuzzServe(f *testing.F) {
	path, want := fixtures.Unpack(f, "sha256"), fixtures.Expected(f)["hello"]
	repo, err := composefsrepo.Open(f.Context(), path, nil)
	require.NoError(f, err)
	f.Cleanup(func() { repo.Close() })
	image, err := repo.ImageByDigest(f.Context(), want.Manifest)
	require.NoError(f, err)
	var all bytes.Buffer
	for _, l := range image.Layers {
		all.WriteString("o\x20" + string(l.Verity.Bytes()))
	}
	f.Add(all.Bytes())
	f.Add([]byte("r\x03abcr\x00"))
	f.Add([]byte("o"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) > 1<<12 {
			return // what is not read would wait
		}
		conn, end := serve(t, image)
		_, err := conn.Write(raw)
		require.NoError(t, err)
		require.NoError(t, conn.CloseWrite())
		if got := <-end; got.err != nil {
			assert.ErrorIs(t, got.err, lending.ErrProtocol)
		}
	})
}
