package unpack

import "hash/maphash"

// kind is what stands at a path of the tree.
type kind uint8

const (
	nothing kind = iota
	directory
	implied // a directory that the tar has had no entry for yet
	symlink
	device // or a fifo, or a whiteout
	unmade // nothing, for good
	file
)

// pathHash stands for a path in the maps of the scanner, which have every path of
// a layer: the paths themselves would take ten times the memory. The seed is
// random, so nobody can choose two paths with one hash.
//
// Should two have one nevertheless, then no more than one of them is made, since
// the other would take its place, which is refused. Until then, what is known of
// the one is taken for the other, which is not there. Whatever is made in it, of
// it or beside it then fails, as the kernel finds nothing at its path.
type pathHash uint64

// kinds has what stands at the paths of the tree.
type kinds struct {
	seed maphash.Seed
	all  map[pathHash]kind
}

func newKinds() *kinds {
	k := &kinds{seed: maphash.MakeSeed(), all: map[pathHash]kind{}}
	k.set(".", directory)
	return k
}

func (k *kinds) hash(name string) pathHash {
	return pathHash(maphash.String(k.seed, name) >> (64 - pathBits))
}

// pathBits is how many bits a hash has: all that there are, but for tests.
var pathBits = 64

func (k *kinds) at(name string) kind { return k.all[k.hash(name)] }

func (k *kinds) set(name string, is kind) { k.all[k.hash(name)] = is }
