package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
	"github.com/skopeo-cfs/skopeo-cfs/internal/needs"
)

// The commands in docs/linking.md do what is said there, in the order in which
// they are there.
func TestTheCommandsInTheDocumentation(t *testing.T) {
	if !*all {
		t.Skip("make link-test has this one")
	}
	needs.Root(t)
	needs.Tool(t, "make")
	dir := t.TempDir()
	top, err := filepath.Abs(root)
	require.NoError(t, err)
	require.NoError(t, os.Symlink(top, filepath.Join(dir, "skopeo-cfs")))
	for _, s := range []standIn{podman6, skopeo6, buildah6} {
		require.NoError(t, os.Rename(s.makeTree(t), filepath.Join(dir, s.project())))
	}
	require.NoError(t, fixtures.UnpackTo(dir, "sha512"))
	require.NoError(t, os.Rename(filepath.Join(dir, "sha512"), filepath.Join(dir, "repository")))
	before := listing(t, filepath.Join(dir, "podman"))
	conf := filepath.Join(dir, "storage.conf")
	write(t, conf, "[storage]\ndriver = \"overlay\"\ngraphroot = \""+dir+"/store\"\nrunroot = \""+dir+"/run\"\n")
	t.Cleanup(func() { _ = unix.Unmount(dir+"/store/overlay", unix.MNT_DETACH) })

	printed := map[string]string{}
	for _, command := range commandsIn(t, filepath.Join(top, "docs/linking.md")) {
		cmd := exec.Command("bash", "-c", command)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "CONTAINERS_STORAGE_CONF="+conf)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s: %s", command, out)
		printed[command] = string(out)
	}
	hello := fixtures.Expected(t)["hello"].Config.Encoded()
	assert.Equal(t, hello+"\n", printed["podman/bin/podman pull -q 'composefs:[repository]hello'"])
	assert.Equal(t, hello+" [localhost/hello:latest]\n", printed["podman/bin/podman images"])
	assert.Equal(t, hello+"\n", printed["buildah/bin/buildah from 'composefs:[repository]hello'"])
	assert.Empty(t, changed(before, listing(t, filepath.Join(dir, "podman"))), "--undo has restored the tree")
}

// commandsIn returns the commands in a document, a line each.
func commandsIn(t *testing.T, path string) []string {
	t.Helper()
	var commands []string
	inside := false
	for line := range strings.Lines(read(t, path)) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "```") {
			inside = line == "```console"
			continue
		}
		if command, ok := strings.CutPrefix(line, "$ "); ok && inside {
			commands = append(commands, command)
		}
	}
	require.NotEmpty(t, commands)
	return commands
}
