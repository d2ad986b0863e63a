package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
	"github.com/skopeo-cfs/skopeo-cfs/internal/repomaker"
	"github.com/skopeo-cfs/skopeo-cfs/internal/testuser"
	"github.com/skopeo-cfs/skopeo-cfs/internal/trees"
)

// ordinary is a user of the system who is not root, for the time of a test.
type ordinary struct{ testuser.User }

func newUser(t testing.TB) ordinary {
	t.Helper()
	return ordinary{testuser.New(t)}
}

// command returns the command as the user runs it.
func (u ordinary) command(t testing.TB, args ...string) *command {
	t.Helper()
	c := newCommand(t, args...)
	c.asUser(t, u.UID, u.GID)
	c.setEnv(t, u.Env)
	c.Dir = u.Home
	return c
}

// podman runs podman as the user does.
func (u ordinary) podman(t testing.TB, args ...string) string {
	t.Helper()
	needTool(t, "podman")
	cmd := u.Podman(args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, stderr.String())
	return string(out)
}

// A user copies from the repository in their home to their containers-storage,
// both of which have no need to be named.
func TestRootlessCopyToStorage(t *testing.T) {
	u := newUser(t)
	require.NoError(t, os.MkdirAll(filepath.Join(u.Home, ".var/lib"), 0o755))
	require.NoError(t, fixtures.UnpackTo(filepath.Join(u.Home, ".var/lib"), "sha512"))
	require.NoError(t, os.Rename(filepath.Join(u.Home, ".var/lib/sha512"), filepath.Join(u.Home, ".var/lib/composefs")))

	u.command(t, "copy", "composefs:hello", "containers-storage:localhost/hello:latest").run(t).requireSuccess(t)
	want := fixtures.Expected(t)["hello"]
	got := u.command(t, "inspect", "--raw", "--config", "containers-storage:localhost/hello:latest").run(t)
	got.requireSuccess(t)
	assert.Equal(t, want.Config, digest.FromString(got.stdout))

	got = u.command(t, "inspect", "composefs:hello").run(t)
	got.requireSuccess(t)
	assert.Contains(t, got.stdout, want.Manifest.String())
	got = u.command(t, "list").run(t)
	got.requireSuccess(t)
	assert.Contains(t, got.stdout, "localhost/hello:latest")

	t.Cleanup(func() { u.StopPodman(t) })
	var images []struct{ ID string }
	require.NoError(t, json.Unmarshal([]byte(u.podman(t, "images", "--no-trunc", "--format", "json")), &images))
	require.Len(t, images, 1)
	assert.Equal(t, want.Config.Encoded(), images[0].ID)
}

// What a user gets without contents being copied is what they get with them, in
// a user namespace with its own names for whiteouts and without devices.
func TestRootlessCopyIsTheSameBothWays(t *testing.T) {
	start := time.Now()
	u := newUser(t)
	repo := filepath.Join(u.Home, "repository")
	maker, err := repomaker.Create(repo, fsverity.SHA512, repomaker.Options{})
	require.NoError(t, err)
	added, err := maker.AddImage("localhost/kinds:latest", repomaker.Image{Layers: []repomaker.Layer{{Tar: kindsOfFiles(t)}}})
	require.NoError(t, err)
	require.NoError(t, os.Chmod(repo, 0o755))
	require.NoError(t, fixtures.UnpackTo(u.Home, "sha512"))
	for _, image := range []string{
		"[" + repo + "]kinds", "[sha512]hello", "[sha512]sizes", "[sha512]rootdir", "[sha512]repeated", "[sha512]many",
	} {
		t.Run(image, func(t *testing.T) {
			layers := func(name string, flags ...string) map[string]map[string]trees.Entry {
				root := filepath.Join(u.Home, name)
				to := "containers-storage:[overlay@" + root + "+" + filepath.Join(u.Home, "run", name) + "]localhost/x:latest"
				u.command(t, append([]string{"copy", "--insecure-policy", "composefs:" + image, to}, flags...)...).run(t).requireSuccess(t)
				found := map[string]map[string]trees.Entry{}
				dirs, err := filepath.Glob(filepath.Join(root, "overlay/*/diff"))
				require.NoError(t, err)
				for _, dir := range dirs {
					found[filepath.Base(filepath.Dir(dir))] = trees.ListUnpacked(t, dir, start)
				}
				return found
			}
			plain, fast := layers("plain", "--no-zero-copy"), layers("fast")
			require.NotEmpty(t, plain)
			assert.Equal(t, plain, fast)
		})
	}
	got := u.command(t, "inspect", "--raw", "containers-storage:[overlay@"+u.Home+"/fast+"+u.Home+"/run/fast]localhost/x:latest").run(t)
	got.requireSuccess(t)
	assert.NotEqual(t, added.Manifest.Digest, digest.FromString(got.stdout)) // the last was another image
	assert.Equal(t, fixtures.Expected(t)["many"].Manifest, digest.FromString(got.stdout))
}

// kindsOfFiles is a layer of all that a user's namespace can have, and of what it
// can't.
func kindsOfFiles(t testing.TB) io.Reader {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	at := time.Unix(1_500_000_000, 7)
	for _, h := range []tar.Header{
		{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o1777, Uid: 3, Gid: 4},
		{Name: "d/file", Typeflag: tar.TypeReg, Mode: 0o4755, Uid: 1000, Gid: 1000, Size: 5000},
		{Name: "d/hard", Typeflag: tar.TypeLink, Linkname: "d/file", Mode: 0o4755, Uid: 1000, Gid: 1000},
		{Name: "d/capable", Typeflag: tar.TypeReg, Mode: 0o755, Size: 100, PAXRecords: map[string]string{
			"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
			"SCHILY.xattr.user.x":              "y",
			"SCHILY.xattr.trusted.x":           "not to be had",
		}},
		{Name: "d/soft", Typeflag: tar.TypeSymlink, Linkname: "file", Uid: 5},
		{Name: "d/fifo", Typeflag: tar.TypeFifo, Mode: 0o600},
		{Name: "d/null", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3},
		{Name: "d/.wh.gone", Typeflag: tar.TypeReg},
		{Name: "opaque/.wh..wh..opq", Typeflag: tar.TypeReg},
		{Name: "none", Typeflag: tar.TypeDir, Mode: 0},
		{Name: "none/file", Typeflag: tar.TypeReg, Mode: 0, Size: 70},
	} {
		h.ModTime, h.Format = at, tar.FormatPAX
		require.NoError(t, w.WriteHeader(&h), h.Name)
		_, err := w.Write(bytes.Repeat([]byte{'x'}, int(h.Size)))
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return &out
}

func TestRootlessCopyIsInterrupted(t *testing.T) {
	u := newUser(t)
	repo, layer := newLarge(t)
	searchable(t, repo)
	const to = "containers-storage:localhost/x:latest"
	storage := filepath.Join(u.Home, ".local/share/containers/storage")
	for name, send := range map[string]func(c *command) error{
		"by a signal": func(c *command) error { return c.Process.Signal(unix.SIGTERM) },
		// As a terminal does it: to the process in the namespace as well.
		"by a key": func(c *command) error { return unix.Kill(-c.Process.Pid, unix.SIGINT) },
	} {
		t.Run(name, func(t *testing.T) {
			c := u.command(t, "copy", "--insecure-policy", "composefs:["+repo+"]endless", to)
			c.Args = append(c.Args, "--tmpdir", c.tmp)
			c.SysProcAttr.Setpgid = true
			c.start(t)
			c.waitUntil(t, "half way", func() bool { return store{root: storage}.hasFile(staged, pieceSize) })
			require.NoError(t, send(c))
			c.wait(t).assertFailure(t, "interrupted by ")
			store{root: storage}.assertNoImage(t)
		})
	}
	u.command(t, "copy", "-q", "--insecure-policy", "composefs:["+repo+"]large", to).run(t).requireSuccess(t)
	got := u.command(t, "inspect", "--config", to).run(t)
	got.requireSuccess(t)
	assert.Contains(t, got.stdout, layer.String())
}
