package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// stateFile is the name of the file in a linked tree that says how to restore it.
const stateFile = ".link-into.json"

// state is what is in the file.
type state struct {
	Files map[string]fileState `json:"files"` // by path
	Dirs  []string             `json:"dirs"`  // those that are made
}

// fileState is a changed file.
type fileState struct {
	Before *content `json:"before"` // what it had, null where it was not there
	After  string   `json:"after"`  // mode and digest of what it has; "" where it is gone
}

// fingerprint tells contents apart.
func (c *content) fingerprint() string {
	if c == nil {
		return ""
	}
	sum := sha256.Sum256(c.Data)
	return fmt.Sprintf("%03o %s", c.Mode, hex.EncodeToString(sum[:]))
}

// apply makes the changes: all of them, or none. The state file is written first,
// so that a tree can be restored from which the program was torn away.
func (c changeSet) apply(dir string) error {
	s := state{Files: map[string]fileState{}}
	for _, name := range c.paths() {
		s.Files[name] = fileState{c[name].before, c[name].after.fingerprint()}
		for parent := path.Dir(name); parent != "."; parent = path.Dir(parent) {
			if _, err := os.Lstat(filepath.Join(dir, parent)); err == nil {
				break
			}
			if !slices.Contains(s.Dirs, parent) {
				s.Dirs = append(s.Dirs, parent)
			}
		}
	}
	data, err := json.MarshalIndent(s, "", "\t")
	if err != nil {
		return err
	}
	if err := put(dir, stateFile, &content{append(data, '\n'), 0o644}); err != nil {
		return fmt.Errorf("noting how to restore the tree: %w", err)
	}
	for _, name := range c.paths() {
		if err := put(dir, name, c[name].after); err != nil {
			err = fmt.Errorf("changing %s: %w", name, err)
			return errors.Join(err, s.restore(dir))
		}
	}
	return nil
}

// undo restores a tree. It refuses where a file was changed since.
func undo(dir string, dryRun bool, stdout io.Writer) error {
	data, err := os.ReadFile(filepath.Join(dir, stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: there is nothing to undo: it has no %s", dir, stateFile)
	}
	if err != nil {
		return err
	}
	var s state
	if err := json.Unmarshal(data, &s); err != nil {
		return fmt.Errorf("reading %s: %w", filepath.Join(dir, stateFile), err)
	}
	changes := changeSet{}
	var changed []string
	for name, file := range s.Files {
		if !filepath.IsLocal(name) {
			return fmt.Errorf("reading %s: %q is outside of the tree", filepath.Join(dir, stateFile), name)
		}
		is, err := readContent(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		switch is.fingerprint() {
		case file.Before.fingerprint():
		case file.After:
			changes[name] = change{is, file.Before}
		default:
			changed = append(changed, name)
		}
	}
	if len(changed) > 0 {
		slices.Sort(changed)
		return fmt.Errorf("%s: these files were changed since: %s; nothing was undone", dir, strings.Join(changed, ", "))
	}
	if err := changes.describeUndo(stdout); err != nil || dryRun {
		return err
	}
	return s.restore(dir)
}

// describeUndo prints what is restored.
func (c changeSet) describeUndo(w io.Writer) error {
	for _, name := range c.paths() {
		done := "restored"
		if c[name].after == nil {
			done = "removed"
		}
		if _, err := fmt.Fprintln(w, done, name); err != nil {
			return err
		}
	}
	return nil
}

// restore makes all files what they were, and removes the directories that were
// made and, at last, the state file.
func (s *state) restore(dir string) error {
	var failed []error
	for name, file := range s.Files {
		is, err := readContent(filepath.Join(dir, name))
		if err == nil && !is.equal(file.Before) {
			err = put(dir, name, file.Before)
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("restoring %s: %w", name, err))
		}
	}
	if len(failed) > 0 {
		return errors.Join(failed...)
	}
	slices.SortFunc(s.Dirs, func(a, b string) int { return len(b) - len(a) }) // the deepest first
	for _, name := range s.Dirs {
		if !filepath.IsLocal(name) {
			continue
		}
		// One that was not made yet, or that has something else in it by now, is
		// not ours to remove.
		_ = os.Remove(filepath.Join(dir, name))
	}
	return os.Remove(filepath.Join(dir, stateFile))
}
