package reliability

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"testing"
	"time"

	"github.com/containers/storage/pkg/reexec"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/internal/needs"
	"github.com/skopeo-cfs/skopeo-cfs/internal/reflinks"
)

var (
	each       = flag.Duration("each", 0, "how long each test is repeated; 0 is the short form")
	reportPath = flag.String("report", "", "`file` that the report is written to")
)

func TestMain(m *testing.M) {
	if reexec.Init() {
		return
	}
	os.Exit(m.Run())
}

// fault is a test, and a row of the report.
type fault struct {
	section string
	name    string
	what    string // happens
	holds   string // whatever happens
	run     func(t *testing.T, s *suite, y *tally)
}

// faults are all tests, in the order of the report.
func faults() []fault {
	var all []fault
	for _, some := range [][]fault{besideFaults, pullFaults, rootlessFaults, endedFaults, journalFaults, lockFaults, failedFaults, layerFaults} {
		all = append(all, some...)
	}
	return all
}

func TestReliability(t *testing.T) {
	needs.Root(t)
	needs.Tool(t, "mkfs.xfs", "mount", "podman", "tar", "unshare")
	s := newSuite(t)
	all := faults()
	tallies := make([]*tally, len(all))
	t.Cleanup(func() { // when the parallel tests have ended
		if *reportPath != "" {
			require.NoError(t, os.WriteFile(*reportPath, report(t, s.binary, all, tallies), 0o644))
		}
	})
	for i, f := range all {
		y := &tally{}
		tallies[i] = y
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			y.started = true
			f.run(t, s, y)
			for _, wrong := range y.wrong {
				t.Error(wrong)
			}
			t.Log(y)
		})
	}
}

// suite is what the tests share. It does not change once it is made.
type suite struct {
	binary string // the command
	disk   string // a directory on XFS with reflinks
	images images
	usual  map[string]bool // the files of a store, layers and images aside, after a copy that nothing disturbed
}

func newSuite(t *testing.T) *suite {
	t.Helper()
	s := &suite{binary: buildCommand(t), disk: reflinks.Mount(t, 8<<30, "mkfs.xfs", "-q", "-m", "reflink=1")}
	require.NoError(t, os.Chmod(s.disk, 0o755))
	s.images = makeImages(t, s.disk)
	s.usual = s.usualFiles(t)
	return s
}

// usualFiles lists the files of a store in which copies, one of which has failed,
// and podman have come and gone, but those of layers and images.
func (s *suite) usualFiles(t *testing.T) map[string]bool {
	t.Helper()
	st := s.newStore(t)
	defer st.remove(t)
	require.NoError(t, st.copy(s.images.large).wait().mustSucceed())
	require.NoError(t, st.copy(s.images.broken).wait().mustFail("object"))
	require.NoError(t, st.check())
	for _, args := range [][]string{{"create", "--name", "x", s.images.large.podmanName(), "true"}, {"rm", "x"}, {"rmi", "--all"}} {
		_, err := st.podman(args...)
		require.NoError(t, err)
	}
	require.NoError(t, st.copy(s.images.small).wait().mustSucceed())
	usual := st.others(t)
	usual["overlay-layers/tmp"], usual["overlay/tempdirs"] = true, true // for what is being deleted
	return usual
}

// buildCommand builds the command as it is shipped, with the tags that the tests
// have.
func buildCommand(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "skopeo-cfs")
	build := exec.Command("go", "build", "-o", binary)
	info, ok := debug.ReadBuildInfo()
	require.True(t, ok)
	for _, setting := range info.Settings {
		if setting.Key == "-tags" {
			build.Args = append(build.Args, "-tags", setting.Value)
		}
	}
	build.Args = append(build.Args, "github.com/skopeo-cfs/skopeo-cfs/cmd/skopeo-cfs")
	out, err := build.CombinedOutput()
	require.NoError(t, err, string(out))
	require.NoError(t, os.Chmod(binary, 0o755))
	return binary
}

// repeat calls do for as long as -each says, or, in the short form, short times.
// It stops when the test has found so much wrong that more of it tells nothing.
func repeat(y *tally, short int, do func(round int)) {
	const enough = 10
	start := time.Now()
	for round := 0; len(y.wrong) < enough && (round < short || time.Since(start) < *each); round++ {
		do(round)
	}
}

// choose returns how many cases there are in the short form, or in the long one.
func choose(short, long int) int {
	if *each > 0 {
		return long
	}
	return short
}
