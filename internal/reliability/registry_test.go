package reliability

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"
)

// loopback is a registry on loopback, over HTTP, which can keep a client waiting
// for a blob.
type loopback struct {
	host    string
	handler http.Handler

	mu   sync.Mutex
	held map[string]*heldBlob // by digest
}

// heldBlob is a blob that nobody gets until it is released.
type heldBlob struct {
	asked    chan struct{} // closed when somebody has asked for it
	once     sync.Once
	released chan struct{}
}

func newRegistry(t testing.TB) *loopback {
	t.Helper()
	r := &loopback{handler: registry.New(registry.Logger(log.New(io.Discard, "", 0))), held: map[string]*heldBlob{}}
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	r.host = strings.TrimPrefix(server.URL, "http://")
	return r
}

// ServeHTTP implements http.Handler.
func (r *loopback) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	r.mu.Lock()
	blob := r.held[request.URL.Path[strings.LastIndex(request.URL.Path, "/")+1:]]
	r.mu.Unlock()
	if blob != nil && request.Method == http.MethodGet {
		blob.once.Do(func() { close(blob.asked) })
		<-blob.released
	}
	r.handler.ServeHTTP(w, request)
}

// pulled is an image as podman pulls it.
func (r *loopback) pulled(i image) image {
	i.manifest = "" // its layers are compressed there
	i.name = r.host + "/" + i.name + ":latest"
	return i
}

// push puts an image into the registry.
func (r *loopback) push(s *suite, i image) error {
	st := &store{suite: s}
	return st.start(i, "docker://"+r.host+"/"+i.name+":latest", "--dest-tls-verify=false").wait().mustSucceed()
}

// hold keeps the top layer of an image from clients until release is called. The
// channel is closed when a client has asked for it.
func (r *loopback) hold(i image) (asked <-chan struct{}, release func(), err error) {
	response, err := http.Get("http://" + r.host + "/v2/" + i.name + "/manifests/latest")
	if err != nil {
		return nil, nil, err
	}
	defer response.Body.Close()
	var manifest imgspecv1.Manifest
	if err := json.NewDecoder(response.Body).Decode(&manifest); err != nil {
		return nil, nil, err
	}
	if len(manifest.Layers) == 0 {
		return nil, nil, fmt.Errorf("the registry has no layers of %s", i.name)
	}
	top := manifest.Layers[len(manifest.Layers)-1].Digest.String()
	blob := &heldBlob{asked: make(chan struct{}), released: make(chan struct{})}
	r.mu.Lock()
	r.held[top] = blob
	r.mu.Unlock()
	return blob.asked, func() {
		r.mu.Lock()
		delete(r.held, top)
		r.mu.Unlock()
		close(blob.released)
	}, nil
}

// pushAll fills a registry with images.
func pushAll(t testing.TB, s *suite, all ...image) *loopback {
	t.Helper()
	r := newRegistry(t)
	for _, i := range all {
		require.NoError(t, r.push(s, i))
	}
	return r
}
