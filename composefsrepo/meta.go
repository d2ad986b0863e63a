package composefsrepo

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/beneath"
)

const (
	metaName    = "meta.json"
	maxMetaSize = 1 << 20 // bytes
	maxVersion  = 1
)

// meta is the part of meta.json that a reader has to heed. The compatible and
// read-only-compatible features are for writers.
type meta struct {
	Version   int    `json:"version"`
	Algorithm string `json:"algorithm"`
	Features  struct {
		Incompatible []string `json:"incompatible"`
	} `json:"features"`
}

// parseMeta returns the algorithm of a repository with this meta.json.
func parseMeta(data []byte) (fsverity.Algorithm, error) {
	var m meta
	if err := json.Unmarshal(data, &m); err != nil {
		return fsverity.Algorithm{}, fmt.Errorf("%w: %w", ErrNotRepository, err)
	}
	if m.Version < 1 || m.Version > maxVersion {
		return fsverity.Algorithm{}, fmt.Errorf("%w: version %d, only %d is known", ErrUnsupported, m.Version, maxVersion)
	}
	if len(m.Features.Incompatible) > 0 {
		return fsverity.Algorithm{}, fmt.Errorf("%w: unknown features %.200q", ErrUnsupported, strings.Join(m.Features.Incompatible, " "))
	}
	algorithm, err := fsverity.ParseAlgorithm(m.Algorithm)
	if err != nil {
		return fsverity.Algorithm{}, fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	return algorithm, nil
}

// readMeta sets what meta.json says; repositories from before version 0.7 of
// composefs have none.
func (r *Repo) readMeta() error {
	f, err := r.openBeneath(metaName, 0)
	if errors.Is(err, fs.ErrNotExist) {
		r.algorithm, err = r.guessAlgorithm()
		return err
	}
	if err != nil {
		return err
	}
	defer f.Close()
	data, err := beneath.ReadAll(f, maxMetaSize)
	if err == nil {
		r.algorithm, err = parseMeta(data)
	}
	if err != nil {
		return fmt.Errorf("reading %s: %w", metaName, err)
	}
	switch _, err := fsverity.Measure(f); {
	case err == nil:
		r.verity = true
	case !errors.Is(err, fsverity.ErrNotEnabled):
		return err
	}
	return nil
}

// guessAlgorithm tells the algorithm from the length of an object's name. The
// block size was not a choice when there was no meta.json.
func (r *Repo) guessAlgorithm() (fsverity.Algorithm, error) {
	if f, err := r.openBeneath("objects", unix.O_DIRECTORY); err == nil {
		f.Close()
	} else if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return fsverity.Algorithm{}, fmt.Errorf("%w: it has neither %s nor a directory objects", ErrNotRepository, metaName)
	} else {
		return fsverity.Algorithm{}, err
	}
	prefixes, err := r.names("objects")
	if err != nil {
		return fsverity.Algorithm{}, err
	}
	for _, prefix := range prefixes {
		names, err := r.names("objects/" + prefix)
		if err != nil && !errors.Is(err, unix.ENOTDIR) && !errors.Is(err, unix.ELOOP) {
			return fsverity.Algorithm{}, err
		}
		for _, name := range names {
			d, err := fsverity.Parse(prefix + name)
			switch {
			case err != nil: // a temporary file, say
			case d.Size() == fsverity.SHA256.Size():
				return fsverity.SHA256, nil
			default:
				return fsverity.SHA512, nil
			}
		}
	}
	return fsverity.SHA512, nil // empty: bootc's choice, and anything will do
}
