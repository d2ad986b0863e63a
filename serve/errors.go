package serve

import (
	"context"
	"errors"
	"net/http"

	"github.com/docker/distribution/registry/api/errcode"
	v2 "github.com/docker/distribution/registry/api/v2"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
)

// refuse answers with an error as registries do.
func refuse(w http.ResponseWriter, r *http.Request, err error) {
	for _, name := range []string{"Content-Length", "Content-Encoding", "Etag", "Docker-Content-Digest", "Accept-Ranges"} {
		w.Header().Del(name)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		w.Header().Set("Retry-After", "10")
		err = errcode.ErrorCodeUnavailable.WithMessage("the repository is being collected or busy: try again")
	}
	var coded errcode.ErrorCoder
	if !errors.As(err, &coded) {
		err = errcode.ErrorCodeUnknown.WithMessage("the image can't be read; the server's log says why")
	}
	_ = errcode.ServeJSON(w, err) // a client that is gone hears no error
}

// Of the blobs and manifests that are not there, clients are told the name and
// nothing of the repository.
var (
	errNameUnknown     = v2.ErrorCodeNameUnknown
	errManifestUnknown = v2.ErrorCodeManifestUnknown
	errBlobUnknown     = v2.ErrorCodeBlobUnknown
)

// isGone tells whether an error means that something is not in the repository, or not
// any more.
func isGone(err error) bool {
	return errors.Is(err, composefsrepo.ErrNotFound) || errors.Is(err, composefsrepo.ErrMissingObject) || errors.Is(err, composefsrepo.ErrIndex)
}
