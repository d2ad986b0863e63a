package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/bootchost"
	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
	"github.com/skopeo-cfs/skopeo-cfs/internal/genimage"
	"github.com/skopeo-cfs/skopeo-cfs/internal/reflinks"
	"github.com/skopeo-cfs/skopeo-cfs/internal/repomaker"
)

// newRecipient returns a user whose containers-storage is the one in their home, with or
// without a session.
func newRecipient(t testing.TB) ordinary {
	t.Helper()
	u := newUser(t)
	runtimeDir := fmt.Sprintf("/tmp/storage-run-%d", u.UID) // that of containers/storage without a session
	require.NoError(t, os.RemoveAll(runtimeDir))
	t.Cleanup(func() {
		unmountBelow(t, u.Home)
		assert.NoError(t, os.RemoveAll(runtimeDir))
	})
	t.Cleanup(func() { u.StopPodman(t) })
	return u
}

// name returns the user's name.
func (u ordinary) name() string {
	for _, v := range u.Env {
		if name, ok := strings.CutPrefix(v, "USER="); ok {
			return name
		}
	}
	return ""
}

// configure writes a file of the user's configuration.
func (u ordinary) configure(t testing.TB, name, text string) {
	t.Helper()
	path := filepath.Join(u.Home, ".config/containers", name)
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
}

// keepFromOthers makes all files of a repository root's alone.
func keepFromOthers(t testing.TB, repo string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(repo, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			return os.Chmod(path, 0o700)
		case d.Type().IsRegular():
			return os.Chmod(path, 0o600)
		}
		return nil
	}))
}

// usersImage is what podman says of an image in the store of its user.
type usersImage struct{ ID, Digest string }

// An image that only root can read arrives in a user's containers-storage: with the ID
// and the digest that root has, for podman as that user to mount and use.
func TestCopyToUser(t *testing.T) {
	u := newRecipient(t)
	repo := fixtures.Unpack(t, "sha512")
	keepFromOthers(t, repo)
	want := fixtures.Expected(t)["hello"]
	digestFile := filepath.Join(t.TempDir(), "digest")
	got := runCommand(t, "copy", "--insecure-policy", "--to-user", u.name(), "--digestfile", digestFile, "composefs:["+repo+"]hello", "containers-storage:localhost/hello:latest")
	got.requireSuccess(t)
	assert.Contains(t, got.stdout, "17 files, ")
	written, err := os.ReadFile(digestFile)
	require.NoError(t, err)
	assert.Equal(t, want.Manifest.String(), string(written))

	var images []usersImage
	require.NoError(t, json.Unmarshal([]byte(u.podman(t, "images", "--no-trunc", "--format", "json")), &images))
	assert.Equal(t, []usersImage{{want.Config.Encoded(), want.Manifest.String()}}, images)
	assert.Contains(t, u.podman(t, "image", "inspect", "localhost/hello"), want.Manifest.String())
	listed := u.podman(t, "unshare", "sh", "-ec", `cd "$(podman --storage-driver overlay image mount localhost/hello)"; find . -type f | wc -l; find . ! -uid 0 -o -type f -print | head -1`)
	assert.Regexp(t, `^[1-9]`, listed)
	for _, path := range []string{".local/share/containers/storage", ".local/share/containers/storage/overlay-images/images.json"} {
		info, err := os.Stat(filepath.Join(u.Home, path))
		require.NoError(t, err)
		var stat unix.Stat_t
		require.NoError(t, unix.Stat(filepath.Join(u.Home, path), &stat))
		assert.Equal(t, u.UID, int(stat.Uid), info.Name())
	}
	runCommand(t, "copy", "-q", "--insecure-policy", "--to-user", u.name(), "composefs:["+repo+"]hello", "containers-storage:localhost/again:latest").requireSuccess(t)
}

// The user's own configuration says where the store is. Blocks are shared with objects
// that the user can't read.
func TestCopyToUserSharesBlocks(t *testing.T) {
	u := newRecipient(t)
	at := reflinks.XFS(t)
	searchable(t, at)
	repo := filepath.Join(at, "repository")
	made, err := repomaker.Create(repo, fsverity.SHA512, repomaker.Options{})
	require.NoError(t, err)
	const size = 40_000_000
	_, err = made.AddGenerated("localhost/generated:latest", genimage.Spec{Files: 100, Bytes: size, Layers: 2, Seed: 1}, repomaker.Pretended)
	require.NoError(t, err)
	session := fmt.Sprintf("/run/user/%d", u.UID)
	require.NoError(t, os.MkdirAll(session, 0o700))
	t.Cleanup(func() {
		unmountBelow(t, session)
		assert.NoError(t, os.RemoveAll(session))
	})
	u.Owns(t, session)
	for _, mode := range []os.FileMode{0o600, 0o644} {
		keepFromOthers(t, repo)
		objects, err := filepath.Glob(filepath.Join(repo, "objects/*/*"))
		require.NoError(t, err)
		for _, object := range objects {
			require.NoError(t, os.Chmod(object, mode))
		}
		graph := filepath.Join(at, "store"+strconv.FormatUint(uint64(mode), 8))
		require.NoError(t, os.Mkdir(graph, 0o700))
		u.Owns(t, graph)
		u.configure(t, "storage.conf", fmt.Sprintf("[storage]\ndriver = \"overlay\"\ngraphroot = %q\n", graph))
		t.Cleanup(func() { unmountBelow(t, graph) })
		before := usedBytes(t, at)
		got := runCommand(t, "copy", "--insecure-policy", "--to-user", u.name(), "composefs:["+repo+"]generated", "containers-storage:localhost/x:latest")
		got.requireSuccess(t)
		assert.Regexp(t, `100 files, [34]\d(\.\d+)? ?MB shared, `, got.stdout)
		assert.Less(t, usedBytes(t, at)-before, int64(size/4))
		assert.FileExists(t, filepath.Join(graph, "overlay-images/images.json"))
		assert.DirExists(t, filepath.Join(session, "containers"))
	}
}

// usedBytes returns how much of a filesystem is in use.
func usedBytes(t testing.TB, at string) int64 {
	t.Helper()
	var stat unix.Statfs_t
	unix.Sync()
	require.NoError(t, unix.Statfs(at, &stat))
	return int64(stat.Blocks-stat.Bfree) * stat.Bsize
}

func TestCopyToUserIsRefused(t *testing.T) {
	u := newRecipient(t)
	repo := fixtures.Unpack(t, "sha512")
	const to = "containers-storage:localhost/x"
	from := "composefs:[" + repo + "]hello"
	for _, c := range []struct {
		flags []string
		texts []string
	}{
		{[]string{"--to-user", "no-such-user", from, to}, []string{`--to-user "no-such-user": there is no such user`}},
		{[]string{"--to-user", "root", from, to}, []string{"it is root"}},
		{[]string{"--to-user", u.name(), from, "oci:x"}, []string{"must be in containers-storage:"}},
		{[]string{"--to-user", u.name(), "oci:x", to}, []string{"must be in a composefs repository"}},
		{[]string{"--to-user", u.name(), "--format", "oci", "--all", from, to}, []string{"can't be given together with --all, --format"}},
		{[]string{"--to-user", u.name(), "composefs:[" + repo + "]none", to}, []string{"none"}},
		{[]string{"--to-user", u.name(), "--policy", rejecting(t), from, to}, []string{"rejected by policy"}},
		{[]string{"--to-user", u.name(), "--insecure-policy", from, "containers-storage:[overlay@/x y"}, []string{"as user " + u.name()}},
	} {
		runCommand(t, append([]string{"copy"}, c.flags...)...).assertFailure(t, c.texts...)
	}
	searchable(t, repo)
	u.command(t, "copy", "--to-user", u.name(), from, to).run(t).assertFailure(t, "--to-user", "needs root")
	u.command(t, "copy-to-storage", "--to-user", u.name()).run(t).assertFailure(t, "--to-user", "needs root")
	assert.NoDirExists(t, filepath.Join(u.Home, ".local/share/containers"))
}

// rejecting returns a policy that allows nothing.
func rejecting(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "policy.json")
	require.NoError(t, os.WriteFile(path, []byte(`{"default": [{"type": "reject"}]}`), 0o644))
	return path
}

// The image of a deployment goes to a user.
func TestCopyToStorageOfUser(t *testing.T) {
	u := newRecipient(t)
	h := bootchost.New(t, "sha512", bootchost.Deployment{Layout: "hello", Name: "quay.io/org/os:42"})
	keepFromOthers(t, h.Repository)
	got := runCommand(t, "copy-to-storage", "--insecure-policy", "--to-user", u.name(), "--sysroot", h.Sysroot)
	got.requireSuccess(t)
	var images []usersImage
	require.NoError(t, json.Unmarshal([]byte(u.podman(t, "images", "--no-trunc", "--format", "json", "localhost/bootc")), &images))
	assert.Equal(t, []usersImage{{h.Images[0].Config.Encoded(), h.Images[0].Manifest.String()}}, images)
	runCommand(t, "copy-to-storage", "--to-user", u.name(), "--target", "oci:x").assertFailure(t, "must be in containers-storage:")
}

// What a user puts in the way of root is in the user's way alone. Of a configuration that
// can't be read containers/storage warns, and takes its defaults.
func TestCopyToUserWithAHostileStore(t *testing.T) {
	repo := fixtures.Unpack(t, "sha512")
	keepFromOthers(t, repo)
	for name, hostile := range map[string]struct {
		prepare func(u ordinary, roots string)
		code    int
	}{
		"a configuration that names a directory of root's": {func(u ordinary, roots string) {
			u.configure(t, "storage.conf", fmt.Sprintf("[storage]\ndriver = \"overlay\"\ngraphroot = %q\nrunroot = %q\n", roots+"/store", roots+"/run"))
		}, 1},
		"a symlink to it": {func(u ordinary, roots string) {
			require.NoError(t, os.RemoveAll(filepath.Join(u.Home, ".config")))
			at := filepath.Join(u.Home, ".local/share/containers/storage")
			require.NoError(t, os.MkdirAll(filepath.Dir(at), 0o755))
			require.NoError(t, os.Symlink(roots, at))
		}, 1},
		"a configuration that is none": {func(u ordinary, _ string) { u.configure(t, "storage.conf", "\x1b[2J[") }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			u, roots := newRecipient(t), t.TempDir()
			searchable(t, roots)
			hostile.prepare(u, roots)
			got := runCommand(t, "copy", "--insecure-policy", "--to-user", u.name(), "composefs:["+repo+"]hello", "containers-storage:localhost/x")
			assert.Equal(t, hostile.code, got.code, got.stderr)
			assert.NotEmpty(t, got.stderr)
			assert.False(t, strings.ContainsRune(got.stdout+got.stderr, '\x1b'))
			assert.Empty(t, namesIn(t, roots))
		})
	}
}

func TestCopyToUserIsInterrupted(t *testing.T) {
	u := newRecipient(t)
	repo, layer := newLarge(t)
	storage := filepath.Join(u.Home, ".local/share/containers/storage")
	const to = "containers-storage:localhost/x:latest"
	for _, s := range []unix.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGKILL} { // the last leaves what it has staged
		t.Run(unix.SignalName(s), func(t *testing.T) {
			c := newCommand(t, "copy", "--insecure-policy", "--to-user", u.name(), "composefs:["+repo+"]endless", to)
			c.start(t)
			c.waitUntil(t, "half way", func() bool { return store{root: storage}.hasFile(staged, pieceSize) })
			require.NoError(t, c.Process.Signal(s))
			if s == unix.SIGKILL {
				_ = c.Wait()
				waitForEnd(t)
				return
			}
			c.wait(t).assertFailure(t, "interrupted by "+unix.SignalName(s))
			waitForEnd(t)
			store{root: storage}.assertNoImage(t)
		})
	}
	runCommand(t, "copy", "-q", "--insecure-policy", "--to-user", u.name(), "composefs:["+repo+"]large", to).requireSuccess(t)
	assert.Contains(t, u.podman(t, "image", "inspect", to[len("containers-storage:"):]), layer.String())
}

// The processes that write have the user's IDs and groups, nothing of root's environment,
// no terminal, and of the repository no more open than objects to read from.
func TestCopyToUserGivesNothingOfRoots(t *testing.T) {
	u := newRecipient(t)
	repo, _ := newLarge(t)
	c := newCommand(t, "copy", "--insecure-policy", "--to-user", u.name(), "composefs:["+repo+"]endless", "containers-storage:localhost/x:latest")
	c.Env = append(c.Env, "ROOTS_SECRET=1")
	c.start(t)
	storage := filepath.Join(u.Home, ".local/share/containers/storage")
	c.waitUntil(t, "half way", func() bool { return store{root: storage}.hasFile(staged, pieceSize) })
	found := receivers(t)
	assert.Len(t, found, 2, "one that waits, and one in the user's namespace")
	for _, dir := range found {
		status, err := os.ReadFile(filepath.Join(dir, "status"))
		require.NoError(t, err)
		assert.Regexp(t, fmt.Sprintf(`(?m)^Uid:\t%[1]d\t%[1]d\t%[1]d\t%[1]d$`, u.UID), string(status))
		assert.Regexp(t, fmt.Sprintf(`(?m)^Gid:\t%[1]d\t%[1]d\t%[1]d\t%[1]d$`, u.GID), string(status))
		assert.Regexp(t, fmt.Sprintf(`(?m)^Groups:\t(%d )?$`, u.GID), string(status))
		environ, err := os.ReadFile(filepath.Join(dir, "environ"))
		require.NoError(t, err)
		assert.NotContains(t, string(environ), "ROOTS_SECRET")
		assert.Contains(t, string(environ), "HOME="+u.Home+"\x00")
		stat, err := os.ReadFile(filepath.Join(dir, "stat"))
		require.NoError(t, err)
		_, numbers, _ := strings.Cut(string(stat), ") ")
		assert.Equal(t, "0", strings.Fields(numbers)[4], "a terminal")
		fds, err := os.ReadDir(filepath.Join(dir, "fd"))
		require.NoError(t, err)
		for _, fd := range fds {
			target, err := os.Readlink(filepath.Join(dir, "fd", fd.Name()))
			if err != nil || !strings.HasPrefix(target, repo) {
				continue
			}
			assert.Regexp(t, `/objects/[0-9a-f]{2}/[0-9a-f]+$`, target)
			info, err := os.ReadFile(filepath.Join(dir, "fdinfo", fd.Name()))
			if err == nil {
				assert.Regexp(t, `(?m)^flags:\t[0-7]*0$`, string(info), "more than reading")
			}
		}
	}
	c.interrupt(t, unix.SIGTERM).assertFailure(t, "interrupted by SIGTERM")
	waitForEnd(t)
}

// receivers returns the directories in /proc of the processes that receive images.
func receivers(t testing.TB) []string {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	require.NoError(t, err)
	return slices.DeleteFunc(dirs, func(dir string) bool {
		line, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		return !bytes.HasPrefix(line, []byte(receiver))
	})
}

// waitForEnd waits until the user has no process that receives an image.
func waitForEnd(t testing.TB) {
	t.Helper()
	require.Eventually(t, func() bool { return len(receivers(t)) == 0 }, time.Minute, 10*time.Millisecond, "the user's process goes on")
}
