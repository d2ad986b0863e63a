package main

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
)

// newRegistry starts a registry on loopback, over HTTP, and returns where it is.
// With a password, that is demanded of the user "user".
func newRegistry(t testing.TB, password string) string {
	t.Helper()
	var handler http.Handler = registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	if password != "" {
		open := handler
		handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if user, given, ok := r.BasicAuth(); !ok || user != "user" || given != password {
				w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			open.ServeHTTP(w, r)
		})
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}
