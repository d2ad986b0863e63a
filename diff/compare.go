package diff

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"unicode/utf8"

	"github.com/skopeo-cfs/skopeo-cfs/tree"
)

// maxTexts bounds the paths of what differs, which a hostile image can make much longer
// than itself, in bytes.
const maxTexts = 256 << 20

// comparison is a walk through two trees at once.
type comparison struct {
	ctx      context.Context
	contents *contents
	files    *Files
	texts    int // bytes of the paths in files

	path    []byte // where the walk is
	at      int32  // the path's number
	numbers []int32
	old     side
	new     side
	linked  []linked
	fresh   []*tree.Node // the new image's files with contents that their paths did not have
}

// side is what is remembered of one of the trees: the numbers of all paths of a file
// that has several.
type side map[*tree.Node][]int32

// linked is a path at which both images have a file, one of which has several paths.
type linked struct {
	path     string
	number   int32
	old, new *tree.Node
}

// compareFiles compares two trees.
func compareFiles(ctx context.Context, old, new *tree.Tree) (*Files, error) {
	contents, err := newContents(ctx, old, new)
	if err != nil {
		return nil, err
	}
	c := &comparison{ctx: ctx, contents: contents, files: &Files{Changes: []FileChange{}}, old: side{}, new: side{}}
	if err := c.visit(old.Root(), new.Root()); err != nil {
		return nil, err
	}
	if err := c.compareLinks(); err != nil {
		return nil, err
	}
	c.files.NewBytes = contents.newBytes(old.Root(), c.fresh)
	return c.files, nil
}

// visit compares what the images have at the path, of which one may be nil, and below.
func (c *comparison) visit(old, new *tree.Node) error {
	if c.at++; c.at%1024 == 0 && c.ctx.Err() != nil {
		return c.ctx.Err()
	}
	first := c.old.count(old, c.at)
	firstNew := c.new.count(new, c.at)
	var err error
	switch {
	case old == nil:
		c.files.Added++
		if new.IsRegular() {
			if firstNew {
				c.files.AddedBytes += new.Size
			}
			c.fresh = append(c.fresh, new)
		}
		err = c.add(FileChange{Kind: Added, New: describeFile(new)}, c.at)
	case new == nil:
		c.files.Removed++
		if old.IsRegular() && first {
			c.files.RemovedBytes += old.Size
		}
		err = c.add(FileChange{Kind: Removed, Old: describeFile(old)}, c.at)
	default:
		err = c.compare(old, new)
	}
	if err != nil {
		return err
	}
	return c.descend(old, new)
}

// count remembers the path of a node that has several, and tells whether it is its
// first.
func (s side) count(n *tree.Node, number int32) bool {
	if n == nil || n.Links < 2 {
		return true
	}
	s[n] = append(s[n], number)
	return len(s[n]) == 1
}

// descend visits what is in directories at the path.
func (c *comparison) descend(old, new *tree.Node) error {
	var before, after []tree.Child
	if old != nil {
		before = old.Children()
	}
	if new != nil {
		after = new.Children()
	}
	length := len(c.path)
	for len(before) > 0 || len(after) > 0 {
		var name string
		var oldChild, newChild *tree.Node
		if len(before) > 0 && (len(after) == 0 || before[0].Name <= after[0].Name) {
			name, oldChild = before[0].Name, before[0].Node
		}
		if len(after) > 0 && (oldChild == nil || after[0].Name == name) {
			name, newChild = after[0].Name, after[0].Node
			after = after[1:]
		}
		if oldChild != nil {
			before = before[1:]
		}
		c.path = append(append(c.path, '/'), name...)
		if err := c.visit(oldChild, newChild); err != nil {
			return err
		}
		c.path = c.path[:length]
	}
	return nil
}

// compare compares two files at the path.
func (c *comparison) compare(old, new *tree.Node) error {
	change := FileChange{Kind: Changed}
	differs := func(what string, does bool) {
		if does {
			change.What = append(change.What, what)
		}
	}
	sameType := old.Type() == new.Type()
	otherContent := new.IsRegular() && (!old.IsRegular() || !c.contents.equal(old, new))
	if otherContent {
		c.fresh = append(c.fresh, new)
	}
	differs("type", !sameType)
	differs("content", sameType && otherContent)
	differs("mode", (old.Mode^new.Mode)&0o7777 != 0 && !old.IsSymlink() && !new.IsSymlink())
	differs("owner", old.UID != new.UID || old.GID != new.GID)
	change.Xattrs = otherXattrs(old.Xattrs, new.Xattrs)
	differs("xattrs", len(change.Xattrs) > 0)
	differs("target", sameType && old.Target != new.Target)
	differs("device", sameType && isDevice(new) && old.Rdev != new.Rdev)
	if !old.IsDir() && !new.IsDir() && (old.Links > 1 || new.Links > 1) {
		path, err := c.pathText()
		if err != nil {
			return err
		}
		c.linked = append(c.linked, linked{path, c.at, old, new})
	}
	if len(change.What) == 0 {
		return nil
	}
	c.files.Changed++
	change.Old, change.New = describeFile(old), describeFile(new)
	return c.add(change, c.at)
}

// otherXattrs returns the names of the attributes that differ, sorted.
func otherXattrs(old, new map[string]string) []string {
	if maps.Equal(old, new) {
		return nil
	}
	var names []string
	for name, value := range old {
		if other, ok := new[name]; !ok || other != value {
			names = append(names, name)
		}
	}
	for name := range new {
		if _, ok := old[name]; !ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// pathText returns the path.
func (c *comparison) pathText() (string, error) {
	if c.texts += len(c.path); c.texts > maxTexts {
		return "", fmt.Errorf("%w: their paths are longer than %d MiB", ErrTooLarge, maxTexts>>20)
	}
	if len(c.path) == 0 {
		return "/", nil
	}
	return string(c.path), nil
}

// add adds a change at the path.
func (c *comparison) add(change FileChange, number int32) error {
	path, err := c.pathText()
	if err != nil {
		return err
	}
	c.append(change, path, number)
	return nil
}

func (c *comparison) append(change FileChange, path string, number int32) {
	change.Path = path
	if !utf8.ValidString(path) {
		change.RawPath = []byte(path)
	}
	if n := len(c.files.Changes); n == cap(c.files.Changes) {
		c.files.Changes = slices.Grow(c.files.Changes, n+64) // what append adds is less
	}
	c.files.Changes = append(c.files.Changes, change)
	c.numbers = append(c.numbers, number)
}

// compareLinks adds where files have other paths. It is known at the end of the walk
// which they have.
func (c *comparison) compareLinks() error {
	same := map[[2]*tree.Node]bool{}
	before := len(c.files.Changes)
	for _, l := range c.linked {
		pair := [2]*tree.Node{l.old, l.new}
		if _, known := same[pair]; !known {
			same[pair] = slices.Equal(c.old.paths(l.old, l.number), c.new.paths(l.new, l.number))
		}
		if same[pair] {
			continue
		}
		if i, found := slices.BinarySearch(c.numbers[:before], l.number); found {
			c.files.Changes[i].What = append(c.files.Changes[i].What, "links")
			continue
		}
		c.files.Changed++
		c.append(FileChange{Kind: Changed, What: []string{"links"}, Old: describeFile(l.old), New: describeFile(l.new)}, l.path, l.number)
	}
	if len(c.files.Changes) > before {
		c.sort()
	}
	return c.ctx.Err()
}

// paths returns the numbers of a node's paths, of which one is number.
func (s side) paths(n *tree.Node, number int32) []int32 {
	if n.Links < 2 {
		return []int32{number}
	}
	return s[n]
}

// sort sorts the changes by their paths' numbers.
func (c *comparison) sort() {
	order := make([]int, len(c.numbers))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int { return int(c.numbers[i]) - int(c.numbers[j]) })
	sorted := make([]FileChange, len(order))
	for to, from := range order {
		sorted[to] = c.files.Changes[from]
	}
	c.files.Changes = sorted
}
