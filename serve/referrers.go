package serve

import (
	"context"
	"net/http"
	"slices"

	"github.com/gorilla/mux"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxReferrers bounds the artifacts that are looked at for one request.
const maxReferrers = 1000

// digests returns the digests by which others may refer to the image.
func (i *image) digests() []digest.Digest {
	all := []digest.Digest{i.stored}
	for _, m := range i.manifests {
		if !slices.Contains(all, m.digest) {
			all = append(all, m.digest)
		}
	}
	return all
}

// eachReferrer calls visit with what refers to one of the subjects, and with what
// refers to that, until it returns true.
func (s *Server) eachReferrer(r *http.Request, subjects []digest.Digest, visit func(*image) bool) (bool, error) {
	known := map[digest.Digest]bool{}
	for len(subjects) > 0 && len(known) < maxReferrers {
		subject := subjects[0]
		subjects = subjects[1:]
		referrers, err := s.referrersOf(r, subject)
		if err != nil {
			return false, err
		}
		for _, i := range referrers {
			if known[i.key] {
				continue
			}
			known[i.key] = true
			if visit(i) {
				return true, nil
			}
			subjects = append(subjects, i.digests()...)
		}
	}
	return false, nil
}

// referrersOf returns the artifacts of the composefs repository that refer to a
// manifest.
func (s *Server) referrersOf(r *http.Request, subject digest.Digest) ([]*image, error) {
	ctx, cancel := context.WithTimeout(r.Context(), loadTimeout)
	defer cancel()
	repo, err := s.repository.take(ctx)
	if err != nil {
		return nil, s.failure(err)
	}
	keys, err := repo.Referrers(subject)
	s.repository.giveBack()
	if err != nil {
		return nil, s.failure(err)
	}
	var found []*image
	for _, key := range keys[:min(len(keys), maxReferrers)] {
		i, err := s.images.get(r.Context(), key)
		if r.Context().Err() != nil {
			return nil, r.Context().Err()
		}
		if err == nil && i.subject == subject {
			found = append(found, i)
		}
	}
	return found, nil
}

// referrers lists what refers to a manifest, as an index of images.
func (s *Server) referrers(w http.ResponseWriter, r *http.Request) error {
	e, _, err := s.find(r)
	if err != nil {
		return err
	}
	subject := digest.Digest(mux.Vars(r)["digest"])
	wanted := r.URL.Query().Get("artifactType")
	index := imgspecv1.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: imgspecv1.MediaTypeImageIndex,
		Manifests: []imgspecv1.Descriptor{},
	}
	known := map[digest.Digest]bool{}
	err = s.eachImage(r, e, "", func(_ string, i *image) bool {
		m := i.manifests[0]
		if i.subject == subject && !known[m.digest] && (wanted == "" || i.artifactType == wanted) {
			known[m.digest] = true
			index.Manifests = append(index.Manifests, imgspecv1.Descriptor{
				MediaType: m.mediaType, Digest: m.digest, Size: int64(len(m.raw)),
				ArtifactType: i.artifactType, Annotations: i.annotations,
			})
		}
		return false
	})
	if err != nil {
		return err
	}
	if wanted != "" {
		w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	return sendJSON(w, imgspecv1.MediaTypeImageIndex, index)
}
