package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
)

// progressOf runs a command with --progress-fd 3, and returns the lines.
func progressOf(t testing.TB, c *command) []progressBytes {
	t.Helper()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	c.Args = append(c.Args, "--progress-fd", "3")
	c.ExtraFiles = []*os.File{w}
	c.start(t)
	require.NoError(t, w.Close())
	lines := bufio.NewScanner(r)
	if !lines.Scan() {
		c.wait(t).requireSuccess(t)
		require.Fail(t, "there are no lines")
	}
	assert.JSONEq(t, `{"type":"Start","version":"0.1.0"}`, lines.Text())
	var all []progressBytes
	for lines.Scan() {
		var p progressBytes
		d := json.NewDecoder(bytes.NewReader(lines.Bytes()))
		d.DisallowUnknownFields()
		require.NoError(t, d.Decode(&p))
		all = append(all, p)
	}
	require.NoError(t, lines.Err())
	c.wait(t).requireSuccess(t)
	require.NotEmpty(t, all)
	return all
}

// The numbers grow, until everything is there.
func TestProgressIsWrittenAsLines(t *testing.T) {
	t.Parallel()
	s := newStore(t, t.TempDir())
	from := "composefs:[" + fixtures.Unpack(t, "sha512") + "]hello"
	want := fixtures.Expected(t)["hello"]
	for name, to := range map[string]struct {
		dest         string
		again, plain bool
	}{
		"store":     {s.image("x"), true, false},
		"plain":     {s.image("y"), true, true},
		"directory": {"dir:" + filepath.Join(t.TempDir(), "image"), false, false},
		"layout":    {"oci:" + filepath.Join(t.TempDir(), "layout"), false, false},
		"registry":  {"docker://" + newRegistry(t, "") + "/os:1", true, false},
		"archive":   {"docker-archive:" + filepath.Join(t.TempDir(), "archive"), false, false},
	} {
		t.Run(name, func(t *testing.T) {
			command := func() *command {
				c := newCommand(t, "copy", "--insecure-policy", "--dest-tls-verify=false", from, to.dest)
				if to.plain {
					c.Args = append(c.Args, "--no-zero-copy")
				}
				return c
			}
			all := progressOf(t, command())
			var before progressBytes
			for _, p := range all {
				assert.Equal(t, "ProgressBytes", p.Type)
				assert.Equal(t, "copying", p.Task)
				assert.Contains(t, to.dest, p.ID[:strings.Index(p.ID, ":")+1])
				assert.GreaterOrEqual(t, p.Bytes, before.Bytes)
				assert.GreaterOrEqual(t, p.Steps, before.Steps)
				assert.LessOrEqual(t, p.Steps, p.StepsTotal)
				assert.LessOrEqual(t, p.Bytes, p.BytesTotal)
				before = p
			}
			assert.Equal(t, len(want.Layers)+1, before.Steps)
			assert.Equal(t, before.StepsTotal, before.Steps)
			assert.Positive(t, before.Bytes)
			assert.Equal(t, before.BytesTotal, before.Bytes)
			done := map[string]bool{}
			for _, p := range all {
				for _, b := range p.Subtasks {
					done[b.ID] = done[b.ID] || b.Bytes == b.BytesTotal
				}
			}
			assert.Len(t, done, before.StepsTotal)
			assert.NotContains(t, done, false)
			if !to.again {
				return
			}
			again := progressOf(t, command())
			last := again[len(again)-1]
			assert.GreaterOrEqual(t, last.StepsCached, len(want.Layers))
			assert.Equal(t, last.StepsTotal, last.Steps)
		})
	}
}

// An image from elsewhere has no totals.
func TestProgressOfOtherImages(t *testing.T) {
	t.Parallel()
	layout := "oci:" + filepath.Join(t.TempDir(), "layout")
	copyImage(t, "composefs:["+fixtures.Unpack(t, "sha512")+"]hello", layout).requireSuccess(t)
	all := progressOf(t, newCommand(t, "copy", "--insecure-policy", layout, "dir:"+filepath.Join(t.TempDir(), "image")))
	last := all[len(all)-1]
	assert.Zero(t, last.StepsTotal)
	assert.Zero(t, last.BytesTotal)
	assert.Equal(t, len(fixtures.Expected(t)["hello"].Layers)+1, last.Steps)
}

// The file descriptor gets through to the process in the user namespace.
func TestRootlessProgress(t *testing.T) {
	u := newUser(t)
	require.NoError(t, os.MkdirAll(filepath.Join(u.Home, ".var/lib"), 0o755))
	require.NoError(t, fixtures.UnpackTo(filepath.Join(u.Home, ".var/lib"), "sha512"))
	require.NoError(t, os.Rename(filepath.Join(u.Home, ".var/lib/sha512"), filepath.Join(u.Home, ".var/lib/composefs")))
	t.Cleanup(func() { u.StopPodman(t) })
	all := progressOf(t, u.command(t, "copy", "--insecure-policy", "composefs:hello", "containers-storage:localhost/x"))
	assert.Equal(t, all[len(all)-1].BytesTotal, all[len(all)-1].Bytes)
}

// A reader that stops, or does not begin, is no reason to fail or to wait for long.
func TestProgressThatNobodyReads(t *testing.T) {
	t.Parallel()
	from := "composefs:[" + fixtures.Unpack(t, "sha512") + "]many"
	for name, prepare := range map[string]func(r, w *os.File){
		"closed": func(r, _ *os.File) { require.NoError(t, r.Close()) },
		"full": func(_, w *os.File) {
			fd := int(w.Fd())
			require.NoError(t, unix.SetNonblock(fd, true))
			for {
				if _, err := unix.Write(fd, make([]byte, 4096)); err != nil {
					break
				}
			}
			require.NoError(t, unix.SetNonblock(fd, false))
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, w, err := os.Pipe()
			require.NoError(t, err)
			defer r.Close()
			prepare(r, w)
			c := newCommand(t, "copy", "--insecure-policy", "--progress-fd", "3", from, "dir:"+filepath.Join(t.TempDir(), "image"))
			c.ExtraFiles = []*os.File{w}
			c.run(t).requireSuccess(t)
			require.NoError(t, w.Close())
		})
	}
}

func TestProgressNeedsAnOpenFile(t *testing.T) {
	t.Parallel()
	to := "dir:" + filepath.Join(t.TempDir(), "image")
	from := "composefs:[" + fixtures.Unpack(t, "sha512") + "]hello"
	runCommand(t, "copy", "--insecure-policy", "--progress-fd", "9", from, to).assertFailure(t, "--progress-fd 9", "bad file descriptor")
	c := newCommand(t, "copy", "--insecure-policy", "--progress-fd", "3", from, to)
	readOnly, err := os.Open(os.DevNull)
	require.NoError(t, err)
	defer readOnly.Close()
	c.ExtraFiles = []*os.File{readOnly}
	c.run(t).assertFailure(t, "--progress-fd 3", "bad file descriptor")
}

// Without a cursor there are lines, as in a pipe, whoever does the copy.
func TestDumbTerminalHasLines(t *testing.T) {
	t.Parallel()
	s := newStore(t, t.TempDir())
	from := "composefs:[" + fixtures.Unpack(t, "sha512") + "]hello"
	for _, to := range []string{s.image("x"), "dir:" + filepath.Join(t.TempDir(), "image")} {
		screen, program := newTerminal(t)
		c := newCommand(t, "copy", "--insecure-policy", from, to)
		c.Env = append(c.Env, "TERM=dumb")
		c.Stdout = program
		require.NoError(t, c.Start())
		require.NoError(t, program.Close())
		output, _ := io.ReadAll(screen)
		require.NoError(t, c.Wait())
		assert.NotContains(t, string(output), "\x1b")
		for _, l := range fixtures.Expected(t)["hello"].Layers {
			assert.Contains(t, string(output), "Copying blob "+l.DiffID.String())
		}
	}
}

func TestMessagesHaveNoColorWhereNoneIsWanted(t *testing.T) {
	before := logrus.StandardLogger().Formatter
	defer logrus.SetFormatter(before)
	plain := &logrus.TextFormatter{DisableColors: true}
	for _, variable := range []string{"NO_COLOR=1", "TERM=dumb"} {
		t.Run(variable, func(t *testing.T) {
			logrus.SetFormatter(before)
			name, value, _ := strings.Cut(variable, "=")
			t.Setenv(name, value)
			setLogColors()
			assert.Equal(t, plain, logrus.StandardLogger().Formatter)
		})
	}
}

var escapes = regexp.MustCompile("\x1b\\[[0-9;?]*[A-Za-z]")

// In a narrow window bars are cut, and the cursor still finds the line that it began in.
func TestNarrowTerminal(t *testing.T) {
	t.Parallel()
	s := newStore(t, t.TempDir())
	from := "composefs:[" + fixtures.Unpack(t, "sha512") + "]hello"
	for _, columns := range []int{10, 25, 40, 60} {
		screen, program := newTerminal(t)
		require.NoError(t, unix.IoctlSetWinsize(int(program.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 10, Col: uint16(columns)}))
		c := newCommand(t, "copy", "--insecure-policy", from, s.image("x"))
		c.Stdout = program
		require.NoError(t, c.Start())
		require.NoError(t, program.Close())
		output, _ := io.ReadAll(screen)
		require.NoError(t, c.Wait())
		for _, line := range strings.FieldsFunc(escapes.ReplaceAllString(string(output), "\r"), func(r rune) bool { return r == '\r' || r == '\n' }) {
			if strings.HasPrefix(line, "Copying blob") {
				assert.LessOrEqual(t, len([]rune(line)), columns, "%q", line)
			}
		}
	}
}

// Whoever ends the command while it asks for a passphrase sees again what they type.
func TestInterruptedPromptLeavesTheTerminalAsItWas(t *testing.T) {
	t.Parallel()
	screen, program := newTerminal(t)
	key := filepath.Join(t.TempDir(), "key")
	require.NoError(t, os.WriteFile(key, nil, 0o600))
	c := newCommand(t, "copy", "--insecure-policy", "--sign-by-sigstore-private-key", key, "composefs:["+fixtures.Unpack(t, "sha512")+"]hello", "dir:"+filepath.Join(t.TempDir(), "image"))
	c.Stdin, c.Stderr = program, program
	echo := func() bool {
		state, err := unix.IoctlGetTermios(int(program.Fd()), unix.TCGETS)
		require.NoError(t, err)
		return state.Lflag&unix.ECHO != 0
	}
	require.True(t, echo())
	require.NoError(t, c.Start())
	for end := time.Now().Add(10 * time.Second); echo(); time.Sleep(10 * time.Millisecond) {
		require.True(t, time.Now().Before(end), "it does not ask")
	}
	require.NoError(t, c.Process.Signal(unix.SIGINT))
	assert.Error(t, c.Wait())
	assert.True(t, echo())
	require.NoError(t, program.Close())
	output, _ := io.ReadAll(screen)
	assert.Contains(t, string(output), "interrupted by SIGINT")
}
