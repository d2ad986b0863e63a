package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
)

// withoutReader makes the command's standard output a pipe that nobody reads.
func (c *command) withoutReader(t testing.TB) *command {
	t.Helper()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	require.NoError(t, r.Close())
	t.Cleanup(func() { w.Close() })
	c.Stdout = w
	return c
}

// Whoever only looks at the first lines of the progress gets the image all the
// same.
func TestCopyGoesOnWithoutAReader(t *testing.T) {
	repo := fixtures.Unpack(t, "sha256")
	to := "dir:" + filepath.Join(t.TempDir(), "image")
	newCommand(t, "copy", "--insecure-policy", "composefs:["+repo+"]hello", to).withoutReader(t).run(t).requireSuccess(t)
	want := fixtures.Expected(t)["hello"]
	assert.Equal(t, want.Config, readImage(t, to).config)
}

func TestOutputWithoutAReaderIsAnError(t *testing.T) {
	t.Parallel()
	repo := fixtures.Unpack(t, "sha256")
	for name, args := range map[string][]string{
		"list":         {"list", repo},
		"list --json":  {"list", "--json", repo},
		"inspect":      {"inspect", "composefs:[" + repo + "]hello"},
		"inspect raw":  {"inspect", "--raw", "composefs:[" + repo + "]hello"},
		"inspect conf": {"inspect", "--config", "composefs:[" + repo + "]hello"},
	} {
		t.Run(name, func(t *testing.T) {
			newCommand(t, args...).withoutReader(t).run(t).assertFailure(t, "broken pipe")
		})
	}
}
