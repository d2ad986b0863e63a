package main

import (
	"errors"
	"go/version"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
)

// addModule adds the module to go.mod and go.sum, and packages of it, with what
// they import, to vendor where the tree has that.
func (t *tree) addModule(changes changeSet, m *linked, packages []string) error {
	if !t.vendored {
		return t.resolve(changes, m)
	}
	added := changeSet{}
	others, sums, err := t.vendor(added, m, packages)
	if errors.Is(err, errOlder) {
		return t.resolve(changes, m)
	}
	if err != nil {
		return err
	}
	mod, err := t.editMod(m, others)
	if err != nil {
		return err
	}
	if err := added.replace(t.dir, "go.mod", mod); err != nil {
		return err
	}
	if err := t.addSums(added, append(sums, m.sums...)); err != nil {
		return err
	}
	for name, ch := range added {
		changes[name] = ch
	}
	return nil
}

// editMod returns the tree's go.mod with the module in it, and others that come
// in with it. The tree's Go version becomes the module's where that is later, as
// the go command demands it.
func (t *tree) editMod(m *linked, others []module.Version) ([]byte, error) {
	mod, err := modfile.Parse("go.mod", t.modText, nil)
	if err != nil {
		return nil, err
	}
	requires := slices.Clone(mod.Require)
	requires = append(requires, &modfile.Require{Mod: module.Version{Path: m.path, Version: m.version}})
	for _, other := range others {
		requires = append(requires, &modfile.Require{Mod: other, Indirect: true})
	}
	mod.SetRequireSeparateIndirect(requires)
	if m.local {
		if err := mod.AddReplace(m.path, "", m.dir, ""); err != nil {
			return nil, err
		}
	}
	if m.mod.Go != nil && (mod.Go == nil || version.Compare("go"+mod.Go.Version, "go"+m.mod.Go.Version) < 0) {
		if err := mod.AddGoStmt(m.mod.Go.Version); err != nil {
			return nil, err
		}
		if mod.Toolchain != nil && version.Compare(mod.Toolchain.Name, "go"+m.mod.Go.Version) <= 0 {
			mod.DropToolchainStmt()
		}
	}
	mod.Cleanup()
	return mod.Format()
}

// addSums adds lines to go.sum.
func (t *tree) addSums(changes changeSet, lines []string) error {
	if len(lines) == 0 {
		return nil
	}
	text, err := os.ReadFile(filepath.Join(t.dir, "go.sum"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var all []string
	for line := range strings.Lines(string(text)) {
		all = append(all, strings.TrimSuffix(line, "\n")+"\n")
	}
	for _, line := range lines {
		if !slices.Contains(all, line+"\n") {
			all = append(all, line+"\n")
		}
	}
	slices.SortStableFunc(all, func(a, b string) int {
		mods := []module.Version{moduleOfSum(a), moduleOfSum(b)}
		if mods[0] == mods[1] {
			return 0
		}
		first := mods[0]
		module.Sort(mods)
		if mods[0] == first {
			return -1
		}
		return 1
	})
	return changes.replace(t.dir, "go.sum", []byte(strings.Join(all, "")))
}

// moduleOfSum returns what a line of go.sum is the checksum of.
func moduleOfSum(line string) module.Version {
	fields := append(strings.Fields(line), "", "")
	return module.Version{Path: fields[0], Version: fields[1]}
}
