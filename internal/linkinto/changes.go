package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// content is what a regular file has.
type content struct {
	Data []byte      `json:"data"`
	Mode fs.FileMode `json:"mode"`
}

func (c *content) equal(other *content) bool {
	if c == nil || other == nil {
		return c == other
	}
	return c.Mode == other.Mode && bytes.Equal(c.Data, other.Data)
}

// readContent returns what a file has, nil where there is none.
func readContent(path string) (*content, error) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	data, err := os.ReadFile(path)
	return &content{data, info.Mode().Perm()}, err
}

// change is what becomes of a file; nil where there is none.
type change struct{ before, after *content }

// changeSet are the changes of a tree, by path relative to its top, with slashes.
type changeSet map[string]change

func (c changeSet) paths() []string { return slices.Sorted(maps.Keys(c)) }

// replace notes another content for a file of the tree that is there, or that a
// change before makes.
func (c changeSet) replace(dir, path string, data []byte) error {
	ch, ok := c[path]
	if !ok {
		before, err := readContent(filepath.Join(dir, path))
		if err != nil {
			return err
		}
		ch = change{before, before}
	}
	mode := fs.FileMode(0o644)
	if ch.after != nil {
		mode = ch.after.Mode
	}
	ch.after = &content{data, mode}
	c[path] = ch
	return nil
}

// read returns what a file will have.
func (c changeSet) read(dir, path string) ([]byte, error) {
	if ch, ok := c[path]; ok && ch.after != nil {
		return ch.after.Data, nil
	}
	return os.ReadFile(filepath.Join(dir, path))
}

// describe prints the changes as a diff; of files that are added below vendor,
// only the names.
func (c changeSet) describe(w io.Writer) error {
	for _, name := range c.paths() {
		ch := c[name]
		if ch.before == nil && isBelow(name, "vendor") {
			if _, err := fmt.Fprintf(w, "new file %s, %d bytes\n", name, len(ch.after.Data)); err != nil {
				return err
			}
			continue
		}
		if err := ch.diff(w, name); err != nil {
			return err
		}
	}
	return nil
}

func isBelow(name, dir string) bool {
	for ; name != "." && name != "/"; name = path.Dir(name) {
		if name == dir {
			return true
		}
	}
	return false
}

// diff prints a change as diff -u does.
func (c change) diff(w io.Writer, name string) error {
	work, err := os.MkdirTemp("", "link-into")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	args := []string{"-u"}
	for side, is := range map[string]*content{"a": c.before, "b": c.after} {
		var data []byte
		if is != nil {
			data = is.Data
		}
		if err := os.WriteFile(filepath.Join(work, side), data, 0o600); err != nil {
			return err
		}
	}
	for side, is := range [2]*content{c.before, c.after} {
		label := []string{"a/", "b/"}[side] + name
		if is == nil {
			label = os.DevNull
		}
		args = append(args, "--label", label)
	}
	cmd := exec.Command("diff", append(args, filepath.Join(work, "a"), filepath.Join(work, "b"))...)
	cmd.Stdout = w
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !(errors.As(err, &exit) && exit.ExitCode() == 1) {
		return fmt.Errorf("diff: %w", err)
	}
	return nil
}

// put makes a file what it is to be, and the directories above it.
func put(dir, name string, c *content) error {
	file := filepath.Join(dir, name)
	if c == nil {
		return os.Remove(file)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	temp, err := os.CreateTemp(filepath.Dir(file), ".link-into")
	if err != nil {
		return err
	}
	_, err = temp.Write(c.Data)
	if err = errors.Join(err, temp.Chmod(c.Mode), temp.Close()); err == nil {
		err = os.Rename(temp.Name(), file)
	}
	if err != nil {
		os.Remove(temp.Name())
	}
	return err
}
