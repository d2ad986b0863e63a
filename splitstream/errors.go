package splitstream

import "errors"

// What may be wrong with a splitstream. Errors of this package wrap one of
// these where the file is to blame; errors of reading it, of opening an object,
// and of a context are passed on as they are.
var (
	// ErrFormat: the file is no splitstream.
	ErrFormat = errors.New("not a splitstream")
	// ErrOldFormat: the file is a splitstream from before 2026, which had no
	// header. It is not supported.
	ErrOldFormat = errors.New("a splitstream of the format from before 2026")
	// ErrVersion: the file is a splitstream of a version, or with a verity
	// algorithm, that this package does not know.
	ErrVersion = errors.New("unsupported splitstream")
	// ErrAlgorithm: the verity algorithm is another one than the repository's.
	ErrAlgorithm = errors.New("wrong verity algorithm")
	// ErrCorrupt: the splitstream contradicts itself or the format.
	ErrCorrupt = errors.New("corrupt splitstream")
	// ErrSize: the inline bytes and the objects do not add up to the size that
	// the splitstream states. Mostly the object is to blame: truncated or
	// overlong.
	ErrSize = errors.New("content does not have the size that the splitstream states")
)
