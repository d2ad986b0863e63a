package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/mod/modfile"
)

// resolve has the go command find out what go.mod, go.sum and vendor become, in a
// copy of the tree: where the tree has no vendor directory, or older modules than
// the linked one needs.
func (t *tree) resolve(changes changeSet, m *linked) error {
	for _, replace := range t.mod.Replace {
		if modfile.IsDirectoryPath(replace.New.Path) && !filepath.IsAbs(replace.New.Path) {
			return fmt.Errorf("go.mod replaces %s by the directory %s, which link-into does not look into", replace.Old.Path, replace.New.Path)
		}
	}
	work, err := os.MkdirTemp("", "link-into")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	if err := t.copyTo(work); err != nil {
		return fmt.Errorf("copying the tree: %w", err)
	}
	mod, err := t.editMod(m, nil)
	if err != nil {
		return err
	}
	results := []string{"go.mod", "go.sum"}
	if err := os.WriteFile(filepath.Join(work, "go.mod"), mod, 0o644); err != nil {
		return err
	}
	for name, ch := range changes {
		if err := put(work, name, ch.after); err != nil {
			return err
		}
	}
	if err := goCommand(work, "list", "-deps", "./"+t.mainDir()); err != nil { // adjusts go.mod
		return err
	}
	if t.vendored {
		if err := goCommand(work, "mod", "vendor"); err != nil {
			return err
		}
		results = append(results, "vendor")
	}
	for _, name := range results {
		if err := changes.takeOver(t.dir, work, name); err != nil {
			return err
		}
	}
	return nil
}

// copyTo copies the tree's files, without those that git or the go command made.
func (t *tree) copyTo(work string) error {
	return filepath.WalkDir(t.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(t.dir, path)
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if rel == "vendor" || rel == ".git" {
				return filepath.SkipDir
			}
			return os.MkdirAll(filepath.Join(work, rel), 0o755)
		}
		if !entry.Type().IsRegular() {
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(work, rel), data, 0o644)
	})
}

// goCommand runs the go command in a directory: with the module cache alone, or
// where that lacks something, with wherever it gets modules from.
func goCommand(dir string, args ...string) error {
	var failed error
	for _, env := range [][]string{{"GOPROXY=off"}, nil} {
		cmd := exec.Command("go", args...)
		cmd.Dir = dir
		cmd.Env = append(append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off"), env...)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		err := cmd.Run()
		if err == nil {
			return nil
		}
		failed = fmt.Errorf("go %s: %w: %s", args[0], err, bytes.TrimSpace(stderr.Bytes()))
	}
	return failed
}

// takeOver notes what is at a path of another directory, a file or a directory,
// as what becomes of that in the tree.
func (c changeSet) takeOver(dir, from, name string) error {
	become := map[string]*content{}
	for i, top := range []string{from, dir} {
		err := filepath.WalkDir(filepath.Join(top, name), func(path string, entry fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) || err == nil && entry.IsDir() {
				return nil
			}
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(top, path)
			if err != nil {
				return err
			}
			is, err := readContent(path)
			if err != nil {
				return err
			}
			if i == 0 {
				become[rel] = is
			} else if want, ok := become[rel]; !ok || !bytes.Equal(want.Data, is.Data) {
				if ok {
					want.Mode = is.Mode
				}
				c[filepath.ToSlash(rel)] = change{is, want}
				delete(become, rel)
			} else {
				delete(become, rel)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	for rel, is := range become {
		is.Mode = 0o644
		c[filepath.ToSlash(rel)] = change{nil, is}
	}
	return nil
}
