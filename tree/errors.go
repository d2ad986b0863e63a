package tree

import "errors"

// What a caller may want to tell apart. Errors of this package say what was being
// done and to what, and wrap one of these where it applies, one of composefsrepo's
// or splitstream's, or that of the system. Those about a path are *fs.PathError.
var (
	// ErrNotTar: the image has a layer that is no tar, as artifacts have.
	ErrNotTar = errors.New("not a tar")
	// ErrLayer: a layer's entries can't be unpacked in their order.
	ErrLayer = errors.New("the layer can't be unpacked")
	// ErrTooLarge: what there is to know of an image's files, or a file that is to be
	// read at once, is more than this package holds.
	ErrTooLarge = errors.New("too large")
)
