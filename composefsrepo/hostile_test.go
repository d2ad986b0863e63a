package composefsrepo_test

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
)

// objectFile returns the path of an object's file.
func objectFile(repo string, d fsverity.Digest) string {
	return filepath.Join(repo, "objects", d.String()[:2], d.String()[2:])
}

// anyObject returns an object of a repository.
func anyObject(t *testing.T, repo string) fsverity.Digest {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(repo, "objects/*/*"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	d, err := fsverity.Parse(filepath.Base(filepath.Dir(files[0])) + filepath.Base(files[0]))
	require.NoError(t, err)
	return d
}

func TestObjectThatIsNoRegularFileIsRefused(t *testing.T) {
	for name, put := range map[string]func(path string) error{
		"symlink":         func(p string) error { return os.Symlink("/etc/hostname", p) },
		"symlink within":  func(p string) error { return os.Symlink("../../meta.json", p) },
		"symlink to fifo": func(p string) error { return os.Symlink("fifo", p) },
		"fifo":            func(p string) error { return unix.Mkfifo(p, 0o644) },
		"directory":       func(p string) error { return os.Mkdir(p, 0o755) },
		"socket": func(p string) error {
			fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			// The path is too long for an address.
			if err := os.Chdir(filepath.Dir(p)); err != nil {
				return err
			}
			if err := unix.Bind(fd, &unix.SockaddrUnix{Name: "socket"}); err != nil {
				return err
			}
			return os.Rename("socket", p)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			path := fixtures.Unpack(t, "sha256")
			d := anyObject(t, path)
			require.NoError(t, os.Remove(objectFile(path, d)))
			require.NoError(t, put(objectFile(path, d)))
			_, _, err := open(t, path).OpenObject(d)
			assert.ErrorIs(t, err, composefsrepo.ErrNotRegular)
			assert.ErrorContains(t, err, d.String())
		})
	}
}

func TestDirectoryOfObjectsMayNotLeadElsewhere(t *testing.T) {
	path := fixtures.Unpack(t, "sha256")
	d := anyObject(t, path)
	dir := filepath.Dir(objectFile(path, d))
	elsewhere := filepath.Join(t.TempDir(), "elsewhere")
	require.NoError(t, os.Rename(dir, elsewhere))
	require.NoError(t, os.Symlink(elsewhere, dir))
	_, _, err := open(t, path).OpenObject(d)
	assert.ErrorIs(t, err, composefsrepo.ErrNotRegular)
}

func TestMissingObjectIsNamed(t *testing.T) {
	path := fixtures.Unpack(t, "sha512")
	d := anyObject(t, path)
	require.NoError(t, os.Remove(objectFile(path, d)))
	repo := open(t, path)
	_, _, err := repo.OpenObject(d)
	assert.ErrorIs(t, err, composefsrepo.ErrMissingObject)
	assert.ErrorContains(t, err, d.String())
	short, err := fsverity.FromBytes(make([]byte, 32))
	require.NoError(t, err)
	_, _, err = repo.OpenObject(short)
	assert.ErrorIs(t, err, composefsrepo.ErrMissingObject)
}

func TestTagThatPointsElsewhereIsRefused(t *testing.T) {
	hello := fixtures.Expected(t)["hello"]
	for name, target := range map[string]string{
		"out of the repository":  "../../../../etc/passwd",
		"absolute":               "/streams/oci-manifest-" + hello.Manifest.String(),
		"another directory":      "../oci-manifest-" + hello.Manifest.String(),
		"a config":               "../../oci-config-" + hello.Config.String(),
		"an object":              "../../../objects/00/00",
		"no digest":              "../../oci-manifest-latest",
		"a digest with a path":   "../../oci-manifest-sha256:../../../x",
		"another repository":     "../../../../other/streams/oci-manifest-" + hello.Manifest.String(),
		"itself":                 "hostile",
		"something very long":    "../../oci-manifest-sha256:" + strings.Repeat("0", 3000),
		"out of it and back in?": "../../../../repo/streams/oci-manifest-" + hello.Manifest.String(),
	} {
		t.Run(name, func(t *testing.T) {
			path := fixtures.Unpack(t, "sha256")
			require.NoError(t, os.Symlink(target, filepath.Join(path, "streams/refs/oci/hostile")))
			repo := open(t, path)
			_, err := repo.ImageByTag(t.Context(), "hostile")
			assert.ErrorIs(t, err, composefsrepo.ErrBadLink)
			assert.ErrorContains(t, err, `"hostile"`)
			tags, err := repo.Tags()
			require.NoError(t, err)
			assert.Contains(t, tags, "hostile")
		})
	}
}

func TestTagThatIsNoSymlinkIsRefused(t *testing.T) {
	path := fixtures.Unpack(t, "sha256")
	require.NoError(t, os.WriteFile(filepath.Join(path, "streams/refs/oci/file"), nil, 0o644))
	_, err := open(t, path).ImageByTag(t.Context(), "file")
	assert.ErrorIs(t, err, composefsrepo.ErrBadLink)
}

func TestUnknownNamesAreNotFound(t *testing.T) {
	repo := open(t, fixtures.Unpack(t, "sha256"))
	for _, tag := range []string{"nothing", "", ".", "..", "@sha256:00", "a\x00b"} {
		_, err := repo.ImageByTag(t.Context(), tag)
		assert.ErrorIs(t, err, composefsrepo.ErrNotFound, "%q", tag)
	}
	_, err := repo.ImageByDigest(t.Context(), digest.FromString("nothing"))
	assert.ErrorIs(t, err, composefsrepo.ErrNotFound)
	_, err = repo.ImageByDigest(t.Context(), "sha256:../../x")
	assert.ErrorIs(t, err, digest.ErrDigestInvalidLength)
}

func TestDanglingTagIsNotFound(t *testing.T) {
	path := fixtures.Unpack(t, "sha256")
	hello := fixtures.Expected(t)["hello"]
	require.NoError(t, os.Remove(filepath.Join(path, "streams/oci-manifest-"+hello.Manifest.String())))
	_, err := open(t, path).ImageByTag(t.Context(), "localhost/hello:latest")
	assert.ErrorIs(t, err, composefsrepo.ErrNotFound)
	assert.ErrorContains(t, err, "localhost/hello:latest")
	assert.ErrorContains(t, err, hello.Manifest.String())
}

func TestStreamThatPointsElsewhereIsRefused(t *testing.T) {
	hello := fixtures.Expected(t)["hello"]
	for name, target := range map[string]string{
		"out of the repository": "../../../../../etc/passwd",
		"absolute":              "/etc/passwd",
		"another stream":        "oci-config-" + hello.Config.String(),
		"a directory":           "../objects/00",
		"another split":         "../objects/000/0000000000000000000000000000000000000000000000000000000000000",
		"meta.json":             "../meta.json",
	} {
		t.Run(name, func(t *testing.T) {
			path := fixtures.Unpack(t, "sha256")
			link := filepath.Join(path, "streams/oci-manifest-"+hello.Manifest.String())
			require.NoError(t, os.Remove(link))
			require.NoError(t, os.Symlink(target, link))
			_, err := open(t, path).ImageByTag(t.Context(), "localhost/hello:latest")
			assert.ErrorIs(t, err, composefsrepo.ErrBadLink)
		})
	}
}

// externalObject returns an object that is part of a layer of an image.
func externalObject(t *testing.T, path string, image *composefsrepo.Image) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(path, "objects/*/*"))
	require.NoError(t, err)
	for _, file := range files {
		moved := file + ".moved"
		require.NoError(t, os.Rename(file, moved))
		err := readLayers(t, image)
		require.NoError(t, os.Rename(moved, file))
		if err != nil {
			return file
		}
	}
	t.Fatal("no object of the layers found")
	return ""
}

// readLayers reads all layers and returns the first error.
func readLayers(t *testing.T, image *composefsrepo.Image) error {
	t.Helper()
	for i := range image.Layers {
		layer, err := image.OpenLayer(t.Context(), i)
		if err != nil {
			continue // its own stream is not what is looked for
		}
		_, err = io.Copy(io.Discard, layer)
		layer.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

func TestDamagedObjectOfALayerIsNamed(t *testing.T) {
	for name, test := range map[string]struct {
		damage func(file string) error
		want   error
	}{
		"missing":   {os.Remove, composefsrepo.ErrMissingObject},
		"truncated": {func(f string) error { return os.Truncate(f, 70) }, composefsrepo.ErrVerity},
		"emptied":   {func(f string) error { return os.Truncate(f, 0) }, composefsrepo.ErrVerity},
		"overlong":  {func(f string) error { return appendTo(f, 0) }, composefsrepo.ErrVerity},
		"altered": {func(f string) error {
			data, err := os.ReadFile(f)
			if err != nil {
				return err
			}
			data[len(data)/2] ^= 1
			return os.WriteFile(f, data, 0o644)
		}, composefsrepo.ErrVerity},
	} {
		t.Run(name, func(t *testing.T) {
			path := fixtures.Unpack(t, "old-sha256")
			repo := open(t, path)
			image, err := repo.ImageByTag(t.Context(), "localhost/hello:latest")
			require.NoError(t, err)
			file := externalObject(t, path, image)
			require.NoError(t, test.damage(file))
			err = readLayers(t, image)
			require.Error(t, err)
			assert.ErrorIs(t, err, test.want)
			assert.ErrorContains(t, err, filepath.Base(filepath.Dir(file))+filepath.Base(file))
		})
	}
}

func appendTo(file string, b byte) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.Write([]byte{b})
	return err
}
