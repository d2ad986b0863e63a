package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
)

// complete returns what a shell is told that the last word may be.
func complete(t *testing.T, words ...string) []string {
	t.Helper()
	got := runCommand(t, append([]string{"__completeNoDesc"}, words...)...)
	assert.Zero(t, got.code, got.stderr)
	lines := strings.Split(strings.TrimSuffix(got.stdout, "\n"), "\n")
	return lines[:len(lines)-1] // the last is for the shell
}

func TestCompletion(t *testing.T) {
	t.Parallel()
	repo := fixtures.Unpack(t, "sha256")
	assert.Contains(t, complete(t, "copy", ""), "composefs:")
	assert.Equal(t, []string{"docker://", "docker-archive:", "docker-daemon:"}, complete(t, "copy", "docker"))
	assert.Equal(t, []string{"composefs:[" + repo + "]quay.io/org/app:1.0"}, complete(t, "copy", "composefs:["+repo+"]q"))
	assert.Contains(t, complete(t, "copy", "--quiet", "composefs:["+repo+"]plain", "con"), "containers-storage:")
	assert.Empty(t, complete(t, "copy", "composefs:["+repo+"]plain", "dir:x", ""))
	assert.Empty(t, complete(t, "inspect", "composefs:["+t.TempDir()+"]"), "what is no repository has no tags")
	assert.Contains(t, complete(t, "copy", "--dest-comp"), "--dest-compress-format")
	for _, shell := range []string{"bash", "zsh", "fish"} {
		runCommand(t, "completion", shell).requireSuccess(t)
	}
}

// Images that are looked into are completed without the transport, too, and so are
// the paths and layers in them.
func TestCompletionInside(t *testing.T) {
	t.Parallel()
	repo := fixtures.Unpack(t, "sha256")
	hello := "[" + repo + "]hello"
	assert.Equal(t, []string{"[" + repo + "]quay.io/org/app:1.0"}, complete(t, "files", "["+repo+"]q"))
	assert.Equal(t, []string{"composefs:[" + repo + "]quay.io/org/app:1.0"}, complete(t, "files", "composefs:["+repo+"]q"))
	assert.Equal(t, []string{"composefs:"}, complete(t, "files", "comp"))
	assert.Equal(t, []string{"/usr/", "/var/"}, append(complete(t, "cat", hello, "/u"), complete(t, "cat", hello, "/v")...))
	assert.Equal(t, []string{"usr/share/doc/new"}, complete(t, "extract", hello, "usr/share/doc/"))
	assert.Empty(t, complete(t, "files", hello, "nowhere/"))
	assert.Equal(t, []string{"1", "2", "3"}, complete(t, "layer", "cat", hello, "")[:3])
	assert.Len(t, complete(t, "layer", "files", "composefs:"+hello, "sha256:"), 3)
}
