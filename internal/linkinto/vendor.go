package main

import (
	"bytes"
	"errors"
	"fmt"
	"go/build/constraint"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
)

// errOlder: a tree has an older version of a module than the linked one needs.
var errOlder = errors.New("the tree has an older version")

// vendoring copies packages to a tree's vendor directory, as go mod vendor does
// it, but none that are there already: so nothing of the tree's own changes, and
// their modules need not be in the module cache.
type vendoring struct {
	tree    *tree
	linked  *linked
	changes changeSet
	txt     *modulesTxt
	added   map[string]*source // modules that packages are copied from, by path
	needed  map[string]string  // versions that the linked module asks for, by path
	sums    []byte             // go.sum of both
	queue   []string           // import paths
	seen    map[string]bool
}

// source is where a module's files are.
type source struct {
	dir  string
	sums []string
	mod  *modfile.File // nil where it has no go.mod
}

// vendor adds packages, and what they import, to vendor. It returns the modules
// that come in by that, other than the linked one.
func (t *tree) vendor(changes changeSet, m *linked, packages []string) ([]module.Version, []string, error) {
	text, err := os.ReadFile(filepath.Join(t.dir, "vendor/modules.txt"))
	if err != nil {
		return nil, nil, err
	}
	v := &vendoring{tree: t, linked: m, changes: changes, added: map[string]*source{m.path: {dir: m.dir}},
		needed: m.requires(), queue: packages, seen: map[string]bool{}}
	if v.txt, err = parseModulesTxt(string(text)); err != nil {
		return nil, nil, err
	}
	for _, dir := range []string{t.dir, m.dir} {
		sums, err := os.ReadFile(filepath.Join(dir, "go.sum"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, nil, err
		}
		v.sums = append(v.sums, sums...)
	}
	before := map[string]bool{m.path: true}
	for _, mod := range v.txt.modules {
		before[mod.Path] = true
	}
	v.addLinked()
	for len(v.queue) > 0 {
		pkg := v.queue[0]
		v.queue = v.queue[1:]
		if err := v.addPackage(pkg); err != nil {
			return nil, nil, fmt.Errorf("adding package %s to vendor: %w", pkg, err)
		}
	}
	var modules []module.Version
	var sums []string
	for _, mod := range v.txt.modules {
		if !before[mod.Path] {
			modules = append(modules, mod.Version)
			sums = append(sums, v.added[mod.Path].sums...)
		}
	}
	return modules, sums, changes.replace(t.dir, "vendor/modules.txt", []byte(v.txt.String()))
}

// addLinked adds the linked module to modules.txt.
func (v *vendoring) addLinked() {
	mod := &vendoredModule{Version: module.Version{Path: v.linked.path, Version: v.linked.version}, notes: explicit(v.linked.mod)}
	if v.linked.local {
		mod.replaced = v.linked.dir
		v.txt.tail = append(v.txt.tail, "# "+v.linked.path+" => "+v.linked.dir)
	}
	v.txt.add(mod)
}

// explicit returns what modules.txt has of a module that go.mod asks for.
func explicit(mod *modfile.File) []string {
	if mod == nil || mod.Go == nil {
		return []string{"## explicit"}
	}
	return []string{"## explicit; go " + mod.Go.Version}
}

// addPackage copies a package, unless it is there or is Go's own, and queues what
// it imports.
func (v *vendoring) addPackage(pkg string) error {
	if v.seen[pkg] || isStandard(pkg) {
		return nil
	}
	v.seen[pkg] = true
	mod, err := v.moduleOf(pkg)
	if err != nil {
		return err
	}
	if mod.Path == v.tree.mod.Module.Mod.Path {
		return nil
	}
	if slices.Contains(mod.packages, pkg) {
		return nil
	}
	src, err := v.source(mod)
	if err != nil {
		return err
	}
	rel := strings.TrimPrefix(strings.TrimPrefix(pkg, mod.Path), "/")
	imports, err := v.copyPackage(filepath.Join(src.dir, rel), "vendor/"+pkg)
	if err != nil {
		return err
	}
	if err := v.copyLegal(src.dir, rel, mod.Path); err != nil {
		return err
	}
	mod.addPackage(pkg)
	v.queue = append(v.queue, imports...)
	return nil
}

// isStandard tells whether a package is of Go's standard library.
func isStandard(pkg string) bool {
	first, _, _ := strings.Cut(pkg, "/")
	return !strings.Contains(first, ".")
}

// moduleOf returns the module that has a package: the one with the longest path
// that is the beginning of the package's. It is added to modules.txt where it is
// not there.
func (v *vendoring) moduleOf(pkg string) (*vendoredModule, error) {
	for prefix := pkg; prefix != "."; prefix = path.Dir(prefix) {
		if prefix == v.linked.path {
			return v.txt.find(prefix), nil
		}
		want, asked := v.needed[prefix]
		mod := v.txt.find(prefix)
		if mod == nil && asked {
			mod = &vendoredModule{Version: module.Version{Path: prefix, Version: want}}
			v.txt.add(mod)
			return mod, nil
		}
		if mod != nil {
			if asked && mod.replaced == "" && semver.Compare(mod.Version.Version, want) < 0 {
				return nil, fmt.Errorf("%w of %s: %s, where %s is needed", errOlder, prefix, mod.Version.Version, want)
			}
			return mod, nil
		}
	}
	return nil, errors.New("no module is known that has it")
}

// source finds a module's files, and notes in modules.txt what is not there yet
// of the module.
func (v *vendoring) source(mod *vendoredModule) (*source, error) {
	if src, ok := v.added[mod.Path]; ok {
		return src, nil
	}
	want := mod.Version
	if mod.replaced != "" {
		fields := strings.Fields(mod.replaced)
		if len(fields) != 2 {
			return nil, fmt.Errorf("it is of module %s, which is replaced by a directory", mod.Path)
		}
		want = module.Version{Path: fields[0], Version: fields[1]}
	}
	d, err := downloadVersion(want, v.sums)
	if err != nil {
		return nil, err
	}
	src := &source{dir: d.Dir, sums: d.sums()}
	text, err := os.ReadFile(filepath.Join(d.Dir, "go.mod"))
	if err == nil {
		src.mod, err = modfile.ParseLax("go.mod", text, nil)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if len(mod.notes) == 0 {
		mod.notes = explicit(src.mod)
	}
	v.added[mod.Path] = src
	return src, nil
}

// copyPackage copies the files of a package to a directory of the tree and
// returns what they import.
func (v *vendoring) copyPackage(from, to string) ([]string, error) {
	entries, err := os.ReadDir(from)
	if err != nil {
		return nil, err
	}
	imports := map[string]bool{}
	for _, entry := range entries {
		name := entry.Name()
		if !entry.Type().IsRegular() || strings.HasSuffix(name, "_test.go") || name == "go.mod" || name == "go.sum" {
			continue
		}
		data, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			return nil, err
		}
		if strings.HasSuffix(name, ".go") {
			if !built(data) {
				continue
			}
			if err := collectImports(name, data, imports); err != nil {
				return nil, err
			}
		}
		if err := v.changes.replace(v.tree.dir, to+"/"+name, data); err != nil {
			return nil, err
		}
	}
	return slices.Sorted(maps.Keys(imports)), nil
}

// collectImports adds what a Go file imports, unless the go command ignores the
// file for its name.
func collectImports(name string, data []byte, imports map[string]bool) error {
	if strings.HasPrefix(name, "_") || strings.HasPrefix(name, ".") {
		return nil
	}
	file, err := parser.ParseFile(token.NewFileSet(), name, data, parser.ImportsOnly|parser.ParseComments)
	if err != nil {
		return err
	}
	if bytes.Contains(data, []byte("\n//go:embed ")) {
		return fmt.Errorf("%s embeds files, which link-into does not copy", name)
	}
	for _, spec := range file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return err
		}
		if imported != "C" {
			imports[imported] = true
		}
	}
	return nil
}

// built tells whether a Go file is part of its package with some build tags, and
// not with the tag ignore alone.
func built(source []byte) bool {
	for line := range bytes.Lines(source) {
		line := strings.TrimSpace(string(line))
		if strings.HasPrefix(line, "package ") {
			break
		}
		if !constraint.IsGoBuild(line) {
			continue
		}
		expr, err := constraint.Parse(line)
		return err != nil || possible(expr, true)
	}
	return true
}

// possible tells whether an expression may become what is wanted, where each tag
// but ignore may be set and not set at once, as go mod vendor sees it.
func possible(expr constraint.Expr, want bool) bool {
	switch x := expr.(type) {
	case *constraint.NotExpr:
		return !possible(x.X, !want)
	case *constraint.AndExpr:
		return possible(x.X, want) && possible(x.Y, want)
	case *constraint.OrExpr:
		return possible(x.X, want) || possible(x.Y, want)
	case *constraint.TagExpr:
		return x.Tag != "ignore" && want
	}
	return true
}

// legal are the beginnings of the names of files that go with every copy.
var legal = []string{"AUTHORS", "CONTRIBUTORS", "COPYLEFT", "COPYING", "COPYRIGHT", "LEGAL", "LICENSE", "NOTICE", "PATENTS"}

// copyLegal copies the licenses of a package, from its directory, relative to the
// module's, and those above.
func (v *vendoring) copyLegal(moduleDir, rel, modulePath string) error {
	for ; ; rel = path.Dir(rel) {
		if rel == "" {
			rel = "."
		}
		entries, err := os.ReadDir(filepath.Join(moduleDir, rel))
		if err != nil {
			return err
		}
		for _, entry := range entries {
			name := entry.Name()
			if !entry.Type().IsRegular() || !slices.ContainsFunc(legal, func(l string) bool { return strings.HasPrefix(name, l) }) {
				continue
			}
			data, err := os.ReadFile(filepath.Join(moduleDir, rel, name))
			if err != nil {
				return err
			}
			to := path.Join("vendor", modulePath, rel, name)
			if err := v.changes.replace(v.tree.dir, to, data); err != nil {
				return err
			}
		}
		if rel == "." {
			return nil
		}
	}
}
