// Package needs skips tests that can't run on this machine. In the gate, which
// installs every tool, a test fails if a tool is missing.
package needs

import (
	"os"
	"os/exec"
	"testing"
)

// Root skips a test that is not run by root.
func Root(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
}

// Tool skips a test if one of the programs is not installed.
func Tool(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err == nil {
			continue
		}
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is not installed", name)
		}
		t.Skipf("needs %s", name)
	}
}
