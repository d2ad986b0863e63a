package verify

import (
	"hash/maphash"
	"sync"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
)

// state is what is known of an object.
type state uint8

const (
	referenced state = 1 << iota // something refers to it
	planned                      // it will be checked with a layer
	claimed                      // it is being checked, or was
	damaged                      // it is not what its name says
)

// set has the states of objects, for which it takes some thirty bytes each: it
// remembers not their names, but hashes of these that nobody can foresee. It may be
// used concurrently.
type set struct {
	seed   maphash.Seed
	shards [64]struct {
		mutex  sync.Mutex
		states map[uint64]state
	}
}

func newSet() *set {
	s := &set{seed: maphash.MakeSeed()}
	for i := range s.shards {
		s.shards[i].states = map[uint64]state{}
	}
	return s
}

// add adds to what is known of an object, and returns what was known before.
func (s *set) add(d fsverity.Digest, now state) (before state) {
	key := maphash.Comparable(s.seed, d)
	shard := &s.shards[key%uint64(len(s.shards))]
	shard.mutex.Lock()
	defer shard.mutex.Unlock()
	before = shard.states[key]
	if before|now != before {
		shard.states[key] = before | now
	}
	return before
}

// get returns what is known of an object.
func (s *set) get(d fsverity.Digest) state { return s.add(d, 0) }

// is tells whether an object is in a state.
func (s *set) is(d fsverity.Digest, in state) bool { return s.get(d)&in != 0 }
