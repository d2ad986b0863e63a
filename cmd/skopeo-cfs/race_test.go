package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/containers/storage/pkg/lockfile"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// knownRace is the beginning of the functions that the race detector finds at
// odds in containers/storage: its locks assert that they are held by a look at
// a field that other readers set to what it is.
var knownRace = reflect.TypeFor[lockfile.LockFile]().PkgPath() + ".(*LockFile)."

// newRaceLog returns what has the command, and whatever it starts, write what
// the race detector finds to files of a directory, as which user ever.
func newRaceLog(t testing.TB) (dir, env string) {
	t.Helper()
	dir = t.TempDir()
	searchable(t, dir)
	require.NoError(t, os.Chmod(dir, 0o777))
	return dir, "GORACE=exitcode=0 atexit_sleep_ms=0 log_path=" + filepath.Join(dir, "race")
}

// assertNoRaces demands that nothing was found but what is known.
func assertNoRaces(t testing.TB, dir string) {
	t.Helper()
	for _, name := range namesIn(t, dir) {
		data, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		for _, report := range strings.Split(string(data), "WARNING: DATA RACE\n")[1:] {
			assert.True(t, isKnownRace(report), report)
		}
	}
}

// isKnownRace tells whether both accesses of a report are in knownRace's
// functions: their stacks begin after a line that says which access it was.
func isKnownRace(report string) bool {
	accesses := 0
	lines := strings.Split(report, "\n")
	for i, line := range lines[:len(lines)-1] {
		if !strings.Contains(line, " at 0x") || !strings.HasSuffix(line, ":") {
			continue
		}
		accesses++
		if !strings.HasPrefix(strings.TrimSpace(lines[i+1]), knownRace) {
			return false
		}
	}
	return accesses == 2
}
