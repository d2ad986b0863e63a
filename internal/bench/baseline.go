package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime/debug"
)

// buildRevision builds the skopeo-cfs of a commit, from a work tree below dir that
// it removes again, and returns its path.
func buildRevision(ctx context.Context, revision, dir string) (path string, err error) {
	say("building the skopeo-cfs of commit %s", revision)
	tree := filepath.Join(dir, "baseline")
	if err := runQuietly(ctx, "", "git", "worktree", "add", "--detach", tree, revision); err != nil {
		return "", err
	}
	defer func() {
		// The user may have had enough, but this is to go.
		err = errors.Join(err, runQuietly(context.WithoutCancel(ctx), "", "git", "worktree", "remove", "--force", tree))
	}()
	path = filepath.Join(dir, "skopeo-cfs-before")
	return path, runQuietly(ctx, tree, "go", "build", "-tags", buildTags(), "-o", path, "./cmd/skopeo-cfs")
}

// buildTags returns the tags that this program was built with.
func buildTags() string {
	info, _ := debug.ReadBuildInfo()
	if info != nil {
		for _, s := range info.Settings {
			if s.Key == "-tags" {
				return s.Value
			}
		}
	}
	return ""
}

// runQuietly runs a command, whose output is of interest if it fails.
func runQuietly(ctx context.Context, dir, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", cmd, err, bytes.TrimSpace(out))
	}
	return nil
}
