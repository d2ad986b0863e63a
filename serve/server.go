// Package serve makes a composefs repository a read-only registry, from which ordinary
// clients pull. It implements pulling as in the OCI's distribution specification 1.1:
// tags, manifests, blobs, ranges, referrers and the catalog.
//
// A manifest lists the uncompressed layers, because the repository has only those. The
// same image has the same manifest on every host. If Originals has the manifest of the
// image's registry, clients get that one.
//
// Nothing is written to disk. A layer is put together from the repository's objects
// while it is sent, and no client gets the end of a layer that is wrong.
package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/skopeo-cfs/skopeo-cfs/bootc"
)

// Options say what is served, and to whom. All but Repository are optional.
type Options struct {
	// Repository is the path of the composefs repository. It is opened as it is
	// needed and closed again soon, so that its garbage can be collected.
	Repository string
	// Only are patterns, as of path.Match, of NAME or NAME:TAG; what matches none
	// is not served. Without any, everything is.
	Only []string
	// Deployments returns the bootc host whose repository it is. The images of its
	// deployments are served by the names in their origins, too, and as
	// localhost/bootc:booted, staged and rollback.
	Deployments func() (*bootc.Host, error)
	// Originals has images as their registries have them.
	Originals Originals

	// MaxClients is how many connections are served at once, 0 for any number;
	// others wait.
	MaxClients int
	// Rate bounds what all clients together are sent, in bytes a second; 0 is no
	// bound.
	Rate int64
	// PieceTimeout is how long a client may take for the next half a megabyte, one
	// minute if it is 0.
	PieceTimeout time.Duration
	// Grace is how long clients that are being sent something may go on after the
	// server has been told to stop.
	Grace time.Duration

	// Certificate and Key are the paths of PEM files, which are read anew when they
	// change; "" for no TLS.
	Certificate, Key string
	// Passwords is the path of a file of htpasswd's, with bcrypt hashes, and Tokens
	// that of a file with a bearer token a line; clients need one of either. They
	// are read anew when they change. "" for none.
	Passwords, Tokens string

	// Report is told what went wrong that is not a client's fault. Log is told of each
	// request when it has been answered. Both are called by several goroutines at
	// once.
	Report func(error)
	Log    func(Access)
}

// Server is a registry.
type Server struct {
	options    Options
	ctx        context.Context
	cancel     context.CancelFunc
	repository *repository
	catalogs   *catalogs
	images     *images
	checks     *checks
	originals  *originals
	encoders   encoders
	readers    chan struct{} // see body
	limiter    *rate.Limiter
	auth       *auth
	pair       *certificate
	metrics    *metrics
	clients    *clients
	handler    http.Handler
}

// New returns a registry. It looks at the files that the options name, and opens the
// repository once, so that mistakes are found. The caller closes it.
func New(ctx context.Context, options Options) (_ *Server, err error) {
	only := patterns(options.Only)
	if err := only.check(); err != nil {
		return nil, err
	}
	s := &Server{options: options, encoders: newEncoders(), readers: make(chan struct{}, maxReaders), metrics: &metrics{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.clients = newClients(options.MaxClients, s.metrics)
	s.repository = &repository{path: options.Repository, ctx: s.ctx}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	s.catalogs = newCatalogs(s.repository, only, options.Deployments, s.report)
	s.images = newImages(s.repository)
	s.checks = newChecks(s.repository, func() { s.metrics.checked.Add(1) }, s.damaged)
	s.originals = newOriginals(options.Originals, s.repository)
	if options.Rate > 0 {
		s.limiter = rate.NewLimiter(rate.Limit(options.Rate), int(min(options.Rate, pieceSize)))
	}
	if s.options.PieceTimeout == 0 {
		s.options.PieceTimeout = pieceTimeout
	}
	if s.auth, err = newAuth(options.Passwords, options.Tokens); err != nil {
		return nil, err
	}
	if s.pair, err = newCertificate(options.Certificate, options.Key); err != nil {
		return nil, err
	}
	s.handler = s.routes()
	if _, err := s.catalogs.get(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// damaged is told of a layer that did not come out right.
func (s *Server) damaged(_ layer, err error) {
	s.metrics.damaged.Add(1)
	s.report(err)
}

// Close ends what goes on in the background and closes the repository. Serve has to
// have returned.
func (s *Server) Close() {
	s.cancel()
	s.repository.close()
}

// ServeHTTP answers a request. Limits on clients and TLS are Serve's.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	answer := &response{
		ResponseWriter: w, ctx: r.Context(), control: http.NewResponseController(w),
		limiter: s.limiter, timeout: s.options.PieceTimeout,
	}
	_ = answer.extend() // an error comes again when something is sent
	if r.ContentLength != 0 {
		// Nobody wants it, and it shall not keep the connection.
		_ = answer.control.SetReadDeadline(time.Now().Add(readTimeout))
	}
	s.metrics.begin()
	complete := false
	defer func() {
		failure := recover()
		s.metrics.end(answer, complete)
		if s.options.Log != nil {
			s.options.Log(newAccess(start, r, answer, complete))
		}
		if failure != nil && failure != http.ErrAbortHandler {
			s.report(fmt.Errorf("answering %s %.200q: %v\n%s", r.Method, r.URL.Path, failure, debug.Stack()))
		}
		if failure != nil {
			panic(http.ErrAbortHandler)
		}
	}()
	answer.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	answer.Header().Set("X-Content-Type-Options", "nosniff")
	if user, ok := s.auth.admit(r); ok {
		answer.user = user
		s.handler.ServeHTTP(answer, r)
	} else {
		s.auth.refuse(answer, r)
	}
	complete = true
}

const (
	headerTimeout = 10 * time.Second
	readTimeout   = 5 * time.Second
	idleTimeout   = time.Minute
	maxHeader     = 32 << 10 // bytes
)

// Serve serves on listeners, which it closes, until ctx is done: then it takes no more
// requests, gives those under way the time of Options.Grace, and returns nil. An error
// is that of a listener.
func (s *Server) Serve(ctx context.Context, listeners ...net.Listener) error {
	server := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ConnState:         s.clients.state,
		ErrorLog:          log.New(io.Discard, "", 0), // clients' faults
	}
	if s.pair != nil {
		server.TLSConfig = &tls.Config{GetCertificate: s.pair.get, MinVersion: tls.VersionTLS12}
	}
	failed := make(chan error, len(listeners))
	var done sync.WaitGroup
	for _, l := range listeners {
		done.Add(1)
		go func() {
			defer done.Done()
			l := s.clients.limit(l)
			err := error(nil)
			if s.pair != nil {
				err = server.ServeTLS(l, "", "")
			} else {
				err = server.Serve(l)
			}
			if !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("serving on %s: %w", l.Addr(), err)
			}
		}()
	}
	var err error
	select {
	case err = <-failed:
	case <-ctx.Done():
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.options.Grace)
		_ = server.Shutdown(grace) // whoever is not done is cut off
		cancel()
	}
	server.Close()
	done.Wait()
	s.metrics.wait()
	return err
}
