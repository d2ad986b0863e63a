package serve_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/repomaker"
	"github.com/skopeo-cfs/skopeo-cfs/serve"
)

// Whatever a client asks for, it gets what a digest says, an answer of its own, or an
// error of the client's; never the server's.
func FuzzRequest(f *testing.F) {
	path := f.TempDir()
	repo, err := repomaker.Create(path, fsverity.SHA256, repomaker.Options{})
	if err != nil {
		f.Fatal(err)
	}
	added, err := repo.AddImage("localhost/os:1", repomaker.Image{Layers: []repomaker.Layer{{Tar: strings.NewReader(string(tarOf(f, "file", make([]byte, 5000))))}}})
	if err != nil {
		f.Fatal(err)
	}
	s, err := serve.New(f.Context(), serve.Options{Repository: path, Report: func(err error) { f.Errorf("reported: %v", err) }})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(s.Close)
	blob := "/v2/os/blobs/" + added.Layers[0].Digest.String()
	for _, seed := range [][3]string{
		{"/v2/", "", ""}, {"/v2/os/manifests/1", "*/*", ""}, {blob, "", "bytes=0-10"}, {blob, "", "bytes=-1"},
		{blob, "", "bytes=99999999999999999999-"}, {"/v2/os/tags/list?n=-1&last=%00", "", ""}, {"/v2/../os", "", ""},
		{"/v2/os/manifests/1?ns=localhost", "application/vnd.oci.image.manifest.v1+json;q=0", ""},
		{"/v2/os/referrers/" + added.Manifest.Digest.String(), "", ""}, {"/metrics", "", ""}, {"/v2/_catalog?n=1", ";;q", ""},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	f.Fuzz(func(t *testing.T, path, accept, ranges string) {
		r, err := http.NewRequest(http.MethodGet, "http://host/", nil)
		if err != nil {
			t.Fatal(err)
		}
		if r.URL, err = r.URL.Parse(path); err != nil {
			return
		}
		r.RequestURI = path
		r.Header.Set("Accept", accept)
		r.Header.Set("Accept-Encoding", accept)
		r.Header.Set("Range", ranges)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code >= 500 {
			t.Errorf("%q: %d: %s", path, w.Code, w.Body)
		}
		d := w.Header().Get("Docker-Content-Digest")
		if w.Code == http.StatusOK && d != "" && w.Header().Get("Content-Encoding") == "" && digest.FromBytes(w.Body.Bytes()).String() != d {
			t.Errorf("%q: what is sent is not %s", path, d)
		}
	})
}
