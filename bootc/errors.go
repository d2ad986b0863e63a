package bootc

import "errors"

// What a caller may want to tell apart. Errors of this package say what was
// being done and to what, and wrap one of these where it applies, or that of
// the system.
var (
	// ErrNotBootc: there are no deployments of bootc's.
	ErrNotBootc = errors.New("not a bootc host with composefs")
	// ErrOSTree: the host's deployments are ostree's.
	ErrOSTree = errors.New("the host boots from ostree, not from composefs")
	// ErrNotFound: no deployment is in that state, or has that ID or image.
	ErrNotFound = errors.New("no such deployment")
	// ErrAmbiguous: several deployments have IDs that begin so, or a deployment
	// may have been made of several images.
	ErrAmbiguous = errors.New("ambiguous deployment")
	// ErrRollbackUnknown: no boot entries could be read that tell which
	// deployment is the rollback.
	ErrRollbackUnknown = errors.New("it is not known which deployment is the rollback")
	// ErrImageGone: the repository has neither manifest nor config of the image
	// that a deployment was made of.
	ErrImageGone = errors.New("it is no longer in the repository: garbage collection has removed it")
	// ErrOrigin: a deployment's origin, or what lies beside it, is not as bootc
	// writes it.
	ErrOrigin = errors.New("malformed origin")
)
