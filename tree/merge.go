package tree

import (
	"cmp"
	"slices"
)

// overlay lays the tree of an upper layer over that of the lower ones, as an overlay
// filesystem shows them, and takes it apart. Of both, the directories stand for
// directories that are in each other's place.
func overlay(lower, upper *Node) {
	children := lower.dir
	*lower = *upper
	lower.dir = children
	for name, above := range upper.dir.byName {
		below := children.byName[name]
		switch {
		case above.isWhiteout():
			delete(children.byName, name)
		case below != nil && below.IsDir() && above.IsDir() && !above.dir.opaque:
			overlay(below, above)
		default:
			children.byName[name] = above
		}
	}
}

// overlayRoot is overlay for root directories. Nothing hides the lower one, and where
// the upper layer has no entry for it, it stays what it is.
func overlayRoot(lower, upper *Node) {
	if upper.Implied {
		children := upper.dir
		*upper = *lower
		upper.dir = children
	}
	overlay(lower, upper)
}

// finish sorts what is in a directory, and in those below, without the whiteouts that
// are left, and counts names.
func (n *Node) finish() {
	n.Links = 1
	n.dir.sorted = make([]Child, 0, len(n.dir.byName))
	for name, child := range n.dir.byName {
		if !child.isWhiteout() {
			n.dir.sorted = append(n.dir.sorted, Child{name, child})
		}
	}
	n.dir.byName = nil
	slices.SortFunc(n.dir.sorted, func(a, b Child) int { return cmp.Compare(a.Name, b.Name) })
	for _, child := range n.dir.sorted {
		if child.IsDir() {
			child.finish()
		} else {
			child.Links++
		}
	}
}
