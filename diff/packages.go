package diff

import (
	"cmp"
	"slices"

	"github.com/skopeo-cfs/skopeo-cfs/packages"
)

// Packages is how the installed packages differ. Each list is sorted by name,
// architecture and version.
//
// A package is upgraded or downgraded where both images have one version of it. Where
// one of them has several, as of kernels, versions are added and removed.
type Packages struct {
	Upgraded   []PackageChange    `json:"upgraded"`
	Downgraded []PackageChange    `json:"downgraded"`
	Removed    []packages.Package `json:"removed"`
	Added      []packages.Package `json:"added"`
}

// PackageChange is a package of another version.
type PackageChange struct {
	Old packages.Package `json:"old"`
	New packages.Package `json:"new"`

	severalArchs bool // there are others of the name
}

// Equal tells whether no package differs.
func (p *Packages) Equal() bool {
	return len(p.Upgraded)+len(p.Downgraded)+len(p.Removed)+len(p.Added) == 0
}

// comparePackages compares two sorted lists.
func comparePackages(old, new []packages.Package) *Packages {
	p := &Packages{Upgraded: []PackageChange{}, Downgraded: []PackageChange{}, Removed: []packages.Package{}, Added: []packages.Package{}}
	before, after := byName(old), byName(new)
	for i, j := 0, 0; i < len(before) || j < len(after); {
		switch order := compareNames(before, after, i, j); {
		case order < 0:
			p.Removed = append(p.Removed, before[i]...)
			i++
		case order > 0:
			p.Added = append(p.Added, after[j]...)
			j++
		default:
			p.compareName(before[i], after[j])
			i, j = i+1, j+1
		}
	}
	return p
}

// byName returns the packages of each name and kind.
func byName(all []packages.Package) (groups [][]packages.Package) {
	all = slices.Clone(all)
	slices.SortFunc(all, func(a, b packages.Package) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Arch, b.Arch), cmp.Compare(a.Version, b.Version))
	})
	for i, p := range all {
		if i == 0 || p.Name != all[i-1].Name || p.Kind != all[i-1].Kind {
			groups = append(groups, nil)
		}
		last := len(groups) - 1
		groups[last] = append(groups[last], p)
	}
	return groups
}

// compareNames compares the names of two groups. Behind the last is none that is less.
func compareNames(before, after [][]packages.Package, i, j int) int {
	switch {
	case i == len(before):
		return 1
	case j == len(after):
		return -1
	}
	a, b := before[i][0], after[j][0]
	return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Kind, b.Kind))
}

// compareName compares the packages of one name.
func (p *Packages) compareName(old, new []packages.Package) {
	if len(old) == 1 && len(new) == 1 {
		p.compareOne(old[0], new[0], false)
		return
	}
	for _, arch := range archs(old, new) {
		ofArch := func(p packages.Package) bool { return p.Arch == arch }
		before, after := filter(old, ofArch), filter(new, ofArch)
		if len(before) == 1 && len(after) == 1 {
			p.compareOne(before[0], after[0], true)
			continue
		}
		p.Removed = append(p.Removed, without(before, after)...)
		p.Added = append(p.Added, without(after, before)...)
	}
}

// compareOne compares a package with what took its place.
func (p *Packages) compareOne(old, new packages.Package, severalArchs bool) {
	change := PackageChange{old, new, severalArchs}
	switch order := old.Kind.CompareVersions(old.Version, new.Version); {
	case order < 0:
		p.Upgraded = append(p.Upgraded, change)
	case order > 0:
		p.Downgraded = append(p.Downgraded, change)
	case old.Arch != new.Arch || old.Version != new.Version: // 1.0 and 1.00 are as old
		p.Removed = append(p.Removed, old)
		p.Added = append(p.Added, new)
	}
}

// archs returns the architectures of packages, sorted.
func archs(old, new []packages.Package) []string {
	var names []string
	for _, p := range slices.Concat(old, new) {
		names = append(names, p.Arch)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func filter(all []packages.Package, is func(packages.Package) bool) (some []packages.Package) {
	for _, p := range all {
		if is(p) {
			some = append(some, p)
		}
	}
	return some
}

// without returns the packages of a whose version is not in b. Both are sorted by
// version.
func without(a, b []packages.Package) []packages.Package {
	return filter(a, func(p packages.Package) bool {
		_, found := slices.BinarySearchFunc(b, p.Version, func(q packages.Package, version string) int { return cmp.Compare(q.Version, version) })
		return !found
	})
}
