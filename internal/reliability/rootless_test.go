package reliability

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/internal/testuser"
	"github.com/skopeo-cfs/skopeo-cfs/internal/trees"
)

var rootlessFaults = []fault{{
	section: besideSection, name: "podman ps of a user",
	what:  "A user who is not root copies, with `podman ps` in a loop",
	holds: "Every copy succeeds, and the layers are those of a copy that nothing disturbed",
	run:   rootless,
}}

func rootless(t *testing.T, s *suite, y *tally) {
	u := testuser.New(t)
	t.Cleanup(func() { u.StopPodman(t) })
	// The user's homes are on the disk with reflinks.
	home, err := os.MkdirTemp(s.disk, "home-")
	require.NoError(t, err)
	executable, err := os.Executable()
	require.NoError(t, err)
	for _, dir := range []string{s.disk, filepath.Dir(s.binary), filepath.Dir(executable)} {
		testuser.Searchable(t, dir)
	}
	u.Owns(t, home)
	t.Cleanup(func() { unmountBelow(t, home) })
	runs, err := os.MkdirTemp("", "run") // podman takes no path of more than 50 characters
	require.NoError(t, err)
	u.Owns(t, runs)
	t.Cleanup(func() {
		unmountBelow(t, runs)
		require.NoError(t, os.RemoveAll(runs))
	})
	start := time.Now()
	wanted := []image{s.images.large, s.images.sibling, s.images.empty}
	quiet := &userStore{suite: s, user: u, root: filepath.Join(home, "quiet"), run: filepath.Join(runs, "quiet")}
	for _, i := range wanted {
		y.expect(quiet.copy(i), "copying %s", i.name)
	}
	want := quiet.layers(t, start)
	round := 0
	repeat(y, 1, func(int) {
		round++
		st := &userStore{suite: s, user: u, root: filepath.Join(home, fmt.Sprint(round)), run: filepath.Join(runs, fmt.Sprint(round))}
		stop, ended := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(ended)
			for {
				select {
				case <-stop:
					return
				default:
					_, err := output(st.podman("ps", "--all"))
					y.expect(err, "podman ps")
					y.count("podman ps", 1)
				}
			}
		}()
		for _, i := range wanted {
			y.expect(st.copy(i), "copying %s", i.name)
			y.count("copies", 1)
		}
		close(stop)
		<-ended
		if got := st.layers(t, start); !reflect.DeepEqual(want, got) {
			y.expect(fmt.Errorf("%d layers, of which %d are right", len(got), same(want, got)), "the layers of round %d", round)
		}
		y.expect(st.check(), "round %d", round)
	})
}

// same counts the layers that two stores have alike.
func same(a, b map[string]map[string]trees.Entry) (n int) {
	for id, layer := range a {
		if reflect.DeepEqual(layer, b[id]) {
			n++
		}
	}
	return n
}

// userStore is the store of a user who is not root.
type userStore struct {
	suite     *suite
	user      testuser.User
	root, run string
}

func (st *userStore) copy(i image) error {
	to := "containers-storage:[overlay@" + st.root + "+" + st.run + "]localhost/" + i.name + ":latest"
	_, err := output(st.user.Command(st.suite.binary, "copy", "--quiet", "--insecure-policy", i.from, to))
	return err
}

func (st *userStore) podman(args ...string) *exec.Cmd {
	return st.user.Podman(append([]string{"--root", st.root, "--runroot", st.run}, args...)...)
}

// check has the store checked in the user's namespace.
func (st *userStore) check() error {
	executable, err := os.Executable()
	if err != nil {
		return err
	}
	// The process's name is what makes it the check.
	const script = `exec -a ` + checkProcess + ` "$@"`
	_, err = output(st.podman("unshare", "env", noRaces, "bash", "-c", script, "bash", executable, st.root, st.run, "overlay", ""))
	return err
}

// layers lists the files of the store's layers, as they are outside of the user's
// namespace.
func (st *userStore) layers(t testing.TB, start time.Time) map[string]map[string]trees.Entry {
	t.Helper()
	dirs, err := filepath.Glob(filepath.Join(st.root, "overlay/*/diff"))
	require.NoError(t, err)
	slices.Sort(dirs)
	found := map[string]map[string]trees.Entry{}
	for _, dir := range dirs {
		found[filepath.Base(filepath.Dir(dir))] = trees.ListUnpacked(t, dir, start)
	}
	return found
}
