package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
	"github.com/skopeo-cfs/skopeo-cfs/internal/trees"
)

// localDestinations are the transports whose destinations are files or
// directories, each with a name for one.
var localDestinations = map[string]string{"dir": "image", "oci": "layout:ours", "oci-archive": "image.tar:ours", "docker-archive": "image.tar:ours"}

// otherImage returns what skopeo copies, the image that it is, and where it has it
// at a destination of a transport: beside ours, where there can be two.
func otherImage(t testing.TB) (from string, image arrived, at func(to string) string) {
	t.Helper()
	needTool(t, "skopeo")
	from = "dir:" + filepath.Join(t.TempDir(), "other")
	copyImage(t, "composefs:["+fixtures.Unpack(t, "sha256")+"]hello", from).requireSuccess(t)
	return from, readImage(t, from), func(to string) string { return strings.Replace(to, ":ours", ":theirs", 1) }
}

func skopeoCopy(t testing.TB, from, to string) {
	t.Helper()
	tool(t, "skopeo", "copy", "--insecure-policy", "--quiet", from, to)
}

// assertOther demands that skopeo's image is whole.
func assertOther(t testing.TB, want arrived, at string) {
	t.Helper()
	got := readImage(t, at)
	assert.Equal(t, want.config, got.config)
	assert.Equal(t, want.layers, got.layers)
}

// startHalfWay starts a copy and stops it when it has written something, before it
// is complete. It goes on with resume. Flags stand before the image's name.
func startHalfWay(t testing.TB, from, to string, flags ...string) *command {
	t.Helper()
	_, at, _ := strings.Cut(to, ":")
	at, _, _ = strings.Cut(at, ":")
	dir := filepath.Dir(at)
	for {
		c := newCommand(t, append(append([]string{"copy", "--insecure-policy"}, flags...), from, to)...)
		size := sizeBelow(dir)
		c.start(t)
		c.waitUntil(t, "half way", func() bool { return sizeBelow(dir)+sizeBelow(c.tmp) > size+pieceSize/4 })
		require.NoError(t, c.Process.Signal(unix.SIGSTOP))
		if c.waitUntilStopped(t) {
			return c
		}
		c.wait(t).requireSuccess(t) // it was faster
		require.NoError(t, os.RemoveAll(at))
	}
}

// waitUntilStopped waits for the effect of SIGSTOP, and tells whether the command
// has not ended before.
func (c *command) waitUntilStopped(t testing.TB) bool {
	t.Helper()
	for {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.Process.Pid))
		require.NoError(t, err)
		switch stat[bytes.LastIndexByte(stat, ')')+2] {
		case 'T':
			return true
		case 'Z', 'X':
			return false
		}
		time.Sleep(time.Millisecond)
	}
}

func (c *command) resume(t testing.TB) {
	t.Helper()
	require.NoError(t, c.Process.Signal(unix.SIGCONT))
}

// brokenLate returns the name of an image whose second layer turns out to be wrong
// at its end.
func brokenLate(t testing.TB) string {
	t.Helper()
	f := newForge(t)
	i := f.image()
	f.largeLayer(i, 8, true)
	f.largeLayer(i, 9, false) // has the digest of something else
	f.tag("broken", i)
	return "composefs:[" + f.repo + "]broken"
}

// A copy that fails leaves the image alone that another program has put at its
// destination meanwhile, and nothing else.
func TestFailedCopyLeavesWhatOthersHaveMade(t *testing.T) {
	t.Parallel()
	from, other, theirs := otherImage(t)
	repo, _ := newLarge(t)
	for transport, path := range localDestinations {
		for name, fail := range map[string]struct {
			from string
			end  func(*command) outcome
			text string
		}{
			"interrupted": {"composefs:[" + repo + "]endless", func(c *command) outcome { c.resume(t); return c.interrupt(t, unix.SIGTERM) }, "interrupted"},
			"broken":      {brokenLate(t), func(c *command) outcome { c.resume(t); return c.wait(t) }, "does not match its digest"},
		} {
			t.Run(transport+"/"+name, func(t *testing.T) {
				dir := t.TempDir()
				to := transport + ":" + filepath.Join(dir, path)
				c := startHalfWay(t, fail.from, to)
				skopeoCopy(t, from, theirs(to))
				fail.end(c).assertFailure(t, fail.text)
				name, _, _ := strings.Cut(path, ":")
				assert.Equal(t, []string{name}, namesIn(t, dir))
				assertOther(t, other, theirs(to))
			})
		}
	}
}

// The same at any moment, with both copies going on.
func TestFailedCopyBesideAnother(t *testing.T) {
	t.Parallel()
	from, other, theirs := otherImage(t)
	repo, _ := newLarge(t)
	for range 20 {
		dir := t.TempDir()
		to := "oci:" + filepath.Join(dir, "layout:ours")
		c := newCommand(t, "copy", "--insecure-policy", "composefs:["+repo+"]endless", to)
		c.start(t)
		skopeo := exec.Command("skopeo", "copy", "--insecure-policy", "--quiet", from, theirs(to))
		c.waitUntil(t, "begun", func() bool { return len(namesIn(t, dir)) > 0 })
		time.Sleep(rand.N(200 * time.Millisecond))
		require.NoError(t, skopeo.Start())
		time.Sleep(rand.N(200 * time.Millisecond))
		c.interrupt(t, unix.SIGTERM).assertFailure(t, "interrupted")
		require.NoError(t, skopeo.Wait())
		assert.Equal(t, []string{"layout"}, namesIn(t, dir))
		assertOther(t, other, theirs(to))
	}
}

// Where another program has made the destination meanwhile, a copy that succeeds
// does what it does where there was one from the start: it adds to a layout,
// overwrites a directory or an OCI archive, and refuses to change a Docker archive.
func TestCopyToWhatOthersHaveMadeMeanwhile(t *testing.T) {
	t.Parallel()
	from, other, theirs := otherImage(t)
	repo, layer := newLarge(t)
	for transport, path := range localDestinations {
		t.Run(transport, func(t *testing.T) {
			dir := t.TempDir()
			to := transport + ":" + filepath.Join(dir, path)
			digests := filepath.Join(t.TempDir(), "digest")
			c := startHalfWay(t, "composefs:["+repo+"]large", to, "--digestfile", digests)
			skopeoCopy(t, from, theirs(to))
			c.resume(t)
			got := c.wait(t)
			name, _, _ := strings.Cut(path, ":")
			assert.Equal(t, []string{name}, namesIn(t, dir))
			if transport == "docker-archive" {
				got.assertFailure(t, "docker-archive doesn't support modifying existing images")
				assertOther(t, other, theirs(to))
				return
			}
			got.requireSuccess(t)
			image := readImage(t, to)
			assert.Equal(t, []digest.Digest{layer}, image.layers)
			printed, err := os.ReadFile(digests)
			require.NoError(t, err)
			assert.Equal(t, image.manifest.String(), string(printed))
			if transport == "oci" {
				assertOther(t, other, theirs(to))
			}
		})
	}
}

// What was at the destination before stays there, also an empty directory, and so
// does what others put into it.
func TestFailedCopyInPlaceRemovesNothing(t *testing.T) {
	t.Parallel()
	from, other, theirs := otherImage(t)
	repo, _ := newLarge(t)
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "layout"), 0o750))
	to := "oci:" + filepath.Join(dir, "layout:ours")
	c := startHalfWay(t, "composefs:["+repo+"]endless", to)
	skopeoCopy(t, from, theirs(to))
	c.resume(t)
	c.interrupt(t, unix.SIGTERM).assertFailure(t, "interrupted")
	assertOther(t, other, theirs(to))
	info, err := os.Stat(filepath.Join(dir, "layout"))
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o750), info.Mode().Perm())
}

// What a copy has left that was killed is removed by the next one to the same
// destination. What belongs to one that lives, or may, is not.
func TestKilledCopyIsClearedAway(t *testing.T) {
	t.Parallel()
	repo, _ := newLarge(t)
	endless, large := "composefs:["+repo+"]endless", "composefs:["+repo+"]large"
	for transport, path := range localDestinations {
		t.Run(transport, func(t *testing.T) {
			dir := t.TempDir()
			to := transport + ":" + filepath.Join(dir, path)
			killed := startHalfWay(t, endless, to)
			left := namesIn(t, dir)
			require.Len(t, left, 1)
			require.NoError(t, killed.Process.Kill())
			_ = killed.Wait()
			living := startHalfWay(t, endless, to)
			left = slices.DeleteFunc(namesIn(t, dir), func(name string) bool { return name == left[0] })
			require.Len(t, left, 1, "the killed copy's is gone")

			prefix, suffix := left[0][:len(left[0])-49], left[0][len(left[0])-17:]
			keep := []string{
				left[0],
				prefix + strings.Repeat("a", 32) + suffix, // of another host
				prefix + noBootID + suffix,
				left[0] + "a", // of nobody
			}
			for _, name := range keep[1:] {
				require.NoError(t, os.Mkdir(filepath.Join(dir, name), 0o700))
			}
			copyImage(t, large, to).requireSuccess(t)
			for _, name := range keep {
				assert.DirExists(t, filepath.Join(dir, name))
			}
			living.resume(t)
			living.interrupt(t, unix.SIGTERM).assertFailure(t, "interrupted")
			assert.NoDirExists(t, filepath.Join(dir, keep[0]))
		})
	}
}

// An image that has arrived has not failed to, whatever of the copy can't be
// removed.
func TestFailedCleanUpIsAWarning(t *testing.T) {
	needRoot(t)
	repo, layer := newLarge(t)
	dir := t.TempDir()
	to := "oci:" + filepath.Join(dir, "layout:ours")
	c := startHalfWay(t, "composefs:["+repo+"]large", to)
	left := namesIn(t, dir)
	require.Len(t, left, 1)
	busy := filepath.Join(dir, left[0], "busy")
	require.NoError(t, os.Mkdir(busy, 0o755))
	require.NoError(t, unix.Mount("none", busy, "tmpfs", 0, ""))
	defer func() { assert.NoError(t, unix.Unmount(busy, 0)) }()
	c.resume(t)
	got := c.wait(t)
	assert.Zero(t, got.code, got.stderr)
	assert.Contains(t, got.stderr, "level=warning")
	assert.Contains(t, got.stderr, busy)
	assert.Equal(t, []digest.Digest{layer}, readImage(t, to).layers)
}

// Only the user's own are cleared away, and only those of the same destination.
func TestOrphansOfOthersStay(t *testing.T) {
	needRoot(t)
	repo := fixtures.Unpack(t, "sha256")
	dir := t.TempDir()
	orphan := func(name string) string {
		s, err := newSibling(filepath.Join(dir, name))
		require.NoError(t, err)
		require.NoError(t, s.lock.Close()) // as the end of its process does
		return s.path
	}
	ours, theirs, another := orphan("layout"), orphan("layout"), orphan("layout2")
	require.NoError(t, os.Chown(theirs, 12345, 12345))
	copyImage(t, "composefs:["+repo+"]hello", "oci:"+filepath.Join(dir, "layout")).requireSuccess(t)
	assert.NoDirExists(t, ours)
	assert.DirExists(t, theirs)
	assert.DirExists(t, another)
}

// What arrives has the modes that it has when skopeo copies it.
func TestArrivalKeepsModes(t *testing.T) {
	t.Parallel()
	needTool(t, "skopeo")
	image := "dir:" + filepath.Join(t.TempDir(), "image")
	copyImage(t, "composefs:["+fixtures.Unpack(t, "sha256")+"]hello", image).requireSuccess(t)
	for _, umask := range []string{"022", "002", "077", "000"} {
		for transport, path := range localDestinations {
			t.Run(transport+"/"+umask, func(t *testing.T) {
				dir := t.TempDir()
				ours, theirs := filepath.Join(dir, "ours"), filepath.Join(dir, "theirs")
				require.NoError(t, os.Mkdir(ours, 0o777|os.ModeSetgid))
				require.NoError(t, os.Mkdir(theirs, 0o777|os.ModeSetgid))
				c := newCommand(t, "copy", "--insecure-policy", image, transport+":"+filepath.Join(ours, path))
				c.Args = append([]string{"sh", "-c", "umask " + umask + `; exec "$0" "$@"`, c.Path}, c.Args[1:]...)
				c.Path = "/bin/sh"
				c.run(t).requireSuccess(t)
				tool(t, "sh", "-c", "umask "+umask+`; exec skopeo copy --insecure-policy --quiet "$1" "$2"`, "sh", image, transport+":"+filepath.Join(theirs, path))
				assert.Equal(t, modes(t, theirs), modes(t, ours))
			})
		}
	}
}

// modes returns the modes of all that is below a directory.
func modes(t testing.TB, dir string) map[string]string {
	t.Helper()
	modes := map[string]string{}
	for name, e := range trees.List(t, dir) {
		modes[name] = e.Mode
	}
	return modes
}

// On filesystems that can't rename without replacing, nothing is replaced either
// but an empty directory.
func TestMoveNewAnywhere(t *testing.T) {
	for name, move := range map[string]func(from, to string) error{"with the system call": moveNew, "without": moveNewAnywhere} {
		t.Run(name, func(t *testing.T) {
			for _, from := range []string{"file", "dir"} {
				for _, to := range []string{"none", "file", "dir"} {
					dir := t.TempDir()
					make := func(name, kind string) string {
						path := filepath.Join(dir, name)
						switch kind {
						case "file":
							require.NoError(t, os.WriteFile(path, []byte(name), 0o644))
						case "dir":
							require.NoError(t, os.Mkdir(path, 0o755))
							require.NoError(t, os.WriteFile(filepath.Join(path, name), nil, 0o644))
						}
						return path
					}
					err := move(make("new", from), make("there", to))
					if to == "none" {
						require.NoError(t, err)
						_, err := os.Stat(filepath.Join(dir, "there"))
						require.NoError(t, err)
						continue
					}
					assert.True(t, isTaken(err), "%s to %s: %v", from, to, err)
					assert.FileExists(t, filepath.Join(dir, map[string]string{"file": "there", "dir": "there/there"}[to]))
				}
			}
		})
	}
}

// A name of any length can have a sibling.
func TestLongNames(t *testing.T) {
	repo := fixtures.Unpack(t, "sha256")
	dir := t.TempDir()
	for _, length := range []int{1, maxSiblingName, maxSiblingName + 1, 255} {
		name := strings.Repeat("x", length)
		s, err := newSibling(filepath.Join(dir, name))
		require.NoError(t, err)
		require.NoError(t, s.remove())
		copyImage(t, "composefs:["+repo+"]hello", "oci:"+filepath.Join(dir, name)).requireSuccess(t)
	}
	assert.Len(t, namesIn(t, dir), 4)
}
