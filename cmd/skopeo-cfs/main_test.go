package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/containers/storage/pkg/reexec"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/internal/needs"
	"github.com/skopeo-cfs/skopeo-cfs/internal/testuser"
)

// asCommand in the environment makes the test's binary the command, so that the
// tests run it as a user does, with whatever the binary was built with.
const asCommand = "SKOPEO_CFS_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if reexec.Init() {
		return
	}
	if os.Getenv(asCommand) != "" {
		main()
	}
	os.Exit(runTests(m))
}

// runTests runs the tests with a cache of their own.
func runTests(m *testing.M) int {
	cache, err := os.MkdirTemp("", "cache")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(cache)
	// The go command, which a test runs, keeps its own cache.
	if goCache, err := os.UserCacheDir(); err == nil && os.Getenv("GOCACHE") == "" {
		_ = os.Setenv("GOCACHE", filepath.Join(goCache, "go-build"))
	}
	if err := os.Setenv("XDG_CACHE_HOME", cache); err != nil {
		panic(err)
	}
	return m.Run()
}

// command is the command, about to be run.
type command struct {
	*exec.Cmd
	tmp            string // its directory for temporary files
	races          string // where the race detector writes
	stdout, stderr bytes.Buffer
}

// newCommand returns the command with arguments, and with a directory for its
// temporary files, of which none may be left when wait returns.
func newCommand(t testing.TB, args ...string) *command {
	t.Helper()
	binary, err := os.Executable()
	require.NoError(t, err)
	c := &command{Cmd: exec.Command(binary, args...), tmp: t.TempDir()}
	c.setEnv(t, os.Environ())
	if len(args) > 0 && args[0] == "copy" {
		c.Args = append(c.Args, "--tmpdir", c.tmp)
	}
	return c
}

// setEnv sets the environment, with what the tests need in it.
func (c *command) setEnv(t testing.TB, env []string) {
	t.Helper()
	dir, races := newRaceLog(t)
	c.races = dir
	c.Env = append(slices.Clone(env), asCommand+"=1", "TMPDIR="+c.tmp, "XDG_CACHE_HOME="+newCache(t), races)
}

// newCache returns a directory for a cache of any user.
func newCache(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	searchable(t, dir)
	require.NoError(t, os.Chmod(dir, 0o777))
	return dir
}

// outcome is what a run of the command came to.
type outcome struct {
	code           int
	stdout, stderr string
}

// wait waits for the started command's end.
func (c *command) wait(t testing.TB) outcome {
	t.Helper()
	err := c.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	assert.Empty(t, namesIn(t, c.tmp), "temporary files are left")
	assertNoRaces(t, c.races)
	status := c.ProcessState.Sys().(syscall.WaitStatus)
	assert.False(t, status.Signaled(), "ended by %s", status.Signal())
	return outcome{c.ProcessState.ExitCode(), c.stdout.String(), c.stderr.String()}
}

// start starts the command and keeps what it prints, where nobody else does.
func (c *command) start(t testing.TB) {
	t.Helper()
	if c.Stdout == nil {
		c.Stdout = &c.stdout
	}
	if c.Stderr == nil {
		c.Stderr = &c.stderr
	}
	require.NoError(t, c.Start())
}

func (c *command) run(t testing.TB) outcome {
	t.Helper()
	c.start(t)
	return c.wait(t)
}

// run runs the command.
func runCommand(t testing.TB, args ...string) outcome {
	t.Helper()
	return newCommand(t, args...).run(t)
}

// copyImage runs the command's copy, without a policy.
func copyImage(t testing.TB, from, to string, flags ...string) outcome {
	t.Helper()
	return runCommand(t, append([]string{"copy", "--insecure-policy", from, to}, flags...)...)
}

// requireSuccess demands exit code 0 and nothing on standard error.
func (o outcome) requireSuccess(t testing.TB) {
	t.Helper()
	require.Zero(t, o.code, o.stderr)
	require.Empty(t, o.stderr)
}

// assertFailure demands exit code 1 and one line of error with the texts in it.
func (o outcome) assertFailure(t testing.TB, texts ...string) {
	t.Helper()
	assert.Equal(t, 1, o.code, o.stderr)
	assert.True(t, strings.HasPrefix(o.stderr, "skopeo-cfs: "), o.stderr)
	assert.True(t, strings.HasSuffix(o.stderr, "\n"), o.stderr)
	assert.Equal(t, 1, strings.Count(o.stderr, "\n"), o.stderr)
	assert.NotContains(t, o.stderr, "%!", "a wrong format")
	for _, text := range texts {
		assert.Contains(t, o.stderr, text)
	}
}

// namesIn returns the names in a directory, none where there is no directory.
func namesIn(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if !errors.Is(err, os.ErrNotExist) {
		require.NoError(t, err)
	}
	names := []string{}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func needRoot(t testing.TB) {
	t.Helper()
	needs.Root(t)
}

func needTool(t testing.TB, names ...string) {
	t.Helper()
	needs.Tool(t, names...)
}

// tool runs a program, which must succeed, and returns its standard output.
func tool(t testing.TB, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	require.NoError(t, cmd.Run(), "%s %s: %s", name, strings.Join(args, " "), &stderr)
	return stdout.String()
}

// searchable lets everybody reach a test's temporary directory.
func searchable(t testing.TB, dir string) {
	t.Helper()
	testuser.Searchable(t, dir)
}
