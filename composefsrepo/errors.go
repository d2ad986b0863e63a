package composefsrepo

import (
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
)

// What a caller may want to tell apart. Errors of this package say what was
// being done and to what, and wrap one of these where it applies, one of
// splitstream's, or that of the system.
var (
	// ErrNotRepository: the directory is no composefs repository.
	ErrNotRepository = errors.New("not a composefs repository")
	// ErrUnsupported: the repository is of a version, or has a feature, that
	// this package does not know.
	ErrUnsupported = errors.New("unsupported composefs repository")
	// ErrNotFound: the repository has nothing of that name: tag, manifest,
	// config or layer.
	ErrNotFound = errors.New("not in the repository")
	// ErrMissingObject: an object that something refers to is not there.
	ErrMissingObject = errors.New("object is missing from the repository")
	// ErrNotRegular: an object is no regular file.
	ErrNotRegular = errors.New("object is not a regular file")
	// ErrVerity: an object's fs-verity digest is not its name, or it has no
	// fs-verity where the repository demands it.
	ErrVerity = errors.New("fs-verity digest is not the object's name")
	// ErrDigestMismatch: the content is not what its digest says.
	ErrDigestMismatch = errors.New("content does not match its digest")
	// ErrLostZeros: a layer's stream lacks the zero bytes at its end that some
	// importers lost, and nothing else. Image.Repaired adds them.
	ErrLostZeros = errors.New("the layer's stream lacks zero bytes at its end that some importers lost")
	// ErrInvalidImage: a manifest, a config and the layers do not make up an
	// image, or not one that this package can read.
	ErrInvalidImage = errors.New("invalid image")
	// ErrBadLink: a symlink of the repository points where none of its kind may.
	ErrBadLink = errors.New("symlink points to the wrong place")
)

// OtherTarError: a layer's stream, every object of which is intact, rebuilds
// another tar than the layer's. So it was imported. It wraps ErrDigestMismatch.
type OtherTarError struct {
	Digest digest.Digest // of the tar that the stream rebuilds
}

// Error says what differs, and what does not.
func (e *OtherTarError) Error() string {
	return fmt.Sprintf("%v: it hashes to %s; no object was altered, so it is the stream's inline bytes that are not the layer's", ErrDigestMismatch, e.Digest)
}

// Unwrap returns ErrDigestMismatch.
func (e *OtherTarError) Unwrap() error { return ErrDigestMismatch }

// lostZerosError is the ErrLostZeros of so many zeros.
type lostZerosError int64

func (e lostZerosError) Error() string {
	return fmt.Sprintf("the layer's stream lacks the %d zero bytes at its end that some importers lost", int64(e))
}

func (e lostZerosError) Is(target error) bool { return target == ErrLostZeros }
