package tree_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/skopeo-cfs/skopeo-cfs/internal/tartest"
	"github.com/skopeo-cfs/skopeo-cfs/tree"
)

// FuzzLayer reads a layer of anything, in pieces at any place: the pieces change
// nothing.
func FuzzLayer(f *testing.F) {
	for _, layers := range fixtureLayers(f) {
		if len(layers[0]) < 64<<10 {
			f.Add(layers[0], uint16(600), uint16(1000), uint16(3))
		}
	}
	for seed := range 32 {
		f.Add(tartest.Generate(tartest.Choices(seed)), uint16(512), uint16(10*seed), uint16(100))
	}
	f.Add(tartest.Sparse(f, "sparse", "1\n512\n512\n", string(make([]byte, 512)), 2000), uint16(1024), uint16(700), uint16(0))
	f.Fuzz(func(t *testing.T, content []byte, first, object, second uint16) {
		read := func(sizes ...int) (*tree.Tree, error) {
			_, image := pieced(t, content, sizes...)
			return tree.Read(t.Context(), image)
		}
		whole, wholeErr := read()
		sizes, left := []int{}, len(content)
		for i, size := range []int{int(first), int(object), int(second), int(object)} {
			if size == 0 || size > left {
				continue
			}
			left -= size
			if i%2 == 0 {
				size = -size
			}
			sizes = append(sizes, size)
		}
		parts, partsErr := read(sizes...)
		if wholeErr != nil {
			assert.Error(t, partsErr)
			return
		}
		if assert.NoError(t, partsErr) && holds(whole.Root(), 1<<20) {
			assert.Equal(t, listTree(t, whole), listTree(t, parts))
		}
	})
}

// holds tells whether no file of a tree has more bytes: sparse ones may have any
// number.
func holds(n *tree.Node, most int64) bool {
	if n.Size > most {
		return false
	}
	for _, child := range n.Children() {
		if !holds(child.Node, most) {
			return false
		}
	}
	return true
}
