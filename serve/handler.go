package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/distribution/registry/api/errcode"
	v2 "github.com/docker/distribution/registry/api/v2"
	"github.com/gorilla/mux"
	"github.com/opencontainers/go-digest"

	"github.com/distribution/reference"
)

// endpoint is a handler whose error is what the client is told.
type endpoint func(http.ResponseWriter, *http.Request) error

// routes returns the registry's endpoints: distribution's, as its own registry has
// them, and those that the OCI has added.
func (s *Server) routes() http.Handler {
	router := v2.Router().SkipClean(true)
	router.Path("/v2/{name:" + reference.NameRegexp.String() + "}/referrers/{digest:" + digest.DigestRegexp.String() + "}").Name("referrers")
	for name, e := range map[string]endpoint{
		v2.RouteNameBase:     s.base,
		v2.RouteNameManifest: s.manifest,
		v2.RouteNameTags:     s.tags,
		v2.RouteNameBlob:     s.blob,
		v2.RouteNameCatalog:  s.catalog,
		"referrers":          s.referrers,
		// Pushing.
		v2.RouteNameBlobUpload:      readOnly,
		v2.RouteNameBlobUploadChunk: readOnly,
	} {
		router.Get(name).Handler(s.handle(e))
	}
	router.Path("/metrics").HandlerFunc(s.metrics.serve)
	router.NotFoundHandler = s.handle(func(http.ResponseWriter, *http.Request) error {
		return errNameUnknown.WithDetail("no registry has such a path")
	})
	return router
}

// handle makes a handler of an endpoint.
func (s *Server) handle(e endpoint) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			e = readOnly
		}
		if err := e(w, r); err != nil {
			refuse(w, r, err)
		}
	})
}

func readOnly(http.ResponseWriter, *http.Request) error {
	return errcode.ErrorCodeUnsupported.WithDetail("the registry is read-only")
}

func (s *Server) base(w http.ResponseWriter, _ *http.Request) error {
	return sendJSON(w, "application/json", struct{}{})
}

// sendJSON sends a document.
func sendJSON(w http.ResponseWriter, mediaType string, document any) error {
	data, err := json.Marshal(document)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	_, err = w.Write(data)
	if err != nil {
		panic(http.ErrAbortHandler) // the client is gone
	}
	return nil
}

// find returns the repository that a request names, and its name.
func (s *Server) find(r *http.Request) (*entry, string, error) {
	name := mux.Vars(r)["name"]
	ctx, cancel := context.WithTimeout(r.Context(), loadTimeout)
	defer cancel()
	all, err := s.catalogs.get(ctx)
	if err != nil {
		return nil, "", s.failure(err)
	}
	e := all.find(name, r.URL.Query().Get("ns")) // containerd says of which registry it asks a mirror
	if e == nil {
		return nil, "", errNameUnknown.WithDetail(map[string]string{"name": name})
	}
	return e, name, nil
}

// failure reports an error that is not the client's, and returns it.
func (s *Server) failure(err error) error {
	if !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		s.report(err)
	}
	return err
}

// report says on the server what went wrong.
func (s *Server) report(err error) {
	if s.options.Report != nil {
		s.options.Report(err)
	}
}

func (s *Server) manifest(w http.ResponseWriter, r *http.Request) error {
	e, name, err := s.find(r)
	if err != nil {
		return err
	}
	text := mux.Vars(r)["reference"]
	var m manifest
	if d, parseErr := digest.Parse(text); parseErr == nil {
		m, err = s.manifestByDigest(r, e, name, d)
	} else {
		m, err = s.manifestByTag(r, e, name, text)
	}
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", m.mediaType)
	w.Header().Set("Vary", "Accept")
	describeBlob(w, m.digest)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(m.raw))
	return nil
}

// describeBlob sets the headers that tell the digest of what is sent.
func describeBlob(w http.ResponseWriter, d digest.Digest) {
	w.Header().Set("Docker-Content-Digest", d.String())
	w.Header().Set("Etag", `"`+d.String()+`"`)
}

// manifestByTag returns the first manifest of a tag's image that the client takes:
// its registry's, if all of it can be had, before that of the uncompressed layers.
func (s *Server) manifestByTag(r *http.Request, e *entry, name, tag string) (manifest, error) {
	key, ok := e.tags[tag]
	if !ok {
		return manifest{}, errManifestUnknown.WithDetail(map[string]string{"name": name, "tag": tag})
	}
	i, err := s.image(r, key)
	if err != nil {
		return manifest{}, err
	}
	candidates := i.manifests
	if o := s.originals.of(r.Context(), name+":"+tag, i); o != nil {
		candidates = append([]manifest{o.manifest}, candidates...)
	}
	for _, m := range candidates {
		if takesManifest(r.Header, m.mediaType) {
			return m, nil
		}
	}
	return manifest{}, errManifestUnknown.WithMessage(fmt.Sprintf("the manifest is a %s, which the client does not accept", candidates[0].mediaType))
}

// image returns the image that a key stands for.
func (s *Server) image(r *http.Request, key digest.Digest) (*image, error) {
	i, err := s.images.get(r.Context(), key)
	switch {
	case err == nil:
		return i, nil
	case isGone(err):
		return nil, errManifestUnknown.WithDetail(map[string]string{"digest": key.String()})
	}
	return nil, s.failure(err)
}

// manifestByDigest returns a manifest of the repository, whatever the client says
// that it takes.
func (s *Server) manifestByDigest(r *http.Request, e *entry, name string, d digest.Digest) (manifest, error) {
	stored := false
	var found manifest
	err := s.eachImage(r, e, d, func(tag string, i *image) bool {
		var ok bool
		if found, ok = i.manifest(d); ok {
			return true
		}
		if i.stored == d {
			stored = true
		}
		if o := s.originals.of(r.Context(), name+tag, i); o != nil && o.manifest.digest == d {
			found = o.manifest
			return true
		}
		return false
	})
	switch {
	case err != nil:
		return manifest{}, err
	case found.digest != "":
		return found, nil
	case stored:
		return manifest{}, errManifestUnknown.WithMessage("the compressed layers of this manifest are not in the repository: ask for the tag, whose manifest lists the uncompressed ones").WithDetail(map[string]string{"digest": d.String()})
	}
	return manifest{}, errManifestUnknown.WithDetail(map[string]string{"digest": d.String()})
}

// eachImage calls visit with the images of a repository, those first that are found by
// the digest hint, and with what refers to them, until it returns true. Images that
// can't be read are passed over. tag is that of the image with a colon, or "".
func (s *Server) eachImage(r *http.Request, e *entry, hint digest.Digest, visit func(tag string, i *image) bool) error {
	keys := e.keys()
	slices.SortStableFunc(keys, func(a, b digest.Digest) int {
		return boolToInt(b == hint) - boolToInt(a == hint)
	})
	tags := map[digest.Digest]string{}
	for tag, key := range e.tags {
		if old, ok := tags[key]; !ok || ":"+tag < old {
			tags[key] = ":" + tag
		}
	}
	var subjects []digest.Digest
	for _, key := range keys {
		i, err := s.images.get(r.Context(), key)
		if r.Context().Err() != nil {
			return r.Context().Err()
		}
		if err != nil {
			continue
		}
		if visit(tags[key], i) {
			return nil
		}
		subjects = append(subjects, i.digests()...)
	}
	_, err := s.eachReferrer(r, subjects, func(i *image) bool { return visit("", i) })
	return err
}

func boolToInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// tags lists the tags of a repository.
func (s *Server) tags(w http.ResponseWriter, r *http.Request) error {
	e, name, err := s.find(r)
	if err != nil {
		return err
	}
	tags := []string{}
	for tag := range e.tags {
		tags = append(tags, tag)
	}
	slices.Sort(tags)
	if tags, err = page(w, r, tags); err != nil {
		return err
	}
	return sendJSON(w, "application/json", struct {
		Name string   `json:"name"`
		Tags []string `json:"tags"`
	}{name, tags})
}

// catalog lists the repositories.
func (s *Server) catalog(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := context.WithTimeout(r.Context(), loadTimeout)
	defer cancel()
	all, err := s.catalogs.get(ctx)
	if err != nil {
		return s.failure(err)
	}
	names, err := page(w, r, all.names())
	if err != nil {
		return err
	}
	return sendJSON(w, "application/json", struct {
		Repositories []string `json:"repositories"`
	}{names})
}

// page returns the part of a sorted list that a request asks for, and tells where the
// rest is.
func page(w http.ResponseWriter, r *http.Request, list []string) ([]string, error) {
	query := r.URL.Query()
	if last := query.Get("last"); last != "" {
		at, found := slices.BinarySearch(list, last)
		list = list[at+boolToInt(found):]
	}
	if text := query.Get("n"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			return nil, v2.ErrorCodePaginationNumberInvalid.WithDetail(map[string]string{"n": text})
		}
		if n < len(list) {
			if list = list[:n]; n > 0 {
				next := url.URL{Path: r.URL.Path, RawQuery: url.Values{"n": {text}, "last": {list[n-1]}}.Encode()}
				w.Header().Set("Link", "<"+next.String()+`>; rel="next"`)
			}
		}
	}
	if list == nil {
		list = []string{}
	}
	return list, nil
}

// notModified answers a request for what the client has, and tells whether it was one.
func notModified(w http.ResponseWriter, r *http.Request) bool {
	for _, tag := range strings.Split(r.Header.Get("If-None-Match"), ",") {
		if tag = strings.TrimSpace(tag); tag != "" && (tag == "*" || strings.TrimPrefix(tag, "W/") == w.Header().Get("Etag")) {
			w.WriteHeader(http.StatusNotModified)
			return true
		}
	}
	return false
}
