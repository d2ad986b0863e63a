package house

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write testdata/api.txt anew")

// TestAPI compares what the packages export, with its documentation, to
// testdata/api.txt. A change of that file is a change of what programs rely on:
// "make api" writes it anew.
func TestAPI(t *testing.T) {
	module := goOutput(t, "list", "-m")
	var api strings.Builder
	for _, name := range order {
		if !isProgram(name) {
			api.WriteString(goOutput(t, "doc", "-all", "./"+name) + "\n\n")
		}
	}
	// The same for every major version and both names of the libraries.
	got := strings.NewReplacer(
		module+"/", "MODULE/",
		"github.com/containers/", "CONTAINERS/",
		"go.podman.io/", "CONTAINERS/",
	).Replace(api.String())
	const golden = "testdata/api.txt"
	if *update {
		require.NoError(t, os.WriteFile(golden, []byte(got), 0o644))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	assert.Equal(t, strings.Split(string(want), "\n"), strings.Split(got, "\n"), `if this is meant, run "make api"`)
}
