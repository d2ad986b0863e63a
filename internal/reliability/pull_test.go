package reliability

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pullHolds is what must hold beside podman's pulls.
const pullHolds = "Every pull and every copy that can succeed does, and every image is right"

var pullFaults = []fault{
	{
		section: besideSection, name: "podman pull",
		what:  "`podman pull` of images that share the base layer, in a loop; some of the copies fail because of an altered object",
		holds: pullHolds,
		run: func(t *testing.T, s *suite, y *tally) {
			besidePulls(t, s, y, s.images.pulled, s.images.broken)
		},
	},
	{
		section: besideSection, name: "podman pull on the empty layer",
		what:  "`podman pull` of images that share only the empty layer; the same",
		holds: pullHolds,
		run: func(t *testing.T, s *suite, y *tally) {
			besidePulls(t, s, y, s.images.pulledEmpty, s.images.brokenEmpty)
		},
	},
	{
		section: besideSection, name: "podman pull beside a copy that fails",
		what:  "A copy fails while `podman pull` has added the base layer, or the empty layer, that both share, and waits for the next layer",
		holds: "The pull succeeds, and its image is right",
		run: func(t *testing.T, s *suite, y *tally) {
			pullUnderWay(t, s, y, s.images.pulled[0], s.images.broken, stopped)
			pullUnderWay(t, s, y, s.images.pulledEmpty[0], s.images.brokenEmpty, stopped)
		},
	},
	{
		section: besideSection, name: "podman pull after a killed copy",
		what:  "A copy was killed, `podman pull` uses the base layer, or the empty layer, that it left or adds it, and waits for the next layer; meanwhile another copy cleans up",
		holds: "The pull succeeds, and its image is right",
		run: func(t *testing.T, s *suite, y *tally) {
			pullUnderWay(t, s, y, s.images.pulled[0], s.images.large, killedBefore)
			pullUnderWay(t, s, y, s.images.pulledEmpty[0], s.images.empty, killedBefore)
		},
	},
}

// pull pulls an image from a registry.
func (st *store) pull(i image) error {
	_, err := st.podman("pull", "--quiet", "--tls-verify=false", i.name)
	return err
}

// besidePulls copies images while podman pulls others.
func besidePulls(t *testing.T, s *suite, y *tally, all []image, broken image) {
	r := pushAll(t, s, all...)
	d := disturbance{what: "podman pull", broken: &broken, once: func(st *store, y *tally, turn int) error {
		i := r.pulled(all[turn%len(all)])
		err := st.pull(i)
		if err == nil && turn < len(all) {
			st.pulled = append(st.pulled, i)
		}
		return err
	}}
	st := s.newStore(t)
	repeat(y, 1, func(int) {
		if !besideOnce(t, st, y, d) {
			st = s.newStore(t)
		}
	})
}

// pullUnderWay has podman pull an image whose top layer it does not get before
// meanwhile has returned, which has copies made. Meanwhile is given a moment of
// the copy, and calls pull to have podman pull up to there.
func pullUnderWay(t *testing.T, s *suite, y *tally, wanted, copied image, meanwhile func(st *store, y *tally, i image, moment time.Duration, pull func() error) error) {
	r := pushAll(t, s, wanted)
	whole := s.failingDuration(t, copied)
	n := choose(3, 40)
	for moment := range n {
		st := s.newStore(t)
		asked, release, err := r.hold(wanted)
		if !y.expect(err, "the registry") {
			return
		}
		at := fmt.Sprintf("%s, moment %d of %d", copied.name, moment, n)
		ended := make(chan error, 1)
		begun := false
		pull := func() error {
			begun = true
			go func() { ended <- st.pull(r.pulled(wanted)) }()
			<-asked
			return waitFor("podman's pull of the lowest layer", func() bool { return st.hasLayer(wanted.layers[0]) })
		}
		err = meanwhile(st, y, copied, whole*time.Duration(moment)/time.Duration(n), pull)
		release()
		if begun {
			y.expect(<-ended, "%s: podman pull", at)
		}
		if errors.Is(err, errNever) {
			y.see("other orders")
		} else if y.expect(err, "%s", at) {
			y.count("pulls under way", 1)
		}
		y.expect(st.check(), "%s", at)
		if begun {
			y.expect(st.holds(r.pulled(wanted)), "%s", at)
		}
		st.remove(t)
	}
}

// failingDuration is how long a copy takes that may fail.
func (s *suite) failingDuration(t *testing.T, i image) time.Duration {
	t.Helper()
	st := s.newStore(t)
	defer st.remove(t)
	start := time.Now()
	st.copy(i).wait()
	return time.Since(start)
}

// stopped stops a copy that will fail at the moment, and lets it go on when the
// pull is under way. If it is stopped with a lock that podman needs, there is no
// such pull.
func stopped(st *store, y *tally, i image, moment time.Duration, pull func() error) error {
	c := st.copy(i)
	if c.err != nil {
		return c.err
	}
	time.Sleep(moment)
	if err := c.Process.Signal(unix.SIGSTOP); err != nil {
		return err
	}
	under := make(chan error, 1)
	go func() { under <- pull() }()
	var err error
	select {
	case err = <-under:
	case <-time.After(time.Second):
		y.see("stopped copies held a lock")
	}
	if contErr := c.Process.Signal(unix.SIGCONT); contErr != nil {
		return contErr
	}
	if err == nil {
		err = c.wait().mustFail("object")
	}
	return err
}

// killedBefore kills a copy at the moment, and has another made when the pull is
// under way.
func killedBefore(st *store, _ *tally, i image, moment time.Duration, pull func() error) error {
	c := st.copy(i)
	if c.err != nil {
		return c.err
	}
	time.Sleep(moment)
	_ = c.Process.Kill() // it may have ended
	c.wait()
	if err := pull(); err != nil {
		return err
	}
	return st.copy(st.suite.images.small).wait().mustSucceed()
}
