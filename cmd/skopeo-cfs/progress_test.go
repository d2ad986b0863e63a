package main

import (
	"fmt"
	"io"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
)

// newTerminal returns the two ends of a terminal: what shows on it can be read
// from the first, the second is a program's.
func newTerminal(t testing.TB) (screen, program *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { screen.Close() })
	require.NoError(t, unix.IoctlSetPointerInt(int(screen.Fd()), unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(int(screen.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	require.NoError(t, unix.IoctlSetWinsize(int(program.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 40, Col: 120}))
	return screen, program
}

// shown returns what a copy of the image shows on a terminal.
func shown(t testing.TB, from, to string) string {
	t.Helper()
	screen, program := newTerminal(t)
	c := newCommand(t, "copy", "--insecure-policy", from, to)
	c.Stdout = program
	require.NoError(t, c.Start())
	require.NoError(t, program.Close())
	output, _ := io.ReadAll(screen) // ends with an error when the program has
	require.NoError(t, c.Wait())
	return string(output)
}

func TestLayersHaveBarsOnATerminal(t *testing.T) {
	t.Parallel()
	s := newStore(t, t.TempDir())
	repo := fixtures.Unpack(t, "sha512")
	layers := fixtures.Expected(t)["hello"].Layers
	first := shown(t, "composefs:["+repo+"]hello", s.image("x"))
	again := shown(t, "composefs:["+repo+"]hello", s.image("x"))
	for _, l := range layers {
		label := "Copying blob " + l.DiffID.Encoded()[:12]
		assert.Contains(t, first, label+" done")
		assert.Contains(t, again, label+" already there")
	}
	assert.Regexp(t, `17 files, [0-9.]+ k?B shared, [0-9.]+ k?B written, [0-9.]+ s\r\n$`, first)
	assert.Regexp(t, `0 files, 0 B shared, 0 B written, [0-9.]+ s\r\n$`, again)
}

func TestLayersHaveLinesInAPipe(t *testing.T) {
	t.Parallel()
	s := newStore(t, t.TempDir())
	from := "composefs:[" + fixtures.Unpack(t, "sha512") + "]hello"
	layers := fixtures.Expected(t)["hello"].Layers
	for _, end := range []string{"done", "already there"} {
		got := copyImage(t, from, s.image("x"))
		got.requireSuccess(t)
		for _, l := range layers {
			assert.Contains(t, got.stdout, "Copying blob "+l.DiffID.String()+" "+end+"\n")
		}
		assert.NotContains(t, got.stdout, "\x1b")
	}
	quiet := copyImage(t, from, s.image("x"), "--quiet")
	quiet.requireSuccess(t)
	assert.Empty(t, quiet.stdout)
}
