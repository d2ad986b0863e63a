package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// notCopied are files and directories of the tree that are no part of the
// generated module: its own go.mod replaces them, or they make or use both
// modules.
var notCopied = []string{".ci", "go.mod", "go.sum", "internal/podmanio", "internal/linkinto", "hack/link-into"}

// ignored are what a build leaves in the tree. Only where the tree is not a git
// repository is this list asked; git knows from .gitignore.
var ignored = []string{"bin", "build", "demo/out"}

// listFiles returns the paths of the tree's files, with slashes, sorted: those
// that git tracks or would, or all where the tree is not a git repository.
func listFiles(tree string) ([]string, error) {
	paths, err := gitFiles(tree)
	if err != nil {
		if paths, err = walkFiles(tree); err != nil {
			return nil, err
		}
	}
	paths = slices.DeleteFunc(paths, func(path string) bool { return isBelow(path, notCopied) })
	slices.Sort(paths)
	return paths, nil
}

// gitFiles fails where the tree is not the top of a git repository, or where
// there is no git.
func gitFiles(tree string) ([]string, error) {
	if _, err := os.Lstat(filepath.Join(tree, ".git")); err != nil {
		return nil, err
	}
	cmd := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	cmd.Dir = tree
	out, err := cmd.Output()
	if err != nil {
		return nil, err
	}
	var paths []string
	for path := range bytes.SplitSeq(bytes.TrimSuffix(out, []byte{0}), []byte{0}) {
		// A file that is tracked may have been removed from the tree.
		if _, err := os.Lstat(filepath.Join(tree, string(path))); err == nil {
			paths = append(paths, string(path))
		}
	}
	return paths, nil
}

func walkFiles(tree string) ([]string, error) {
	var paths []string
	err := filepath.WalkDir(tree, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		path, err = filepath.Rel(tree, path)
		if err != nil {
			return err
		}
		if path == ".git" { // a directory, or in a worktree a file
			if entry.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		if entry.IsDir() {
			if slices.Contains(ignored, filepath.ToSlash(path)) {
				return filepath.SkipDir
			}
			return nil
		}
		paths = append(paths, filepath.ToSlash(path))
		return nil
	})
	return paths, err
}

// isBelow tells whether a path is one of others or below one.
func isBelow(path string, others []string) bool {
	return slices.ContainsFunc(others, func(other string) bool {
		return path == other || strings.HasPrefix(path, other+"/")
	})
}

// writeSources writes the tree's files to the module's directory, rewritten, and
// removes from there what is not in the tree. Files that are as they have to be
// are not written again: the go command takes test results from its cache where
// no file has a new time.
func writeSources(tree, module string) error {
	paths, err := listFiles(tree)
	if err != nil {
		return err
	}
	for _, path := range paths {
		if err := writeSource(filepath.Join(tree, path), filepath.Join(module, path), path); err != nil {
			return err
		}
	}
	return removeOthers(module, append(paths, modFiles...))
}

func writeSource(from, to, path string) error {
	info, err := os.Lstat(from)
	if err != nil {
		return err
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		return copySymlink(from, to)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is neither a file nor a symlink", from)
	}
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if content, err = rewrite(path, content); err != nil {
		return fmt.Errorf("rewriting %s: %w", path, err)
	}
	return writeFile(to, content, info.Mode().Perm())
}

func copySymlink(from, to string) error {
	target, err := os.Readlink(from)
	if err != nil {
		return err
	}
	if is, err := os.Readlink(to); err == nil && is == target {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	return os.Symlink(target, to)
}

// writeFile writes a file, and the directories above it, unless it is there with
// this content and mode.
func writeFile(path string, content []byte, mode fs.FileMode) error {
	if info, err := os.Lstat(path); err == nil && info.Mode() == mode {
		if is, err := os.ReadFile(path); err == nil && bytes.Equal(is, content) {
			return nil
		}
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	if err := os.WriteFile(path, content, mode); err != nil {
		return err
	}
	return os.Chmod(path, mode) // whatever the umask
}

// removeOthers removes files from the module's directory that are not in a list,
// and directories that are empty then. It keeps what git ignores there.
func removeOthers(module string, keep []string) error {
	keptFiles := map[string]bool{}
	for _, path := range keep {
		keptFiles[path] = true
	}
	there, err := walkFiles(module)
	if err != nil {
		return err
	}
	for _, path := range there {
		if keptFiles[path] {
			continue
		}
		if err := os.Remove(filepath.Join(module, path)); err != nil {
			return err
		}
		for dir := filepath.Dir(path); dir != "."; dir = filepath.Dir(dir) {
			if os.Remove(filepath.Join(module, dir)) != nil {
				break // something else is in it
			}
		}
	}
	return nil
}
