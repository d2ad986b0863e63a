package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/moby/sys/mountinfo"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// asBench in the environment makes the test's binary the bench.
const asBench = "SKOPEO_CFS_TEST_AS_BENCH"

func TestMain(m *testing.M) {
	if os.Getenv(asBench) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// newBenchCommand returns the bench, about to be run on a small image, with a
// directory for all that it makes.
func newBenchCommand(t *testing.T, args ...string) (_ *exec.Cmd, dir string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	self, err := os.Executable()
	require.NoError(t, err)
	command := filepath.Join(t.TempDir(), "skopeo-cfs")
	build := exec.Command("go", "build", "-tags", "containers_image_openpgp exclude_graphdriver_btrfs exclude_graphdriver_devicemapper",
		"-o", command, "github.com/skopeo-cfs/skopeo-cfs/cmd/skopeo-cfs")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	dir = t.TempDir()
	cmd := exec.Command(self, append([]string{"-quick", "-files", "600", "-bytes", "30000000", "-many", "1200", "-dir", dir, "-command", command}, args...)...)
	cmd.Env = append(os.Environ(), asBench+"=1")
	return cmd, dir
}

// assertNothingLeft expects that the bench has removed all that it made.
func assertNothingLeft(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Empty(t, left)
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	require.NoError(t, err)
	assert.Empty(t, mounts)
}

func TestBench(t *testing.T) {
	to := t.TempDir()
	jsonPath, svgPath := filepath.Join(to, "new", "results.json"), filepath.Join(to, "new", "chart.svg")
	cmd, dir := newBenchCommand(t, "-json", jsonPath, "-svg", svgPath, "-baseline", "HEAD")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	require.NoError(t, cmd.Run(), "%s", &stderr)
	assertNothingLeft(t, dir)

	data, err := os.ReadFile(jsonPath)
	require.NoError(t, err)
	var results Results
	require.NoError(t, json.Unmarshal(data, &results))
	assert.Positive(t, results.Cores)
	goals := 19
	if _, err := exec.LookPath("cfsctl"); err == nil {
		goals += 2 // verify is compared with it, for each algorithm
	}
	assert.Len(t, results.Goals, goals)
	assert.NotEmpty(t, results.Memory)
	for group, rows := range map[*Group][]string{
		results.Reading:   {rowObjects, rowGetBlob, rowGetBlob2, rowCat},
		results.Storage:   {rowToday, rowPlain, rowFast, rowBefore, rowAgain, rowTwice, rowClone, rowHash},
		results.Files:     {rowFew, rowMany, rowFewBefore, rowManyBefore},
		results.Comparing: {rowDiff, rowUpdate, rowContents},
		results.Serving:   {rowServe, rowServeFirst, rowCatObjects, rowRegistry},
	} {
		require.NotNil(t, group)
		require.Len(t, group.Rows, len(rows), group.Title)
		for _, name := range rows {
			r := group.find(name)
			assert.Len(t, r.Runs, 1, name)
			assert.Positive(t, r.Ratio, name)
			assert.Positive(t, r.Seconds, name)
			assert.Positive(t, r.PeakMemory, name)
			assert.Contains(t, stdout.String(), r.Title)
		}
		assert.Equal(t, 1.0, group.find(group.Baseline).Ratio)
	}
	const image = 30e6
	storage := results.Storage
	assert.Greater(t, storage.find(rowPlain).DiskAdded, int64(image*9/10))
	assert.Greater(t, storage.find(rowToday).DiskAdded, int64(image*9/10))
	assert.Greater(t, storage.find(rowToday).Temporary, int64(image/3))
	assert.Zero(t, storage.find(rowFast).Temporary)
	if exec.Command("mkfs.xfs", "-V").Run() == nil || os.Getenv("CI") == "true" {
		assert.Contains(t, results.Disk, "XFS, with reflinks")
		assert.Less(t, storage.find(rowFast).DiskAdded, int64(image/4))
	}

	drawn, err := os.ReadFile(svgPath)
	require.NoError(t, err)
	for d := xml.NewDecoder(bytes.NewReader(drawn)); ; {
		_, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
	}
	assert.Contains(t, string(drawn), "skopeo-cfs copy --no-zero-copy")
}

func TestInterruptedBenchLeavesNothing(t *testing.T) {
	cmd, dir := newBenchCommand(t, "-only", "storage", "-runs", "1000")
	stderr, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	told := bytes.Buffer{}
	for buffer := make([]byte, 4096); !bytes.Contains(told.Bytes(), []byte("the way of today")); {
		n, err := stderr.Read(buffer)
		require.NoError(t, err, "%s", &told)
		told.Write(buffer[:n])
	}
	require.NoError(t, cmd.Process.Signal(unix.SIGTERM))
	rest, err := io.ReadAll(stderr)
	require.NoError(t, err)
	var exit *exec.ExitError
	require.ErrorAs(t, cmd.Wait(), &exit)
	assert.Equal(t, 1, exit.ExitCode())
	assert.Contains(t, string(rest), "bench: interrupted")
	assertNothingLeft(t, dir)
}

// What a process writes to a file in memory counts, and what the kernel caches of
// a file on a disk does not.
func TestMemoryOfFilesCounts(t *testing.T) {
	if err := tryCgroup(); err != nil {
		t.Skipf("no control groups: %v", err) // a machine may have none, and a user other than root
	}
	const size = 40_000_000
	peak := func(dir string) int64 {
		file, err := os.CreateTemp(dir, "skopeo-cfs-test-")
		require.NoError(t, err)
		defer os.Remove(file.Name())
		defer file.Close()
		var run Run
		// The file is there, and counted, when the process has ended.
		err = (&bench{}).runInGroup(t.Context(), t.TempDir(), []string{"sh", "-c", `head -c "$1" /dev/zero >"$2"`, "sh", strconv.Itoa(size), file.Name()}, &run)
		require.NoError(t, err)
		return run.PeakMemory
	}
	inMemory := peak("/dev/shm")
	assert.Greater(t, inMemory, int64(size))
	assert.Less(t, inMemory, int64(size*3/2))
	assert.Less(t, peak(t.TempDir()), int64(size/2))
}

func TestOwnGroup(t *testing.T) {
	file := []byte("9:name=systemd:/s\n4:cpu,memory:/a/b\n0::/c\n")
	assert.Equal(t, "/a/b", ownPath(file, "memory"))
	assert.Equal(t, "/c", ownPath(file, ""))
	assert.Equal(t, "/", ownPath(file, "blkio"))
}

func TestTooLittleSpace(t *testing.T) {
	_, err := newDisk(context.Background(), t.TempDir(), 1<<62)
	assert.ErrorContains(t, err, "are needed")
}

func TestBadFlags(t *testing.T) {
	for name, args := range map[string][]string{
		"argument": {"x"}, "no runs": {"-runs", "0"}, "unknown part": {"-only", "x"}, "no number": {"-files", "x"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseOptions(args)
			assert.Error(t, err)
		})
	}
	o, err := parseOptions([]string{"-quick", "-files", "7"})
	require.NoError(t, err)
	assert.Equal(t, 7, o.spec.Files, "a flag is stronger than -quick")
	assert.Equal(t, 1, o.runs)
}

func TestRatios(t *testing.T) {
	seconds := func(values ...float64) (runs []Run) {
		for _, v := range values {
			runs = append(runs, Run{Seconds: v})
		}
		return runs
	}
	value := func(r Run) float64 { return r.Seconds }
	// The machine was ten times as slow in one turn: it does not show.
	assert.Equal(t, 2.0, ratio(seconds(2, 20, 4), seconds(1, 10, 2), value))
	assert.Equal(t, 3.0, ratio(seconds(2, 4), seconds(1, 1), value), "an even number")
	assert.Equal(t, 30.0, ratio(seconds(60), seconds(1, 2, 9), value), "run once")

	g := &Group{Baseline: "a"}
	g.addRow("a", "")
	g.addRow("b", "")
	for _, m := range []int64{5, 9, 7} {
		g.add("a", Run{Seconds: float64(m), PeakMemory: m})
		g.add("b", Run{Seconds: 3 * float64(m), PeakMemory: 2 * m})
	}
	g.summarise()
	assert.Equal(t, 3.0, g.find("b").Ratio)
	assert.Equal(t, 21.0, g.find("b").Seconds)
	assert.Equal(t, int64(18), g.find("b").PeakMemory, "the largest")
	assert.Equal(t, 2.0, g.growth("b", "a"))
}

func TestGoals(t *testing.T) {
	assert.True(t, atLeast("", 2, 2, "").Met)
	assert.False(t, atLeast("", 1.9, 2, "").Met)
	assert.True(t, atMost("", 2, 2, "").Met)
	assert.False(t, atMost("", 2.1, 2, "").Met)
}

func TestTemporarySizeIsThePeak(t *testing.T) {
	dir := t.TempDir()
	s := watchSize(dir)
	file := filepath.Join(dir, "in", "file")
	require.NoError(t, os.Mkdir(filepath.Dir(file), 0o755))
	require.NoError(t, os.WriteFile(file, make([]byte, 5000), 0o600))
	require.Eventually(t, func() bool { return s.largest.Load() == 5000 }, time.Minute, time.Millisecond)
	require.NoError(t, os.Remove(file))
	assert.Equal(t, int64(5000), s.stop())
}

func TestTexts(t *testing.T) {
	for want, bytes := range map[string]int64{"0": 0, "27.4 MB": 27_400_000, "-1.5 kB": -1500, "2 GB": 2e9} {
		assert.Equal(t, want, bytesText(bytes))
	}
	for want, ratio := range map[string]float64{"26×": 26.4, "1.3×": 1.25001, "0.01×": 0.0123, "0.62×": 0.618} {
		assert.Equal(t, want, ratioText(ratio))
	}
}
