package composefsrepo

import "errors"

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
	// ErrInvalidImage: a manifest, a config and the layers do not make up an
	// image, or not one that this package can read.
	ErrInvalidImage = errors.New("invalid image")
	// ErrBadLink: a symlink of the repository points where none of its kind may.
	ErrBadLink = errors.New("symlink points to the wrong place")
)
