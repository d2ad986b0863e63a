package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	imagestorage "github.com/containers/image/v5/storage"
	"github.com/containers/image/v5/types"
	"github.com/containers/storage"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/source"
)

// leftovers is what a copy that fails would leave at its destination: the
// library removes its temporary files, and no more.
type leftovers struct {
	path  string // the destination's file or directory, "" if it is none
	inDir bool   // path was an empty directory, which is to stay

	store   storage.Store
	layers  map[string]bool // those that were in the store before
	reserve *os.File        // space to clean up in, nil if none could be had
	src     types.ImageReference
	made    []digest.Digest // layers that the copy has, and src has not
}

// maxReserve is the space in bytes that is kept for cleaning up, or, where there
// is little, an eighth of that. To delete anything containers/storage makes a
// directory and writes its lists anew, which it can't on a disk that is full.
const maxReserve = 8 << 20

// noteLeftovers looks at a destination before a copy. In a directory that has
// something in it already, an OCI layout mostly, nothing will be removed: what
// others are putting there at the same time can't be told from ours.
func noteLeftovers(src, dest types.ImageReference) (*leftovers, error) {
	l := &leftovers{src: src}
	switch dest.Transport().Name() {
	case "containers-storage":
		return l, l.noteLayers(dest)
	case "dir":
		l.path = dest.StringWithinTransport()
	case "oci", "oci-archive", "docker-archive", "sif":
		l.path, _, _ = strings.Cut(dest.StringWithinTransport(), ":")
	default:
		return l, nil
	}
	names, err := os.ReadDir(l.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err == nil && len(names) == 0:
		l.inDir = true
	default:
		l.path = ""
	}
	return l, nil
}

// noteLayers remembers which layers the destination's store has.
func (l *leftovers) noteLayers(dest types.ImageReference) error {
	transport, ok := dest.Transport().(imagestorage.StoreTransport)
	if !ok {
		return nil
	}
	if l.store = transport.GetStoreIfSet(); l.store == nil {
		return nil
	}
	layers, err := l.store.Layers()
	if err != nil {
		return fmt.Errorf("listing the layers of the destination: %w", err)
	}
	l.layers = map[string]bool{}
	for _, layer := range layers {
		l.layers[layer.ID] = true
	}
	l.reserve = reserveIn(l.store.GraphRoot())
	return nil
}

// reserveIn takes space of the filesystem that dir is on, in a file without a
// name, which closing it frees. It returns nil where there is none, or no way to
// do so.
func reserveIn(dir string) *os.File {
	f, err := os.OpenFile(dir, unix.O_TMPFILE|os.O_RDWR, 0o600)
	if err != nil {
		return nil
	}
	var stat unix.Statfs_t
	err = unix.Fstatfs(int(f.Fd()), &stat)
	if size := min(maxReserve, int64(stat.Bavail)*stat.Bsize/8); err == nil && size > 0 {
		err = unix.Fallocate(int(f.Fd()), 0, 0, size)
	}
	if err != nil {
		f.Close()
		return nil
	}
	return f
}

// release frees what was kept for remove. It may be called again.
func (l *leftovers) release() {
	if l.reserve != nil {
		l.reserve.Close()
		l.reserve = nil
	}
}

// remove removes what the copy has left that ended with the error.
func (l *leftovers) remove(copyErr error) error {
	l.release()
	if l.store != nil {
		err := l.removeLayers()
		if err == nil && isFull(copyErr) {
			err = l.saveLayers()
		}
		return err
	}
	if l.path == "" {
		return nil
	}
	paths := []string{l.path}
	if l.inDir {
		names, err := os.ReadDir(l.path)
		if err != nil {
			return fmt.Errorf("looking for what the copy left behind: %w", err)
		}
		paths = nil
		for _, name := range names {
			paths = append(paths, filepath.Join(l.path, name.Name()))
		}
	}
	for _, path := range paths {
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("removing what the copy left behind: %w", err)
		}
	}
	return nil
}

// isFull tells whether an error is about a disk without space. That of a process
// that extracts layers comes as text.
func isFull(err error) bool {
	for _, errno := range []error{unix.ENOSPC, unix.EDQUOT} {
		if errors.Is(err, errno) || strings.Contains(err.Error(), errno.Error()) {
			return true
		}
	}
	return false
}

// saveLayers has the store write its list of layers, by a change to it. It may
// have deleted a layer and not been able to write that down.
func (l *leftovers) saveLayers() error {
	layer, err := l.store.CreateLayer("", "", nil, "", false, nil)
	if err == nil {
		err = l.store.DeleteLayer(layer.ID)
	}
	if err != nil {
		return fmt.Errorf("removing what the copy left behind: %w", err)
	}
	return nil
}

// removeLayers deletes the layers of the image that are new in the store and
// that nothing uses, and those that were not completed: whoever is completing
// one has the store to themselves.
func (l *leftovers) removeLayers() error {
	// Not the copy's context, which may be what ended it.
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	ours := l.diffIDs(ctx)
	if len(ours) == 0 {
		return nil
	}
	layers, err := l.store.Layers()
	if err != nil {
		return fmt.Errorf("listing the layers that the copy left behind: %w", err)
	}
	for again := true; again; {
		again = false
		for _, layer := range layers {
			if l.layers[layer.ID] || !ours[layer.UncompressedDigest] && layer.Flags["incomplete"] != true {
				continue
			}
			err := l.store.DeleteLayer(layer.ID)
			if err == nil {
				l.layers[layer.ID] = true
				again = true // its parent may be without children now
			}
		}
	}
	return nil
}

// diffIDs returns the digests of the layers that a copy of a composefs image
// makes. From other sources it leaves layers behind as skopeo does.
func (l *leftovers) diffIDs(ctx context.Context) map[digest.Digest]bool {
	if l.src.Transport().Name() != "composefs" {
		return nil
	}
	opened, err := l.src.NewImageSource(ctx, nil)
	if err != nil {
		return nil // then the copy has not copied anything either
	}
	defer opened.Close()
	src, ok := opened.(*source.Source)
	if !ok {
		return nil
	}
	diffIDs := map[digest.Digest]bool{}
	for _, layer := range src.Image().Layers {
		diffIDs[layer.Digest()] = true
	}
	for _, d := range l.made {
		diffIDs[d] = true
	}
	return diffIDs
}
