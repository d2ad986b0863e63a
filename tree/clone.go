package tree

import "maps"

// cloneLayer returns a copy of a layer's tree, for another layer of the same stream.
// What is not changed when trees are laid over each other is shared.
func cloneLayer(root *Node, number int, b *budget) (*Node, error) {
	c := cloning{number: number, budget: b, files: map[*Node]*Node{}}
	return c.clone(root)
}

// cloning is a copy being made. Files may have several names.
type cloning struct {
	number int
	budget *budget
	files  map[*Node]*Node
}

func (c *cloning) clone(n *Node) (*Node, error) {
	if known := c.files[n]; known != nil {
		return known, nil
	}
	if err := c.budget.take(nodeSize); err != nil {
		return nil, err
	}
	copied := *n
	copied.Layer = c.number
	if n.dir == nil {
		c.files[n] = &copied
		return &copied, nil
	}
	copied.dir = &dir{byName: maps.Clone(n.dir.byName), opaque: n.dir.opaque, depth: n.dir.depth}
	for name, child := range n.dir.byName {
		var err error
		if copied.dir.byName[name], err = c.clone(child); err != nil {
			return nil, err
		}
	}
	return &copied, nil
}
