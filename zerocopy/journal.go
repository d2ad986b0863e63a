package zerocopy

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containers/storage"
	"github.com/containers/storage/pkg/lockfile"
	"golang.org/x/sys/unix"
)

// Where the store keeps what this package needs: a lock that is held while
// layers are applied, and the journals.
const (
	stateDir      = "skopeo-cfs"
	lockName      = "lock"
	journalSuffix = ".journal"
	maxJournal    = 1 << 20 // bytes; an image has fewer layers
)

// journal lists the layers that a process has put into a store and that nothing
// uses yet, so that they can be removed: by itself, or, should it be killed, by
// the next one. While its process lives, its file is locked.
type journal struct {
	file *os.File
	lock *lockfile.LockFile
	ids  []string
}

// openJournal makes an empty journal, after it has done what processes have not
// come to that were killed.
func openJournal(store storage.Store) (*journal, error) {
	dir := filepath.Join(store.GraphRoot(), stateDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("preparing the store: %w", err)
	}
	lock, err := lockfile.GetLockFile(filepath.Join(dir, lockName))
	if err != nil {
		return nil, fmt.Errorf("preparing the store: %w", err)
	}
	j := &journal{lock: lock}
	err = j.locked(func() error {
		if err := removeAbandoned(store, dir); err != nil {
			return fmt.Errorf("removing what an earlier copy has left: %w", err)
		}
		if j.file, err = os.CreateTemp(dir, "*"+journalSuffix); err != nil {
			return fmt.Errorf("preparing the store: %w", err)
		}
		tryLock(j.file) // while nobody looks for abandoned ones
		return nil
	})
	if err != nil {
		return nil, err
	}
	return j, nil
}

// tryLock locks a journal's file until it is closed, if nobody has it locked.
func tryLock(file *os.File) bool {
	return unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil
}

// locked calls do while no other copy applies layers to the store.
func (j *journal) locked(do func() error) error {
	j.lock.Lock()
	defer j.lock.Unlock()
	return do()
}

// add notes a layer, before it is made.
func (j *journal) add(id string) error {
	if _, err := j.file.WriteString(id + "\n"); err != nil {
		return fmt.Errorf("noting a layer: %w", err)
	}
	j.ids = append(j.ids, id)
	return nil
}

// forget takes the last layer back that was noted.
func (j *journal) forget(id string) error {
	j.ids = slices.DeleteFunc(j.ids, func(noted string) bool { return noted == id })
	text := ""
	for _, id := range j.ids {
		text += id + "\n"
	}
	if err := j.file.Truncate(0); err != nil {
		return fmt.Errorf("noting a layer: %w", err)
	}
	if _, err := j.file.WriteAt([]byte(text), 0); err != nil {
		return fmt.Errorf("noting a layer: %w", err)
	}
	_, err := j.file.Seek(0, 2)
	return err
}

// close deletes those of the layers that nothing uses, and the journal.
func (j *journal) close(store storage.Store) error {
	err := j.locked(func() error { return deleteUnused(store, j.ids) })
	if err == nil {
		err = os.Remove(j.file.Name())
	}
	return errors.Join(err, j.file.Close())
}

// removeAbandoned deletes the layers of journals whose processes have ended, and
// the journals.
func removeAbandoned(store storage.Store, dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if strings.HasSuffix(entry.Name(), journalSuffix) {
			if err := removeIfAbandoned(store, filepath.Join(dir, entry.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

func removeIfAbandoned(store storage.Store, path string) error {
	file, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	if !tryLock(file) {
		return nil
	}
	text := make([]byte, maxJournal)
	n, _ := file.ReadAt(text, 0) // what can't be read is not of importance
	if err := deleteUnused(store, strings.Fields(string(text[:n]))); err != nil {
		return err
	}
	return os.Remove(path)
}
