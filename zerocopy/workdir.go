package zerocopy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/skopeo-cfs/skopeo-cfs/internal/flock"
)

// Names in the directory of a store's driver.
const (
	// tempDirs is where containers/storage itself has directories that are no
	// layers: it takes nothing in there for one, and they get the SELinux label
	// that layers get. Layers are not made in its staging directory, which versions
	// before May 2024 remove whenever any command ends.
	tempDirs      = "tempdirs"
	stagingDir    = "staging"
	workDirPrefix = "skopeo-cfs-"
	// probeNote is a file in a workDir that has the name of the directory that the
	// driver has made below stagingDir at the process's request.
	probeNote = "probe"
)

// workDir is a copy's own directory among a store's layers: on their filesystem
// and on their mount, so that a rename makes what is built in it a layer. It is
// locked as long as its process lives. A next copy removes those of dead ones.
type workDir struct {
	home string // the driver's directory
	path string
	dir  *os.File // holds the lock
}

// newWorkDir makes a workDir in home, the directory of a store's driver. It calls
// mend for each that a killed process has left, and removes that. The caller calls
// remove.
func newWorkDir(ctx context.Context, home string, mend func(abandoned *workDir) error) (*workDir, error) {
	w := &workDir{home: home}
	var abandoned []*workDir
	// Making a directory and locking it must be one step to those who look for
	// directories without a lock.
	err := w.locked(ctx, func() error {
		parent := filepath.Join(home, tempDirs)
		if err := os.MkdirAll(parent, 0o700); err != nil {
			return err
		}
		abandoned = findAbandoned(home)
		var err error
		if w.path, err = os.MkdirTemp(parent, workDirPrefix); err != nil {
			return err
		}
		if w.dir, err = os.Open(w.path); err != nil {
			return errors.Join(err, os.Remove(w.path))
		}
		if _, err = flock.Try(w.dir, flock.Exclusive); err != nil {
			return errors.Join(err, w.remove())
		}
		return nil
	})
	for _, a := range abandoned {
		// What can't be done now is left to the next copy.
		if mend(a) != nil {
			_ = a.dir.Close()
			continue
		}
		_ = a.remove()
	}
	if err != nil {
		return nil, fmt.Errorf("making a directory for a copy in %s: %w", home, err)
	}
	return w, nil
}

// locked calls do while no other copy makes layers of the store out of staged
// ones, nor looks for abandoned directories.
func (w *workDir) locked(ctx context.Context, do func() error) error {
	home, err := os.Open(w.home)
	if err != nil {
		return err
	}
	defer home.Close() // and so releases the lock
	if err := flock.Lock(ctx, home, flock.Exclusive, nil); err != nil {
		return err
	}
	return do()
}

// findAbandoned returns, locked, the directories whose processes have ended.
func findAbandoned(home string) []*workDir {
	var abandoned []*workDir
	paths, err := filepath.Glob(filepath.Join(globQuote(home), tempDirs, workDirPrefix+"*"))
	if err != nil {
		return nil
	}
	for _, path := range paths {
		dir, err := os.Open(path)
		if err != nil {
			continue
		}
		if free, err := flock.Try(dir, flock.Exclusive); err != nil || !free {
			dir.Close()
			continue
		}
		abandoned = append(abandoned, &workDir{home, path, dir})
	}
	return abandoned
}

// globQuote returns the pattern that matches just this path.
func globQuote(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// remove removes the directory and all that is in it, and releases its lock. Where
// the directory of a probe can't be removed, the note of it stays for a next copy. An
// addition of a layer that still waits for the store's lock (see package await) fails
// then: it finds nothing under the old name, and never a half of it.
func (w *workDir) remove() error {
	if probe := w.probe(); probe != "" {
		if err := w.removeProbe(probe); err != nil {
			return errors.Join(err, w.dir.Close())
		}
	}
	gone := w.path
	if !strings.HasSuffix(gone, goneSuffix) {
		gone += goneSuffix
	}
	err := os.Rename(w.path, gone)
	if err == nil {
		err = os.RemoveAll(gone)
	}
	return errors.Join(err, w.dir.Close())
}

const goneSuffix = ".gone"

// noteProbe notes the directory that the driver has made for a probe.
func (w *workDir) noteProbe(dest string) error {
	return os.WriteFile(filepath.Join(w.path, probeNote), []byte(filepath.Base(filepath.Dir(dest))), 0o600)
}

// probe returns the directory that was noted, "" if there is none: a note can be
// cut short.
func (w *workDir) probe() string {
	name, err := os.ReadFile(filepath.Join(w.path, probeNote))
	if err != nil || len(name) == 0 || strings.Trim(string(name), "0123456789") != "" {
		return ""
	}
	return filepath.Join(w.home, stagingDir, string(name))
}

// removeProbe removes the directory that the driver has made for a probe, and then
// the note of it: another process may get a directory of that name.
func (w *workDir) removeProbe(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	err := os.Remove(filepath.Join(w.path, probeNote))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
