package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
)

// modulesTxt is vendor/modules.txt, which the go command compares with go.mod and
// finds packages in.
type modulesTxt struct {
	modules []*vendoredModule
	tail    []string // replacements, behind all modules
}

// vendoredModule is a module there.
type vendoredModule struct {
	module.Version
	replaced string   // what follows =>, "" where nothing does
	notes    []string // the lines that begin with ##
	packages []string
}

func parseModulesTxt(text string) (*modulesTxt, error) {
	m := &modulesTxt{}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case line == "":
			return nil, errors.New("vendor/modules.txt has an empty line")
		case strings.HasPrefix(line, "## "):
			if len(m.modules) == 0 || len(m.tail) > 0 {
				return nil, fmt.Errorf("vendor/modules.txt: %q belongs to no module", line)
			}
			last := m.modules[len(m.modules)-1]
			last.notes = append(last.notes, line)
		case strings.HasPrefix(line, "# "):
			is, replaced, _ := strings.Cut(strings.TrimPrefix(line, "# "), " => ")
			fields := strings.Fields(is)
			if len(fields) == 2 && semver.IsValid(fields[1]) && len(m.tail) == 0 {
				m.modules = append(m.modules, &vendoredModule{Version: module.Version{Path: fields[0], Version: fields[1]}, replaced: replaced})
				continue
			}
			if replaced == "" {
				return nil, fmt.Errorf("vendor/modules.txt: %q is not understood", line)
			}
			m.tail = append(m.tail, line)
		default:
			if len(m.modules) == 0 || len(m.tail) > 0 {
				return nil, fmt.Errorf("vendor/modules.txt: package %q belongs to no module", line)
			}
			last := m.modules[len(m.modules)-1]
			last.packages = append(last.packages, line)
		}
	}
	return m, nil
}

func (m *modulesTxt) String() string {
	var b strings.Builder
	for _, mod := range m.modules {
		fmt.Fprintf(&b, "# %s %s", mod.Path, mod.Version.Version)
		if mod.replaced != "" {
			fmt.Fprintf(&b, " => %s", mod.replaced)
		}
		b.WriteString("\n")
		for _, line := range append(slices.Clone(mod.notes), mod.packages...) {
			b.WriteString(line + "\n")
		}
	}
	for _, line := range m.tail {
		b.WriteString(line + "\n")
	}
	return b.String()
}

// find returns the module with a path, nil where there is none.
func (m *modulesTxt) find(path string) *vendoredModule {
	for _, mod := range m.modules {
		if mod.Path == path {
			return mod
		}
	}
	return nil
}

// add adds a module in its place.
func (m *modulesTxt) add(mod *vendoredModule) {
	m.modules = append(m.modules, mod)
	slices.SortStableFunc(m.modules, func(a, b *vendoredModule) int { return strings.Compare(a.Path, b.Path) })
}

// addPackage adds a package of a module in its place.
func (mod *vendoredModule) addPackage(pkg string) {
	if !slices.Contains(mod.packages, pkg) {
		mod.packages = append(mod.packages, pkg)
		slices.Sort(mod.packages)
	}
}
