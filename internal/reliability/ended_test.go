package reliability

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const endedSection = "Killed and interrupted"

var endedFaults = []fault{
	{
		section: endedSection, name: "killed",
		what:  "`kill -9` of a copy, at moments spread over its time",
		holds: "The store is right; the next copy succeeds, its image is right, and nothing of the killed one is left in the store or as a temporary file",
		run:   func(t *testing.T, s *suite, y *tally) { killed(t, s, y, nil) },
	},
	{
		section: endedSection, name: "killed without sharing",
		what:  "the same of a copy with `--no-zero-copy`",
		holds: "The same",
		run:   func(t *testing.T, s *suite, y *tally) { killed(t, s, y, []string{"--no-zero-copy"}) },
	},
	{
		section: endedSection, name: "killed as another image comes",
		what:  "`kill -9` of a copy, of which the next copy, of another image, makes no use",
		holds: "The same, and layers that an image uses stay",
		run:   killedThenAnother,
	},
	{
		section: endedSection, name: "interrupted",
		what:  "SIGINT or SIGTERM to a copy, at moments spread over its time",
		holds: "It ends soon, and either the image is there, or nothing is left but complete layers; the next copy succeeds",
		run:   func(t *testing.T, s *suite, y *tally) { interrupted(t, s, y, nil) },
	},
	{
		section: endedSection, name: "interrupted without sharing",
		what:  "the same of a copy with `--no-zero-copy`",
		holds: "The same",
		run:   func(t *testing.T, s *suite, y *tally) { interrupted(t, s, y, []string{"--no-zero-copy"}) },
	},
}

// duration returns how long a copy takes that nothing disturbs: the median of
// three.
func (s *suite) duration(t *testing.T, i image, flags []string) time.Duration {
	t.Helper()
	var all []time.Duration
	for range 3 {
		st := s.newStore(t)
		start := time.Now()
		if err := st.copy(i, flags...).wait().mustSucceed(); err != nil {
			t.Fatal(err)
		}
		all = append(all, time.Since(start))
		st.remove(t)
	}
	slices.Sort(all)
	return all[1]
}

// endAt sends a copy a signal at the i-th of n moments of the time that it takes.
// It returns how long it took to end from then. A copy that does not end soon is
// killed.
func (c *copying) endAt(signal os.Signal, whole time.Duration, i, n int) (result, time.Duration) {
	time.Sleep(whole * time.Duration(i) / time.Duration(n))
	start := time.Now()
	if c.err == nil {
		_ = c.Process.Signal(signal) // it may have ended
		c.killer.Reset(soon)
	}
	got := c.wait()
	return got, time.Since(start)
}

// soon is when a copy must have ended that was interrupted. It takes far less;
// this is for machines that have much else to do.
const soon = 10 * time.Second

func killed(t *testing.T, s *suite, y *tally, flags []string) {
	large := s.images.large
	whole := s.duration(t, large, flags)
	n := choose(4, 100)
	for i := range n {
		st := s.newStore(t)
		there := []image{large}
		if i%2 == 1 { // with a layer that is in use before
			there = append(there, s.images.sibling)
			y.expect(st.copy(s.images.sibling).wait().mustSucceed(), "copying %s", s.images.sibling.name)
		}
		c := st.copy(large, flags...)
		got, _ := c.endAt(unix.SIGKILL, whole, i, n)
		if got.signal != unix.SIGKILL {
			y.see("ended before")
		}
		at := fmt.Sprintf("killed at moment %d of %d", i, n)
		if i%4 < 2 { // else the next copy is the first to open the store
			y.expect(st.check(), "%s", at)
		}
		y.expect(st.copy(large, flags...).wait().mustSucceed(), "%s, the next copy", at)
		y.expect(st.left(t), "%s, after the next copy", at)
		y.expect(st.check(), "%s, after the next copy", at)
		y.expect(st.holds(there...), "%s, after the next copy", at)
		y.count("kills", 1)
		st.remove(t)
	}
}

func killedThenAnother(t *testing.T, s *suite, y *tally) {
	whole := s.duration(t, s.images.large, nil)
	n := choose(3, 30)
	for i := range n {
		st := s.newStore(t)
		y.expect(st.copy(s.images.sibling).wait().mustSucceed(), "copying %s", s.images.sibling.name)
		_, _ = st.copy(s.images.large).endAt(unix.SIGKILL, whole, i, n)
		at := fmt.Sprintf("killed at moment %d of %d", i, n)
		y.expect(st.copy(s.images.small).wait().mustSucceed(), "%s, the next copy", at)
		y.expect(st.left(t), "%s, after the next copy", at)
		y.expect(st.check(), "%s, after the next copy", at)
		y.expect(st.holds(s.images.sibling, s.images.small), "%s, after the next copy", at)
		y.count("kills", 1)
		st.remove(t)
	}
}

func interrupted(t *testing.T, s *suite, y *tally, flags []string) {
	large := s.images.large
	whole := s.duration(t, large, flags)
	n := choose(4, 20)
	for i := range n {
		st := s.newStore(t)
		signal := []unix.Signal{unix.SIGINT, unix.SIGTERM}[i%2]
		c := st.copy(large, flags...)
		got, took := c.endAt(signal, whole*9/10, i+1, n)
		at := fmt.Sprintf("%s at moment %d of %d", unix.SignalName(signal), i+1, n)
		y.took(took)
		switch {
		case got.err == nil && got.code == 0:
			y.see("ended before")
			y.expect(st.holds(large), "%s, too late", at)
		case got.signal == signal && !st.exists():
			y.see("had not begun")
		default:
			y.expect(got.mustEnd(), "%s", at)
			y.expect(st.nothing(t), "%s", at)
		}
		y.expect(st.check(), "%s", at)
		y.expect(st.copy(large, flags...).wait().mustSucceed(), "%s, the next copy", at)
		y.expect(st.left(t), "%s, after the next copy", at)
		y.expect(st.holds(large), "%s, after the next copy", at)
		y.count("signals", 1)
		st.remove(t)
	}
}
