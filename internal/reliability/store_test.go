package reliability

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moby/sys/mountinfo"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// store is a containers-storage of a test's own, on the suite's disk unless the
// test says otherwise. It does not exist before something is put into it.
type store struct {
	suite        *suite
	dir          string // holds all that the store has
	root, run    string
	tmp          string // for temporary files of copies, of which none may stay
	driver       string
	additional   string   // the root of an additional image store, or ""
	copyFlags    []string // of every copy
	policy       string   // the policy's file, or "" for none
	withoutSpace bool     // copies have no space for temporary files
	pulled       []image  // by podman
}

func (s *suite) newStore(t testing.TB) *store {
	t.Helper()
	return s.newStoreOn(t, s.disk)
}

// newStoreOn returns a store below the directory disk, which is removed when the
// test ends.
func (s *suite) newStoreOn(t testing.TB, disk string) *store {
	t.Helper()
	dir, err := os.MkdirTemp(disk, "store-")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o755))
	run, err := os.MkdirTemp("", "run") // podman takes no path of more than 50 characters
	require.NoError(t, err)
	st := &store{suite: s, dir: dir, root: filepath.Join(dir, "root"), run: run, tmp: filepath.Join(dir, "tmp"), driver: "overlay"}
	require.NoError(t, os.Mkdir(st.tmp, 0o777))
	t.Cleanup(func() { st.remove(t) })
	return st
}

// exists tells whether anything has been put into the store.
func (st *store) exists() bool {
	_, err := os.Lstat(st.root)
	return err == nil
}

// remove removes the store. It may be called again.
func (st *store) remove(t testing.TB) {
	t.Helper()
	unmountBelow(t, st.dir)
	unmountBelow(t, st.run)
	assert.NoError(t, os.RemoveAll(st.dir))
	assert.NoError(t, os.RemoveAll(st.run))
}

// unmountBelow unmounts what is mounted at or below a directory, as
// containers-storage leaves it for its next use.
func unmountBelow(t testing.TB, dir string) {
	t.Helper()
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	require.NoError(t, err)
	for i := len(mounts) - 1; i >= 0; i-- {
		assert.NoError(t, unix.Unmount(mounts[i].Mountpoint, unix.MNT_DETACH))
	}
}

// destination returns an image's name in the store.
func (st *store) destination(i image) string {
	options := ""
	if st.additional != "" {
		options = ":" + st.driver + ".imagestore=" + st.additional
	}
	return "containers-storage:[" + st.driver + "@" + st.root + "+" + st.run + options + "]localhost/" + i.name + ":latest"
}

// copying is a copy under way.
type copying struct {
	*exec.Cmd
	image  image
	output bytes.Buffer
	err    error // of its start
	killer *time.Timer
}

// copy starts a copy of an image into the store.
func (st *store) copy(i image, flags ...string) *copying {
	return st.start(i, st.destination(i), append(flags, st.copyFlags...)...)
}

// start starts a copy of an image to anywhere.
func (st *store) start(i image, to string, flags ...string) *copying {
	policy := []string{"--insecure-policy"}
	if st.policy != "" {
		policy = []string{"--policy", st.policy}
	}
	args := append(append([]string{"copy", "--quiet"}, policy...), append(flags, i.from, to)...)
	c := &copying{Cmd: exec.Command(st.suite.binary, args...), image: i}
	if st.withoutSpace {
		c.Cmd = withoutSpace(c.Cmd)
	}
	c.Env = append(os.Environ(), "TMPDIR="+st.tmp)
	c.Stdout, c.Stderr = &c.output, &c.output
	if c.err = c.Start(); c.err == nil {
		c.killer = time.AfterFunc(patience, func() { _ = c.Process.Kill() })
	}
	return c
}

// patience is how long a copy may take, which takes less than a second on a
// machine that has nothing else to do.
const patience = 3 * time.Minute

// result is what came of a copy.
type result struct {
	code   int            // of its exit, -1 if a signal ended it
	signal syscall.Signal // that ended it, or 0
	text   string
	err    error // it could not be run
}

// wait waits for the copy's end. The text of a panic makes it an error.
func (c *copying) wait() result {
	if c.err != nil {
		return result{err: c.err}
	}
	err := c.Wait()
	c.killer.Stop()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = nil
	}
	r := result{code: c.ProcessState.ExitCode(), text: strings.TrimSpace(c.output.String()), err: err}
	if status := c.ProcessState.Sys().(syscall.WaitStatus); status.Signaled() {
		r.signal = status.Signal()
	}
	if strings.Contains(r.text, "goroutine ") {
		r.err = errors.New("it panicked: " + r.text)
	}
	return r
}

func (r result) mustSucceed() error {
	if r.err == nil && r.code != 0 {
		return fmt.Errorf("exit code %d: %s", r.code, r.text)
	}
	return r.err
}

// mustFail demands an error that says what it is about.
func (r result) mustFail(about string) error {
	switch {
	case r.err != nil:
		return r.err
	case r.code != 1:
		return fmt.Errorf("exit code %d instead of 1: %s", r.code, r.text)
	case !strings.Contains(r.text, about):
		return fmt.Errorf("the error does not speak of %q: %s", about, r.text)
	}
	return nil
}

// mustEnd demands that a copy has ended because of a signal that it heard.
func (r result) mustEnd() error {
	if r.signal == unix.SIGKILL {
		return fmt.Errorf("it had to be killed after %s", soon)
	}
	return r.mustFail("interrupted")
}

// podman runs podman on the store and returns its standard output.
func (st *store) podman(args ...string) ([]byte, error) {
	global := []string{"--root", st.root, "--runroot", st.run, "--storage-driver", st.driver}
	if st.additional != "" {
		global = append(global, "--storage-opt", st.driver+".imagestore="+st.additional)
	}
	return output(exec.Command("podman", append(global, args...)...))
}

// output runs a program. Its error has what the program says.
func output(cmd *exec.Cmd) ([]byte, error) {
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%q: %w: %s", cmd.Args, err, strings.TrimSpace(stderr.String()))
	}
	return out, err
}

// podmanImage is what podman says of an image.
type podmanImage struct {
	ID       string `json:"Id"`
	Digest   string
	RepoTags []string
}

// listed returns the images that podman lists, by name.
func (st *store) listed() (map[string]podmanImage, error) {
	out, err := st.podman("images", "--all", "--quiet", "--no-trunc")
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, id := range strings.Fields(string(out)) {
		ids = append(ids, strings.TrimPrefix(id, "sha256:"))
	}
	found := map[string]podmanImage{}
	if len(ids) == 0 {
		return found, nil
	}
	out, err = st.podman(append([]string{"image", "inspect"}, ids...)...)
	if err != nil {
		return nil, err
	}
	var all []podmanImage
	if err := json.Unmarshal(out, &all); err != nil {
		return nil, err
	}
	for _, i := range all {
		for _, name := range i.RepoTags {
			found[name] = i
		}
	}
	return found, nil
}

// holds returns an error unless podman has the images, and has them right.
func (st *store) holds(wanted ...image) error {
	found, err := st.listed()
	if err != nil {
		return err
	}
	for _, i := range wanted {
		if _, ok := found[i.podmanName()]; !ok {
			return fmt.Errorf("image %s, which was delivered, is not there", i.name)
		}
	}
	return st.right(found, wanted)
}

// holdsAny is like holds, but images that are not there are no error: something
// has removed them.
func (st *store) holdsAny(wanted ...image) (present int, err error) {
	found, err := st.listed()
	if err != nil {
		return 0, err
	}
	var there []image
	for _, i := range wanted {
		if _, ok := found[i.podmanName()]; ok {
			there = append(there, i)
		}
	}
	return len(there), st.right(found, there)
}

// podmanName returns the name that podman has for the image.
func (i image) podmanName() string {
	if strings.Contains(i.name, "/") {
		return i.name
	}
	return "localhost/" + i.name + ":latest"
}

// right returns an error unless the images have their IDs, digests and trees.
func (st *store) right(found map[string]podmanImage, wanted []image) error {
	if len(wanted) == 0 {
		return nil
	}
	var names []string
	for _, i := range wanted {
		got := found[i.podmanName()]
		if got.ID != i.config.Encoded() {
			return fmt.Errorf("image %s has ID %s, not %s", i.name, got.ID, i.config.Encoded())
		}
		if i.manifest != "" && got.Digest != i.manifest.String() {
			return fmt.Errorf("image %s has manifest digest %s, not %s", i.name, got.Digest, i.manifest)
		}
		names = append(names, got.ID)
	}
	out, err := st.podman(append([]string{"image", "mount", "--format", "json"}, names...)...)
	if err != nil {
		return err
	}
	var mounts []struct {
		ID         string `json:"id"`
		Mountpoint string `json:"mountpoint"`
	}
	if err := json.Unmarshal(out, &mounts); err != nil {
		return err
	}
	at := map[string]string{}
	for _, m := range mounts {
		at[m.ID] = m.Mountpoint
	}
	for _, i := range wanted {
		if err := i.tree.Compare(at[i.config.Encoded()]); err != nil {
			return fmt.Errorf("image %s: %w", i.name, err)
		}
	}
	_, err = st.podman("image", "unmount", "--all")
	return err
}

// record is an entry of the store's lists of layers, images and containers.
type record struct {
	ID    string         `json:"id"`
	Layer string         `json:"layer"`
	Flags map[string]any `json:"flags"`
}

// records reads a list: "layers", "images" or "containers". The file is replaced
// as a whole whenever it changes, so this needs no lock.
func (st *store) records(kind string) ([]record, error) {
	data, err := os.ReadFile(filepath.Join(st.root, st.driver+"-"+kind, kind+".json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []record
	return all, json.Unmarshal(data, &all)
}

// hasLayer tells whether a layer is in the store and complete.
func (st *store) hasLayer(id string) bool {
	layers, _ := st.records("layers")
	for _, l := range layers {
		if l.ID == id && l.Flags["incomplete"] == nil {
			return true
		}
	}
	return false
}

// complete returns an error if a layer is incomplete.
func (st *store) complete() error {
	layers, err := st.records("layers")
	for _, l := range layers {
		if l.Flags["incomplete"] != nil {
			return fmt.Errorf("layer %s is incomplete", l.ID)
		}
	}
	return err
}

// others lists the files of the store that are not of a layer or an image that
// its lists have, by their paths.
func (st *store) others(t testing.TB) map[string]bool {
	t.Helper()
	known := map[string]bool{}
	for _, kind := range []string{"layers", "images", "containers"} {
		records, err := st.records(kind)
		require.NoError(t, err)
		for _, r := range records {
			known[r.ID] = true
			link, err := os.ReadFile(filepath.Join(st.root, "overlay", r.ID, "link"))
			if err == nil {
				known[string(link)] = true
			}
		}
	}
	found := map[string]bool{}
	require.NoError(t, filepath.WalkDir(st.root, func(path string, entry fs.DirEntry, err error) error {
		if path == st.root && errors.Is(err, fs.ErrNotExist) {
			return nil // there is no store yet
		}
		if err != nil {
			return err
		}
		id, _, _ := strings.Cut(entry.Name(), ".")
		if known[id] {
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		name, err := filepath.Rel(st.root, path)
		found[name] = true
		if entry.IsDir() && len(st.suite.usual) > 0 && !st.suite.usual[name] {
			return fs.SkipDir // its name says enough
		}
		return err
	}))
	return found
}

// left returns an error if the store has files that a copy which nothing
// disturbed does not leave, or if there are temporary files.
func (st *store) left(t testing.TB) error {
	t.Helper()
	var left []string
	for name := range st.others(t) {
		if !st.suite.usual[name] && !libraryFile.MatchString(name) && !st.isEmptyStaging(name) {
			left = append(left, name)
		}
	}
	temporary, err := os.ReadDir(st.tmp)
	require.NoError(t, err)
	for _, entry := range temporary {
		left = append(left, "TMPDIR/"+entry.Name())
	}
	if len(left) > 0 {
		slices.Sort(left)
		return fmt.Errorf("%d files or directories are left: %q", len(left), left[:min(len(left), 5)])
	}
	return nil
}

// nothing returns an error if the store has an image, or files of a layer that is
// not complete. Layers that are complete may stay: they are checked, and another
// program may be about to use them.
func (st *store) nothing(t testing.TB) error {
	t.Helper()
	images, err := st.records("images")
	if err != nil {
		return err
	}
	if len(images) > 0 {
		return fmt.Errorf("%d images are left", len(images))
	}
	return st.left(t)
}

// isEmptyStaging tells whether a file is a staging directory without anything in it:
// the library makes one before it tells its name, so a process that is killed then
// can't have noted it. The library removes it itself when it next shuts down.
func (st *store) isEmptyStaging(name string) bool {
	if !stagingName.MatchString(name) {
		return false
	}
	entries, err := os.ReadDir(filepath.Join(st.root, name, "dir"))
	return len(entries) == 0 && (err == nil || errors.Is(err, fs.ErrNotExist))
}

var stagingName = regexp.MustCompile(`^overlay/staging/[0-9]+$`)

// libraryFile matches what the library itself may leave behind if it is killed: a
// file that it was writing anew, and a directory among the layers in which it was
// trying the kernel out.
var libraryFile = regexp.MustCompile(`^overlay(-[a-z]+/\.tmp-.*|/(compat|opaque-bug-check|metacopy-check|volatile-check)[0-9]+)$`)
