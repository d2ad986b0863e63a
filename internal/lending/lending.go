// Package lending lets a process read objects of a composefs repository that it can't
// open itself: the lender, which can, opens them and passes the descriptors over a
// socket. The borrower asks for objects by their digests, one after the other, and gets
// those that it may have. Nothing that it sends is trusted.
//
// A request is a byte that says what it is, one with the length of what follows, and
// that: the raw digest of an object, or text that the borrower reports. The answer to a
// request for an object is a byte, with the descriptor; or one that says that there is
// none, two with the length of the reason, and that.
package lending

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
)

var (
	// ErrNotLent: the object is none that the borrower may have.
	ErrNotLent = errors.New("object is not one of the image")
	// ErrProtocol: the other side does not speak as it should.
	ErrProtocol = errors.New("the other process does not keep to the protocol")
)

// The first bytes of requests, and of answers.
const (
	wantObject = 'o'
	wantReport = 'r'

	answerObject  = 'f'
	answerMissing = 'm'
	answerRefused = 'e'
)

// maxReason is the length in bytes of the longest reason that is passed on.
const maxReason = 1 << 10

// Lender has the objects of an image that a borrower may have.
type Lender struct {
	image   *composefsrepo.Image
	streams map[fsverity.Digest][]int // the layers that they are the streams of
	objects []map[fsverity.Digest]struct{}
}

// NewLender returns what lends the objects of an image: the streams of its layers and,
// once the stream of a layer was asked for and is found to be intact, those that the
// layer is made of.
func NewLender(image *composefsrepo.Image) *Lender {
	l := &Lender{image: image, streams: map[fsverity.Digest][]int{}, objects: make([]map[fsverity.Digest]struct{}, len(image.Layers))}
	for i, layer := range image.Layers {
		l.streams[layer.Verity] = append(l.streams[layer.Verity], i)
	}
	return l
}

// open opens an object that may be lent.
func (l *Lender) open(ctx context.Context, d fsverity.Digest) (*os.File, error) {
	if layers, ok := l.streams[d]; ok {
		for _, i := range layers {
			if l.objects[i] != nil {
				continue
			}
			objects, err := l.image.LayerObjects(ctx, i)
			if err != nil {
				return nil, err
			}
			l.objects[i] = objects
		}
	} else if !l.lends(d) {
		return nil, ErrNotLent
	}
	f, _, err := l.image.OpenObject(d)
	return f, err
}

func (l *Lender) lends(d fsverity.Digest) bool {
	for _, objects := range l.objects {
		if _, ok := objects[d]; ok {
			return true
		}
	}
	return false
}

// Serve answers a borrower's requests until it closes its end, and returns what it has
// reported, if anything. It ends with the first error: ErrProtocol, ctx's, or that of the
// socket. The caller closes conn, after ctx is done to end it.
func (l *Lender) Serve(ctx context.Context, conn *net.UnixConn) (report string, err error) {
	for {
		kind, body, err := readRequest(conn)
		switch {
		case ctx.Err() != nil:
			return report, context.Cause(ctx)
		case errors.Is(err, io.EOF):
			return report, nil
		case err != nil:
			return report, err
		case kind == wantReport:
			report = string(body)
			continue
		}
		d, err := fsverity.FromBytes(body)
		if err != nil {
			return report, fmt.Errorf("%w: %w", ErrProtocol, err)
		}
		if err := l.answer(ctx, conn, d); err != nil {
			return report, err
		}
	}
}

// readRequest reads a request. The error is io.EOF between two of them.
func readRequest(r io.Reader) (kind byte, body []byte, err error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = ErrProtocol
		}
		return 0, nil, err
	}
	if head[0] != wantObject && head[0] != wantReport {
		return 0, nil, ErrProtocol
	}
	body = make([]byte, head[1])
	if _, err := io.ReadFull(r, body); err != nil {
		return 0, nil, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return head[0], body, nil
}

// answer sends an object, or why there is none.
func (l *Lender) answer(ctx context.Context, conn *net.UnixConn, d fsverity.Digest) error {
	f, err := l.open(ctx, d)
	if err != nil {
		kind := byte(answerRefused)
		if errors.Is(err, composefsrepo.ErrMissingObject) {
			kind = answerMissing
		}
		reason := err.Error()
		reason = reason[:min(len(reason), maxReason)]
		_, err := conn.Write(append(binary.BigEndian.AppendUint16([]byte{kind}, uint16(len(reason))), reason...))
		return err
	}
	defer f.Close()
	_, _, err = conn.WriteMsgUnix([]byte{answerObject}, unix.UnixRights(int(f.Fd())), nil)
	return err
}

// Borrower asks for objects. It may be used concurrently.
type Borrower struct {
	mutex sync.Mutex
	conn  *net.UnixConn
}

// NewBorrower returns a Borrower that asks over a socket, which the caller closes.
func NewBorrower(conn *net.UnixConn) *Borrower { return &Borrower{conn: conn} }

// Report tells the lender something, of 255 bytes at most.
func (b *Borrower) Report(text string) error {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.request(wantReport, []byte(text))
}

func (b *Borrower) request(kind byte, body []byte) error {
	if len(body) > 0xff {
		return fmt.Errorf("%w: %d bytes", ErrProtocol, len(body))
	}
	_, err := b.conn.Write(append([]byte{kind, byte(len(body))}, body...))
	return err
}

// Open opens an object. The caller closes it. The error wraps fs.ErrNotExist where it is
// not there.
func (b *Borrower) Open(d fsverity.Digest) (*os.File, error) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	if err := b.request(wantObject, d.Bytes()); err != nil {
		return nil, err
	}
	var kind [1]byte
	rights := make([]byte, unix.CmsgSpace(4))
	n, rightsLength, _, _, err := b.conn.ReadMsgUnix(kind[:], rights)
	if err != nil {
		return nil, err
	}
	fds, err := descriptors(rights[:rightsLength])
	if err != nil {
		return nil, err
	}
	if n == 1 && kind[0] == answerObject && len(fds) == 1 {
		return os.NewFile(uintptr(fds[0]), d.String()), nil
	}
	for _, fd := range fds {
		unix.Close(fd)
	}
	if n != 1 || kind[0] == answerObject || len(fds) > 0 {
		return nil, ErrProtocol
	}
	return nil, b.reason(kind[0])
}

// descriptors returns those that came with a message, which package net has had closed
// on exec.
func descriptors(rights []byte) ([]int, error) {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return nil, err
	}
	var all []int
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			return nil, err
		}
		all = append(all, fds...)
	}
	return all, nil
}

// reason reads why there is no object.
func (b *Borrower) reason(kind byte) error {
	var length [2]byte
	if _, err := io.ReadFull(b.conn, length[:]); err != nil {
		return err
	}
	text := make([]byte, binary.BigEndian.Uint16(length[:]))
	if _, err := io.ReadFull(b.conn, text); err != nil {
		return err
	}
	if kind == answerMissing {
		return fmt.Errorf("%s: %w", text, fs.ErrNotExist)
	}
	return errors.New(string(text))
}
