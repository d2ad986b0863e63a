package composefsrepo

import (
	"context"
	"errors"
	"fmt"
	"io"

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
	// ErrCut: a layer's stream rebuilds only the beginning of its tar, as some
	// importers have stored it. Only pulling the image again helps.
	ErrCut = errors.New("the layer was cut when it was imported, and has to be pulled again")
	// ErrInvalidImage: a manifest, a config and the layers do not make up an
	// image, or not one that this package can read.
	ErrInvalidImage = errors.New("invalid image")
	// ErrIndex: what was asked for is a list of manifests, of which this package
	// reads none.
	ErrIndex = errors.New("it is an index of images, which is not supported: name one of its manifests by digest, as @sha256:…")
	// ErrBadLink: a symlink of the repository points where none of its kind may.
	ErrBadLink = errors.New("symlink points to the wrong place")
)

// OtherTarError: a layer's stream, every object of which is intact, rebuilds
// another tar than the layer's. So it was imported. It wraps ErrDigestMismatch, and
// ErrCut where the tar has no end.
type OtherTarError struct {
	Digest digest.Digest // of the tar that the stream rebuilds
	Cut    bool          // that tar has no end-of-archive blocks

	open func(context.Context) (io.ReadCloser, error)
}

// Open returns the tar that the stream rebuilds, checked against Digest as
// Image.OpenLayer checks a layer. The repository must still be open. The caller
// closes the tar.
func (e *OtherTarError) Open(ctx context.Context) (io.ReadCloser, error) { return e.open(ctx) }

// Error says what differs, and what does not.
func (e *OtherTarError) Error() string {
	text := fmt.Sprintf("%v: it hashes to %s; no object was altered", ErrDigestMismatch, e.Digest)
	if e.Cut {
		text += fmt.Sprintf(", but the tar has no end: %v", ErrCut)
	}
	return text
}

// Unwrap returns ErrDigestMismatch, and ErrCut where it applies.
func (e *OtherTarError) Unwrap() []error {
	if e.Cut {
		return []error{ErrDigestMismatch, ErrCut}
	}
	return []error{ErrDigestMismatch}
}

// lostZerosError is the ErrLostZeros of so many zeros.
type lostZerosError int64

func (e lostZerosError) Error() string {
	return fmt.Sprintf("the layer's stream lacks the %d zero bytes at its end that some importers lost", int64(e))
}

func (e lostZerosError) Is(target error) bool { return target == ErrLostZeros }
