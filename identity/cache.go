package identity

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containers/image/v5/docker/reference"
	"github.com/containers/storage/pkg/ioutils"
)

// The bounds of the cache. Beyond them, what was written first is removed.
const (
	maxCached      = 256      // files
	maxCachedBytes = 64 << 20 // of all files
	maxRecord      = 3 * MaxManifest
	recordSuffix   = ".json"
	unfinished     = ".tmp-" // how names begin of files that are being written
)

// record is a file of the cache: what was found of the image whose config has the
// digest in the file's name.
type record struct {
	Manifest  []byte `json:"manifest"`
	Index     []byte `json:"index,omitempty"`
	Source    Source `json:"source"`
	Reference string `json:"reference,omitempty"`
}

// recordName returns the name of the image's file.
func (s *search) recordName() string {
	d := s.image.ConfigDescriptor.Digest
	return d.Algorithm().String() + "-" + d.Encoded() + recordSuffix
}

// cached returns what the cache has of the image, after the checks that anything
// has to pass.
func (s *search) cached() *Found {
	if s.options.Cache == "" {
		return nil
	}
	found, err := s.readRecord()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		s.refusals = append(s.refusals, Refusal{Source{Kind: Cache, Where: s.options.Cache}, err})
		return nil
	}
	return found
}

func (s *search) readRecord() (*Found, error) {
	dir, err := os.Open(s.options.Cache)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	data, err := readBounded(dir, s.recordName(), maxRecord)
	if err != nil {
		return nil, err
	}
	var r record
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("%w: %.200q", ErrInvalid, err.Error())
	}
	switch r.Source.Kind {
	case Store, Layout, Registry:
	default:
		return nil, fmt.Errorf("%w: it came from %.100q", ErrInvalid, r.Source.Kind)
	}
	r.Source.Cached = true
	found, err := s.accept(r.Source, r.Manifest, "")
	if err != nil {
		return nil, err
	}
	if lists(r.Index, found.Digest()) {
		found.Index = r.Index
	}
	if named, err := reference.ParseNormalizedNamed(r.Reference); err == nil {
		found.Reference = named
	}
	return found, nil
}

// keep writes what was found to the cache.
func (s *search) keep(found *Found) {
	if s.options.Cache == "" {
		return
	}
	if err := s.writeRecord(found); err != nil {
		s.refusals = append(s.refusals, Refusal{Source{Kind: Cache, Where: s.options.Cache}, err})
	}
}

func (s *search) writeRecord(found *Found) error {
	r := record{Manifest: found.Image.Manifest, Index: found.Index, Source: found.Source}
	if found.Reference != nil {
		r.Reference = found.Reference.String()
	}
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(s.options.Cache, 0o700); err != nil {
		return err
	}
	if err := ioutils.AtomicWriteFile(filepath.Join(s.options.Cache, s.recordName()), data, 0o600); err != nil {
		return err
	}
	return trim(s.options.Cache, s.recordName(), time.Now())
}

// trim removes from the cache what is beyond its bounds, the oldest first, and what
// killed processes have left. It removes nothing that is not the cache's, and not
// the file that is to stay.
func trim(cache, stays string, now time.Time) error {
	entries, err := os.ReadDir(cache)
	if err != nil {
		return err
	}
	var files []fs.FileInfo
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil || !info.Mode().IsRegular() || entry.Name() == stays {
			continue
		}
		switch {
		case strings.HasPrefix(entry.Name(), unfinished):
			if now.Sub(info.ModTime()) > time.Hour {
				_ = os.Remove(filepath.Join(cache, entry.Name()))
			}
		case strings.HasSuffix(entry.Name(), recordSuffix):
			files = append(files, info)
		}
	}
	slices.SortFunc(files, func(a, b fs.FileInfo) int { return b.ModTime().Compare(a.ModTime()) })
	var size int64
	for n, info := range files {
		if size += info.Size(); n+1 < maxCached && size <= maxCachedBytes-maxRecord {
			continue
		}
		if err := os.Remove(filepath.Join(cache, info.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
