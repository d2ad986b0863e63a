package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
)

// policyFile writes a policy with one requirement for a composefs scope and
// another for everything else.
func policyFile(t testing.TB, scope, requirement, otherwise string) string {
	t.Helper()
	type requirements []map[string]string
	data, err := json.Marshal(map[string]any{
		"default":    requirements{{"type": otherwise}},
		"transports": map[string]any{"composefs": map[string]requirements{scope: {{"type": requirement}}}},
	})
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "policy.json")
	require.NoError(t, os.WriteFile(file, data, 0o644))
	return file
}

// A policy accepts and rejects an image whichever way its name was typed.
func TestPolicyIsObeyed(t *testing.T) {
	t.Parallel()
	repo := fixtures.Unpack(t, "sha256")
	link := filepath.Join(t.TempDir(), "link")
	require.NoError(t, os.Symlink(repo, link))
	scopes := map[string]string{"the tag": repo + ":localhost/hello:latest", "the repository": repo}
	for scopeName, scope := range scopes {
		accepting := policyFile(t, scope, "insecureAcceptAnything", "reject")
		rejecting := policyFile(t, scope, "reject", "insecureAcceptAnything")
		for name, typed := range map[string]string{
			"in full":      "[" + repo + "]localhost/hello:latest",
			"short":        "[" + repo + "]hello",
			"by a link":    "[" + link + "]hello:latest",
			"relative":     "[sha256]hello",
			"the long way": "[" + repo + "/../sha256/.]localhost/hello",
		} {
			t.Run(scopeName+"/"+name, func(t *testing.T) {
				for policy, accepted := range map[string]bool{accepting: true, rejecting: false} {
					dir := t.TempDir()
					c := newCommand(t, "copy", "--policy", policy, "composefs:"+typed, "dir:"+filepath.Join(dir, "image"))
					c.Dir = filepath.Dir(repo)
					got := c.run(t)
					if accepted {
						got.requireSuccess(t)
						continue
					}
					got.assertFailure(t, "rejected by policy", "["+repo+"]localhost/hello:latest")
					assert.Empty(t, namesIn(t, dir))
					assert.NotContains(t, got.stdout, "Copying blob")
				}
			})
		}
	}
}

func TestPolicyThatCantBeRead(t *testing.T) {
	repo, none := fixtures.Unpack(t, "sha256"), filepath.Join(t.TempDir(), "none")
	dir := t.TempDir()
	from, to := "composefs:["+repo+"]hello", "dir:"+filepath.Join(dir, "image")
	runCommand(t, "copy", "--policy", none, from, to).assertFailure(t, none, "--policy", "--insecure-policy")
	bad := policyFile(t, "relative/path", "reject", "reject")
	runCommand(t, "copy", "--policy", bad, from, to).assertFailure(t, "trust policy", "relative/path")
	assert.Empty(t, namesIn(t, dir))
}
