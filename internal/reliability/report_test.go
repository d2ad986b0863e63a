package reliability

import (
	"bytes"
	"debug/buildinfo"
	"fmt"
	"maps"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// tally counts what a test has done and seen. It may be used concurrently.
type tally struct {
	started bool

	mu      sync.Mutex
	done    map[string]int // by what was done, as in "copies"
	seen    map[string]int // by what is worth telling, and not wrong
	longest time.Duration  // from a signal to the end, of those that were measured
	wrong   []string
}

func (y *tally) count(what string, n int) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.done == nil {
		y.done = map[string]int{}
	}
	y.done[what] += n
}

func (y *tally) see(what string) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.seen == nil {
		y.seen = map[string]int{}
	}
	y.seen[what]++
}

func (y *tally) took(d time.Duration) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.longest = max(y.longest, d)
}

// expect notes that something is wrong if err is not nil, and tells whether it is
// right.
func (y *tally) expect(err error, what string, args ...any) bool {
	if err == nil {
		return true
	}
	y.mu.Lock()
	defer y.mu.Unlock()
	y.wrong = append(y.wrong, fmt.Sprintf(what, args...)+": "+err.Error())
	return false
}

// String says what was done and seen, for the log of the test.
func (y *tally) String() string {
	text := y.cases()
	if outcome := y.outcome(); outcome != "" {
		text += "; " + outcome
	}
	return text
}

// cases says how much was done.
func (y *tally) cases() string { return counted(y.done) }

// outcome says what came of it.
func (y *tally) outcome() string {
	if !y.started || len(y.done) == 0 {
		return "not run"
	}
	parts := []string{"holds"}
	if n := len(y.wrong); n > 0 {
		parts[0] = fmt.Sprintf("**does not hold**, %d times", n)
	}
	if len(y.seen) > 0 {
		parts = append(parts, counted(y.seen))
	}
	if y.longest > 0 {
		parts = append(parts, fmt.Sprintf("longest time from the signal to the end: %.2f s", y.longest.Seconds()))
	}
	return strings.Join(parts, "; ")
}

func counted(numbers map[string]int) string {
	var parts []string
	for _, what := range slices.Sorted(maps.Keys(numbers)) {
		parts = append(parts, fmt.Sprintf("%d %s", numbers[what], what))
	}
	return strings.Join(parts, ", ")
}

// length says how long the run was.
func length() string {
	if *each == 0 {
		return "the short form"
	}
	return fmt.Sprintf("%s for each test that can be repeated", *each)
}

// report returns the text of docs/reliability.md, for the command at a path.
func report(t testing.TB, command string, all []fault, tallies []*tally) []byte {
	t.Helper()
	var out bytes.Buffer
	fmt.Fprintf(&out, `# What goes wrong around a copy, and what comes of it

The tests in `+"`internal/reliability`"+` run skopeo-cfs as a user does, into
containers-storage on XFS with reflinks, with real programs beside it. `+"`make reliability`"+`
repeats each for some time and writes this file; the gate runs a short form.

A store is right when `+"`storage.Check`"+`, the check behind `+"`podman system check`"+`, finds nothing
and no layer is incomplete. An image is right when podman lists it with the manifest
digest that it has in the repository, and what podman mounts is the tree that its
layers' tars describe, entry by entry: types, permissions, owners, contents, links,
extended attributes and modification times. A file is left over if a store in which
copies and podman have come and gone has none of that name. What containers/storage
itself leaves when its process is killed does not count: `+"`.tmp-…`"+` next to a file that it
was writing anew, and directories such as `+"`overlay/compat…`"+` and `+"`overlay/metacopy-check…`"+`
in which it was trying the kernel out.

This run: %s; %s.
`, length(), versions(t, command))
	section := ""
	for i, f := range all {
		if f.section != section {
			section = f.section
			fmt.Fprintf(&out, "\n## %s\n\n| What happens | What must hold | Cases | Outcome |\n| --- | --- | --- | --- |\n", section)
		}
		fmt.Fprintf(&out, "| %s | %s | %s | %s |\n", f.what, f.holds, tallies[i].cases(), tallies[i].outcome())
	}
	return out.Bytes()
}

// versions names the programs that the outcome depends on.
func versions(t testing.TB, command string) string {
	t.Helper()
	var kernel unix.Utsname
	require.NoError(t, unix.Uname(&kernel))
	release := regexp.MustCompile(`^[0-9.]*[0-9]`).FindString(unix.ByteSliceToString(kernel.Release[:]))
	podman, err := exec.Command("podman", "--version").Output()
	require.NoError(t, err)
	text := "Linux " + release + ", " + strings.TrimSpace(strings.ReplaceAll(string(podman), "version ", ""))
	built, err := buildinfo.ReadFile(command)
	require.NoError(t, err)
	for _, module := range built.Deps {
		if module.Path == "github.com/containers/storage" {
			text += ", containers/storage " + module.Version
		}
	}
	return text
}
