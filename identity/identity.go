// Package identity finds the manifest that a registry has of an image in a
// composefs repository.
//
// A repository may have a different manifest from the registry's, or none. On a host
// that was installed from containers-storage, the manifest lists uncompressed layers,
// and no registry knows its digest. But the repository has the config, and a manifest
// names its config by digest. So every manifest with this config is a manifest of this
// image. Accept checks each manifest that is found.
//
// Accept can't check that the compressed blobs decompress to the layers. Whoever reads
// the blobs checks that.
package identity

import (
	"errors"
	"fmt"

	"github.com/containers/image/v5/docker/reference"
	"github.com/opencontainers/go-digest"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
)

// Why a manifest is refused, or none was found. Errors of this package say what
// was looked at, and wrap one of these, or that of reading it.
var (
	// ErrNotThere: there is no manifest of the image.
	ErrNotThere = errors.New("no manifest of this image")
	// ErrInvalid: it is no manifest of an image that a registry would have.
	ErrInvalid = errors.New("not a valid manifest")
	// ErrDigest: the bytes do not have the digest that they are kept under.
	ErrDigest = errors.New("content does not match its digest")
	// ErrOtherConfig: the manifest is another image's.
	ErrOtherConfig = errors.New("the config belongs to another image")
	// ErrLayers: the manifest has more or fewer layers than the image.
	ErrLayers = errors.New("the number of layers differs")
	// ErrDiffID: what the manifest says of a layer's content is not so.
	ErrDiffID = errors.New("a layer's content differs")
	// ErrUncompressed: the manifest lists uncompressed layers, as programs make it
	// for themselves, and is not known to be a registry's.
	ErrUncompressed = errors.New("the manifest lists uncompressed layers, so it may not be a registry's")
	// ErrPlatform: the index has no image of this platform.
	ErrPlatform = errors.New("the index has no image of this platform")
	// ErrTooLarge: there is more of it than any manifest has.
	ErrTooLarge = errors.New("too large for a manifest")
	// ErrTimeout: the answer did not come in time.
	ErrTimeout = errors.New("no answer in time")
)

// MaxManifest is the size in bytes of the largest manifest or index that is read:
// that of containers/image.
const MaxManifest = 4 << 20

// Kind is where a manifest comes from.
type Kind string

// The kinds of sources.
const (
	Stored   Kind = "stored"   // the image's repository
	Made     Kind = "made"     // from the config, since there was none
	Store    Kind = "store"    // a containers-storage on this machine
	Layout   Kind = "layout"   // an OCI layout
	Registry Kind = "registry" // a registry
	Cache    Kind = "cache"    // the cache, where that itself is at fault
)

// Source is where a manifest comes from.
type Source struct {
	Kind Kind `json:"kind"`
	// Where is the path of a store or of a layout, or the image's name in a
	// registry; "" for the other kinds.
	Where string `json:"where,omitempty"`
	// Cached: it was found there earlier, and kept in the cache.
	Cached bool `json:"cached,omitempty"`
}

// String returns the source in words, for a sentence. Control characters in names
// are escaped.
func (s Source) String() string {
	var text string
	switch s.Kind {
	case Stored:
		text = "the repository"
	case Made:
		text = "the config"
	case Store:
		text = "the store " + printable(s.Where)
	case Layout:
		text = "the layout " + printable(s.Where)
	case Cache:
		text = "the cache " + printable(s.Where)
	default:
		text = "the registry, " + printable(s.Where)
	}
	if s.Cached {
		text += " (kept in the cache)"
	}
	return text
}

// printable returns a name that may come from anywhere as it can be shown.
func printable(name string) string {
	quoted := fmt.Sprintf("%.300q", name)
	if quoted[1:len(quoted)-1] == name {
		return name
	}
	return quoted
}

// Found is a manifest of an image.
type Found struct {
	// Image is the image with this manifest, which WithManifest of package
	// composefsrepo has made, or the image that was asked about.
	Image *composefsrepo.Image
	// Source is where the manifest comes from.
	Source Source
	// Original: it is the manifest that a registry has: it came from one, or lists
	// compressed layers.
	Original bool
	// Index is an index that lists the manifest, nil where none is known.
	Index []byte
	// Reference is a name that the image has where the manifest was found, nil
	// where none is known.
	Reference reference.Named
}

// Digest returns the manifest's digest.
func (f *Found) Digest() digest.Digest { return f.Image.ManifestDigest }

// IndexDigest returns the digest of Index, "" where there is none.
func (f *Found) IndexDigest() digest.Digest {
	if f.Index == nil {
		return ""
	}
	return digest.FromBytes(f.Index)
}

// Recovered tells whether the manifest is another than the repository's.
func (f *Found) Recovered() bool { return f.Source.Kind != Stored && f.Source.Kind != Made }

// Refusal is why a place that was looked at did not give the manifest.
type Refusal struct {
	Source Source
	Err    error
}

// Error returns the refusal as a sentence, without a period.
func (r Refusal) Error() string { return fmt.Sprintf("%s: %v", r.Source, r.Err) }

// Unwrap returns the reason.
func (r Refusal) Unwrap() error { return r.Err }
