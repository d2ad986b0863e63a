package serve

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	"golang.org/x/time/rate"
)

const (
	// pieceSize is how many bytes are sent at once.
	pieceSize = 512 << 10
	// pieceTimeout is how long a client may take for a piece.
	pieceTimeout = time.Minute
)

// response is what all responses are written to: it counts, keeps to the rate, and
// gives up on clients that take nothing.
type response struct {
	http.ResponseWriter
	ctx     context.Context
	control *http.ResponseController
	limiter *rate.Limiter // nil for none
	timeout time.Duration // for a piece

	status int
	sent   int64 // bytes of the body
	user   string
}

// Unwrap is for http.ResponseController.
func (r *response) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (r *response) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (r *response) Write(p []byte) (int, error) {
	var written int
	for len(p) > 0 {
		n, err := r.ready(int64(len(p)))
		if err != nil {
			return written, err
		}
		sent, err := r.ResponseWriter.Write(p[:n])
		written += sent
		r.sent += int64(sent)
		if err != nil {
			return written, &clientError{err}
		}
		p = p[n:]
	}
	return written, nil
}

// ready waits until a piece of up to n bytes may be sent, and returns its size.
func (r *response) ready(n int64) (int64, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	n = min(n, pieceSize)
	if r.limiter != nil {
		n = min(n, int64(r.limiter.Burst()))
		if err := r.limiter.WaitN(r.ctx, int(n)); err != nil {
			return 0, err
		}
	}
	return n, r.extend()
}

// extend gives the client time for another piece, where what is written to knows of
// time.
func (r *response) extend() error {
	err := r.control.SetWriteDeadline(time.Now().Add(r.timeout))
	if errors.Is(err, http.ErrNotSupported) {
		return nil
	}
	return err
}

// sendFile implements fileSender.
func (r *response) sendFile(f *os.File, n int64) error {
	to, ok := r.ResponseWriter.(io.ReaderFrom)
	if !ok {
		_, err := io.CopyN(struct{ io.Writer }{r}, f, n)
		return err
	}
	for n > 0 {
		piece, err := r.ready(n)
		if err != nil {
			return err
		}
		sent, err := to.ReadFrom(&io.LimitedReader{R: f, N: piece})
		r.sent += sent
		if err != nil {
			return &clientError{err}
		}
		if sent < piece {
			return io.ErrUnexpectedEOF
		}
		n -= sent
	}
	return nil
}

// ReadFrom implements io.ReaderFrom. http.ServeContent comes here with a body, which
// sends itself.
func (r *response) ReadFrom(src io.Reader) (int64, error) {
	if limited, ok := src.(*io.LimitedReader); ok {
		if b, ok := limited.R.(*body); ok {
			return b.send(r, limited.N)
		}
	}
	return io.Copy(struct{ io.Writer }{r}, src)
}

// statusOf returns the status, also of a response that was not begun.
func (r *response) statusOf() int {
	if r.status == 0 {
		return http.StatusOK
	}
	return r.status
}

// clientError is what became of a client that was being sent something.
type clientError struct{ err error }

func (e *clientError) Error() string { return e.err.Error() }
func (e *clientError) Unwrap() error { return e.err }
