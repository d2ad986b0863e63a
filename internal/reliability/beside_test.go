package reliability

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

const besideSection = "Beside other programs"

// disturbance is what goes on beside copies, again and again. It returns an error
// that must not be.
type disturbance struct {
	what string // it is, to be counted
	once func(st *store, y *tally, turn int) error
	// broken is an image that is copied as well, and can't be.
	broken *image
	loses  bool // images and layers may be removed by it, so that copies may fail and images be gone
}

var besideFaults = []fault{
	beside("podman ps", "`podman ps` in a loop", disturbance{what: "podman ps", once: podmanLoop("ps", "--all")}),
	beside("podman images", "`podman images` in a loop", disturbance{what: "podman images", once: podmanLoop("images")}),
	beside("podman rmi", "`podman rmi` of the images being copied, in a loop", disturbance{what: "podman rmi", once: removeImages, loses: true}),
	beside("podman system prune", "`podman system prune -af` in a loop", disturbance{what: "podman system prune", once: podmanLoop("system", "prune", "--all", "--force"), loses: true}),
	beside("the same image", "another copy of the same image", disturbance{what: "other copies", once: otherCopy(func(s *suite) image { return s.images.large })}),
	beside("shared layers", "another copy, of an image that shares layers", disturbance{what: "other copies", once: otherCopy(func(s *suite) image { return s.images.sibling })}),
	beside("a failing copy", "another copy, of an image that shares the base layer, which fails because of an altered object", disturbance{what: "failing copies", once: failingCopy}),
	beside("staging removed", "a program that removes all in `overlay/staging`, in a loop", disturbance{what: "removals", once: removeStaging(0), loses: true}),
	beside("staging removed slowly", "a program that removes all in `overlay/staging`, slowly, in a loop", disturbance{what: "removals", once: removeStaging(time.Millisecond), loses: true}),
}

// beside returns the test of copies with something beside them.
func beside(name, what string, d disturbance) fault {
	holds := "Every copy succeeds, and every image is right"
	if d.loses {
		holds = "A copy succeeds, or fails and says so; every image that is there is right, and a copy afterwards succeeds"
	}
	return fault{
		section: besideSection, name: name, what: upper(what), holds: holds,
		run: func(t *testing.T, s *suite, y *tally) {
			st := s.newStore(t)
			repeat(y, 1, func(round int) {
				if !besideOnce(t, st, y, d) {
					st = s.newStore(t)
				}
			})
		},
	}
}

func upper(text string) string {
	if text[0] >= 'a' && text[0] <= 'z' {
		return string(text[0]-'a'+'A') + text[1:]
	}
	return text
}

// besideOnce copies images with the disturbance beside, checks what came of it,
// and removes all images. It tells whether all was right.
func besideOnce(t *testing.T, st *store, y *tally, d disturbance) bool {
	st.pulled = nil
	stop := st.loop(y, d)
	ok := true
	delivered := st.copyAll(y, d, &ok)
	stop(&ok)
	delivered = append(delivered, st.pulled...)
	ok = y.expect(st.check(), "beside %s", d.what) && ok
	if d.loses {
		present, err := st.holdsAny(delivered...)
		ok = y.expect(err, "beside %s", d.what) && ok
		y.count("images compared", present)
		last := st.suite.images.large
		ok = y.expect(st.copy(last).wait().mustSucceed(), "copying %s after %s", last.name, d.what) && ok
		delivered = []image{last}
	}
	ok = y.expect(st.holds(delivered...), "beside %s", d.what) && ok
	y.count("images compared", len(delivered))
	_, err := st.podman("rmi", "--all", "--force")
	return y.expect(err, "removing the images after %s", d.what) && ok
}

// copyAll copies images one after the other and returns those that exit code 0
// was returned for.
func (st *store) copyAll(y *tally, d disturbance, ok *bool) (delivered []image) {
	all := st.suite.images
	for _, i := range append([]image{all.large, all.sibling, all.empty}, all.fixtures...) {
		if d.broken != nil {
			*ok = y.expect(st.copy(*d.broken).wait().mustFail("object"), "copying %s beside %s", d.broken.name, d.what) && *ok
			y.count("failing copies", 1)
		}
		y.count("copies", 1)
		got := st.copy(i).wait()
		switch {
		case got.err == nil && got.code == 0:
			delivered = append(delivered, i)
		case d.loses && got.err == nil && got.code == 1:
			y.see("copies failed with an error")
		default:
			*ok = y.expect(got.mustSucceed(), "copying %s beside %s", i.name, d.what)
		}
	}
	return delivered
}

// loop does the disturbance again and again until stop is called. stop returns
// when the last turn is over.
func (st *store) loop(y *tally, d disturbance) (stop func(ok *bool)) {
	ctx, cancel := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	fine := true
	ended.Add(1)
	go func() {
		defer ended.Done()
		for turn := 0; ctx.Err() == nil; turn++ {
			fine = y.expect(d.once(st, y, turn), "%s", d.what) && fine
			y.count(d.what, 1)
		}
	}()
	return func(ok *bool) {
		cancel()
		ended.Wait()
		*ok = *ok && fine
	}
}

// podmanLoop runs podman.
func podmanLoop(args ...string) func(*store, *tally, int) error {
	return func(st *store, _ *tally, _ int) error {
		_, err := st.podman(args...)
		return err
	}
}

// removeImages removes one of the images that may be there.
func removeImages(st *store, _ *tally, turn int) error {
	all := append([]image{st.suite.images.large, st.suite.images.sibling, st.suite.images.empty}, st.suite.images.fixtures...)
	_, _ = st.podman("rmi", "--force", all[turn%len(all)].podmanName())
	return nil
}

// otherCopy copies an image.
func otherCopy(which func(*suite) image) func(*store, *tally, int) error {
	return func(st *store, _ *tally, _ int) error {
		return st.copy(which(st.suite)).wait().mustSucceed()
	}
}

func failingCopy(st *store, _ *tally, _ int) error {
	return st.copy(st.suite.images.broken).wait().mustFail("object")
}

// removeStaging removes what is in the directory for staged layers, an entry at a
// time with the pause after each.
func removeStaging(pause time.Duration) func(*store, *tally, int) error {
	return func(st *store, _ *tally, _ int) error {
		removeBelow(filepath.Join(st.root, "overlay/staging"), pause)
		time.Sleep(time.Millisecond)
		return nil
	}
}

// removeBelow removes all in a directory, as far as it can.
func removeBelow(dir string, pause time.Duration) {
	entries, _ := os.ReadDir(dir)
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			removeBelow(path, pause)
			_ = os.Remove(path)
		}
		time.Sleep(pause)
	}
}

// errNever is returned if what was waited for did not come.
var errNever = errors.New("it never came to that")

// waitFor waits until something is so, for half a minute at most.
func waitFor(what string, is func() bool) error {
	for start := time.Now(); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Since(start) > 30*time.Second {
			return fmt.Errorf("%s: %w", what, errNever)
		}
	}
	return nil
}
