package verify

import (
	"fmt"
	"slices"
	"sync"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
)

// maxOfKind is how many damages of a kind are listed.
const maxOfKind = 1000

// findings are what was found so far. They may be added to concurrently.
type findings struct {
	mutex    sync.Mutex
	damages  map[damageKey]*Damage
	ofKind   map[Kind]int
	ofObject map[fsverity.Digest]*Damage // of objects
	ofStream map[fsverity.Digest]*Damage // of streams, by the sound objects that they are in
	omitted  int
	notes    []string
}

// damageKey tells damages apart.
type damageKey struct {
	kind         Kind
	path, detail string
}

func newFindings() findings {
	return findings{damages: map[damageKey]*Damage{}, ofKind: map[Kind]int{}, ofObject: map[fsverity.Digest]*Damage{}, ofStream: map[fsverity.Digest]*Damage{}}
}

// found adds a damage, or the images to it where it was found before.
func (f *findings) found(d Damage, images ...*image) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	f.add(d, images)
}

// add returns the damage as it is listed, nil if it is not.
func (f *findings) add(d Damage, images []*image) *Damage {
	for _, im := range images {
		im.damaged = true
	}
	key := damageKey{d.Kind, d.Path, d.Detail}
	listed := f.damages[key]
	if listed == nil {
		if f.ofKind[d.Kind] == maxOfKind {
			f.omitted++
			return nil
		}
		f.ofKind[d.Kind]++
		listed = &d
		f.damages[key] = listed
	}
	for _, im := range images {
		if !slices.Contains(listed.images, im) {
			listed.images = append(listed.images, im)
		}
	}
	return listed
}

// foundObject adds a damage of an object.
func (f *findings) foundObject(object fsverity.Digest, d Damage) { f.foundIn(f.ofObject, object, d) }

// foundStream adds a damage of the stream in an object.
func (f *findings) foundStream(object fsverity.Digest, d Damage) { f.foundIn(f.ofStream, object, d) }

func (f *findings) foundIn(all map[fsverity.Digest]*Damage, object fsverity.Digest, d Damage) {
	d.Path = composefsrepo.ObjectPath(object)
	f.mutex.Lock()
	defer f.mutex.Unlock()
	if listed := f.add(d, nil); listed != nil {
		all[object] = listed
	}
}

// note adds a note, unless there are many.
func (f *findings) note(format string, args ...any) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	if text := fmt.Sprintf(format, args...); len(f.notes) < maxOfKind && !slices.Contains(f.notes, text) {
		f.notes = append(f.notes, text)
	}
}
