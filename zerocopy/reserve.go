package zerocopy

import (
	"errors"
	"fmt"
	"os"

	"github.com/containers/storage"
	"golang.org/x/sys/unix"
)

// reserve is space on a filesystem, kept for cleaning up there: to delete a layer,
// containers/storage writes its list of layers anew, which it can't on a disk that
// the layer has filled. A nil reserve has none.
type reserve struct{ file *os.File }

// maxReserve is how much space is kept, in bytes; an eighth of what is free where
// there is little.
const maxReserve = 8 << 20

// newReserve takes space of the filesystem that dir is on, in a file without a
// name. It returns nil where there is none, or no way to do so.
func newReserve(dir string) *reserve {
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
	return &reserve{f}
}

// release frees the space. It may be called again.
func (r *reserve) release() {
	if r != nil {
		r.file.Close()
	}
}

// addLayer calls add, which adds a layer to the store. It returns nil where the store
// has a layer of that ID by now. If the layer can't be completed, nothing of it is
// left, even on a full disk.
func addLayer(store storage.Store, id string, add func() (*storage.Layer, error)) (*storage.Layer, error) {
	reserve := newReserve(store.GraphRoot())
	defer reserve.release()
	layer, err := add()
	if errors.Is(err, storage.ErrDuplicateID) {
		return nil, nil
	}
	if err != nil {
		reserve.release()
		return nil, errors.Join(fmt.Errorf("adding layer %s to the store: %w", id, err), removeIncomplete(store, id))
	}
	return layer, nil
}

// removeIncomplete deletes the layer that the store has begun and could not
// complete, if it could not delete it either. While somebody completes a layer,
// nobody else sees it.
func removeIncomplete(store storage.Store, id string) error {
	there, err := store.Layer(id)
	if errors.Is(err, storage.ErrLayerUnknown) {
		return nil
	}
	if err == nil && there.ID == id && there.Flags["incomplete"] == true {
		err = store.DeleteLayer(id)
	}
	if err != nil {
		return fmt.Errorf("removing the half of layer %s: %w", id, err)
	}
	return nil
}
