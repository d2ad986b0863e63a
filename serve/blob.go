package serve

import (
	"bytes"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/gorilla/mux"
	"github.com/opencontainers/go-digest"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// smallLayer is how many bytes a layer has at most that is not sent before it has been
// checked.
const smallLayer = 1 << 20

// found is a blob that a request asks for: one of these.
type found struct {
	config   []byte
	layer    *layer
	original *original
	blob     imgspecv1.Descriptor // of the original
}

func (s *Server) blob(w http.ResponseWriter, r *http.Request) error {
	e, name, err := s.find(r)
	if err != nil {
		return err
	}
	d, err := digest.Parse(mux.Vars(r)["digest"])
	if err != nil {
		return errBlobUnknown.WithDetail(err.Error())
	}
	f, err := s.findBlob(r, e, name, d)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	switch {
	case f.original != nil:
		return s.serveOriginal(w, r, f.original, f.blob)
	case f.layer != nil:
		return s.serveLayer(w, r, *f.layer)
	default:
		describeBlob(w, d)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.config))
		return nil
	}
}

// findBlob finds a blob among those of a repository's images.
func (s *Server) findBlob(r *http.Request, e *entry, name string, d digest.Digest) (found, error) {
	var f found
	err := s.eachImage(r, e, "", func(tag string, i *image) bool {
		if i.configDigest == d {
			f.config = i.config
			return true
		}
		if l, ok := i.layers[d]; ok {
			f.layer = &l
			return true
		}
		if o := s.originals.of(r.Context(), name+tag, i); o != nil {
			if blob, ok := o.blobs[d]; ok {
				f.original, f.blob = o, blob
				return true
			}
		}
		return false
	})
	if err == nil && f.config == nil && f.layer == nil && f.original == nil {
		err = errBlobUnknown.WithDetail(map[string]string{"digest": d.String()})
	}
	return f, err
}

// serveLayer sends a layer, or the range of it that is asked for.
func (s *Server) serveLayer(w http.ResponseWriter, r *http.Request, l layer) error {
	describeBlob(w, l.digest)
	if l.isTar {
		w.Header().Set("Vary", "Accept-Encoding")
	}
	// Several ranges would each have the stream read anew.
	if strings.Contains(r.Header.Get("Range"), ",") {
		r.Header.Del("Range")
	}
	if r.Method == http.MethodHead {
		http.ServeContent(w, r, "", time.Time{}, &body{layer: l})
		return nil
	}
	if notModified(w, r) {
		return nil
	}
	stream, err := openStream(r.Context(), s.repository, l)
	if err != nil {
		s.images.forget(l.image) // its stream may be another by now
		if isGone(err) {
			return errBlobUnknown.WithDetail(map[string]string{"digest": l.digest.String()})
		}
		return s.failure(err)
	}
	algorithm := stream.Algorithm()
	stream.Close()
	c := s.checks.begin(l)
	defer s.checks.leave(c)
	b := &body{ctx: r.Context(), repository: s.repository, layer: l, algorithm: algorithm, check: c, readers: s.readers}
	if err := prepare(r, l, c); err != nil {
		return err
	}
	if s.sendEncoded(w, r, b) {
		return nil
	}
	http.ServeContent(w, r, "", time.Time{}, b)
	s.end(b)
	return nil
}

// prepare returns the error of a layer that is known to be wrong. For a range, it has
// the layer checked first; a small one, too, so that the client is told what is wrong.
func prepare(r *http.Request, l layer, c *check) error {
	isRange := r.Header.Get("Range") != ""
	if !isRange && l.size > smallLayer {
		_, err := c.result()
		return err
	}
	ix, err := c.wait(r.Context())
	if err == nil && isRange && ix.layout == nil {
		r.Header.Del("Range") // where the range lies is not known
	}
	return err
}

// sendEncoded sends a whole layer with zstd if the client takes that, and tells
// whether it did.
func (s *Server) sendEncoded(w http.ResponseWriter, r *http.Request, b *body) bool {
	if !b.layer.isTar || r.Header.Get("Range") != "" || !takesZstd(r.Header) {
		return false
	}
	encoder := s.encoders.take(w)
	if encoder == nil {
		return false
	}
	defer s.encoders.giveBack(encoder)
	w.Header().Set("Content-Encoding", "zstd")
	w.Header().Set("Etag", `"`+b.layer.digest.String()+`+zstd"`)
	if _, err := b.send(encoder, b.layer.size); err == nil {
		b.err = encoder.Close()
	}
	s.end(b)
	return true
}

// end breaks the connection off if the body was not sent as a whole: the client sees
// that it is too short.
func (s *Server) end(b *body) {
	if b.err == nil {
		return
	}
	if gone := (*clientError)(nil); b.ctx.Err() == nil && !errors.As(b.err, &gone) {
		s.report(b.err)
	}
	panic(http.ErrAbortHandler)
}
