package main

import (
	"bytes"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/semver"
)

// modFiles are the files with versions that the generated module has: go.mod, and
// newest.mod, which the command is built with (go build -modfile).
var modFiles = []string{"go.mod", "go.sum", "newest.mod", "newest.sum"}

// pinned returns the path without extension of the files of a release's versions
// that are kept in the tree, so that each build of a commit is the same.
func pinned(tree string, r release) string {
	return filepath.Join(tree, "internal/podmanio/versions", r.image)
}

// writeModFiles writes the kept versions to the module's directory, which has the
// sources, after a check that they are enough for the tree's go.mod.
func writeModFiles(tree, module string) error {
	asked, err := readMod(filepath.Join(tree, "go.mod"))
	if err != nil {
		return err
	}
	imported, err := importsBelow(module)
	if err != nil {
		return err
	}
	for name, r := range map[string]release{"go": oldest(), "newest": newest()} {
		kept, err := readMod(pinned(tree, r) + ".mod")
		if err != nil {
			return err
		}
		if err := enough(kept, asked, imported); err != nil {
			return fmt.Errorf("%s.mod: %w; go run ./internal/podmanio -update chooses versions anew", pinned(tree, r), err)
		}
		if err := copyModFiles(pinned(tree, r), filepath.Join(module, name)); err != nil {
			return err
		}
	}
	return nil
}

// copyModFiles copies a go.mod and its go.sum, whose paths are given without
// extension.
func copyModFiles(from, to string) error {
	for _, extension := range []string{".mod", ".sum"} {
		content, err := os.ReadFile(from + extension)
		if err != nil {
			return err
		}
		if err := writeFile(to+extension, content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func readMod(path string) (*modfile.File, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return modfile.Parse(path, content, nil)
}

// enough checks that a go.mod has, in no older version, every module that the
// tree's own asks for and that has one of the imported packages.
func enough(kept, asked *modfile.File, imported []string) error {
	versions := map[string]string{}
	for _, require := range kept.Require {
		versions[require.Mod.Path] = require.Mod.Version
	}
	for _, require := range asked.Require {
		provides := func(pkg string) bool { return isBelow(pkg, []string{require.Mod.Path}) }
		if !slices.ContainsFunc(imported, provides) {
			continue
		}
		version, ok := versions[require.Mod.Path]
		if !ok {
			return fmt.Errorf("it lacks %s, which go.mod asks for", require.Mod.Path)
		}
		if semver.Compare(version, require.Mod.Version) < 0 {
			return fmt.Errorf("it has %s %s, and go.mod asks for %s", require.Mod.Path, version, require.Mod.Version)
		}
	}
	return nil
}

// importsBelow returns the paths of all packages that Go files in a directory
// import.
func importsBelow(dir string) ([]string, error) {
	paths, err := walkFiles(dir)
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for _, path := range paths {
		if !strings.HasSuffix(path, ".go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(dir, path), nil, parser.ImportsOnly)
		if err != nil {
			return nil, err
		}
		for _, spec := range file.Imports {
			seen[strings.Trim(spec.Path.Value, "\"`")] = true
		}
	}
	return slices.Sorted(maps.Keys(seen)), nil
}

// resolve chooses versions for the generated module with a release of the
// libraries, and writes them to the file path.mod, their checksums to path.sum.
// The module's directory must have its sources.
func (r release) resolve(tree, module, path string) error {
	start, err := r.startingMod(tree)
	if err != nil {
		return err
	}
	sums, err := os.ReadFile(filepath.Join(tree, "go.sum"))
	if err != nil {
		return err
	}
	// The go command looks for the module's go.mod even when told to use another.
	own := filepath.Join(module, "go.mod")
	if _, err := os.Stat(own); errors.Is(err, os.ErrNotExist) {
		if err := writeFile(own, start, 0o644); err != nil {
			return err
		}
	}
	work, err := os.MkdirTemp("", "podmanio")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	chosen := filepath.Join(work, "chosen")
	if err := writeFile(chosen+".mod", start, 0o644); err != nil {
		return err
	}
	if err := writeFile(chosen+".sum", sums, 0o644); err != nil {
		return err
	}
	cmd := exec.Command("go", "mod", "tidy", "-modfile="+chosen+".mod")
	cmd.Dir = module
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go mod tidy: %w: %s", err, bytes.TrimSpace(out))
	}
	if err := r.isIn(chosen + ".mod"); err != nil {
		return err
	}
	return copyModFiles(chosen, path)
}

// startingMod returns the tree's go.mod with the module renamed and the libraries
// replaced. Tools are left out: the module's users would have to have at least
// the versions of what they are made of.
func (r release) startingMod(tree string) ([]byte, error) {
	mod, err := readMod(filepath.Join(tree, "go.mod"))
	if err != nil {
		return nil, err
	}
	if err := mod.AddModuleStmt(newModule); err != nil {
		return nil, err
	}
	for _, tool := range slices.Clone(mod.Tool) {
		if err := mod.DropTool(tool.Path); err != nil {
			return nil, err
		}
	}
	for _, require := range slices.Clone(mod.Require) {
		if rewritePath(require.Mod.Path) != require.Mod.Path {
			if err := mod.DropRequire(require.Mod.Path); err != nil {
				return nil, err
			}
		}
	}
	for path, version := range r.libraries() {
		if err := mod.AddRequire(path, version); err != nil {
			return nil, err
		}
	}
	mod.Cleanup()
	return mod.Format()
}

// isIn checks that a go.mod has the release's versions and not newer ones, which
// another dependency may have asked for.
func (r release) isIn(path string) error {
	mod, err := readMod(path)
	if err != nil {
		return err
	}
	got := map[string]string{}
	for _, require := range mod.Require {
		got[require.Mod.Path] = require.Mod.Version
	}
	for path, want := range r.libraries() {
		if got[path] != want {
			return fmt.Errorf("%s became %s, not %s", path, strings.TrimSpace(got[path]+" "), want)
		}
	}
	return nil
}
