package serve

import (
	"net"
	"net/http"
	"sync"
)

// clients counts connections and bounds their number. netutil.LimitListener would,
// too, but hides behind its connections that the kernel can send files on them.
type clients struct {
	slots   chan struct{} // nil for no bound
	metrics *metrics
}

func newClients(limit int, m *metrics) *clients {
	c := &clients{metrics: m}
	if limit > 0 {
		c.slots = make(chan struct{}, limit)
	}
	return c
}

// state is told what becomes of a connection.
func (c *clients) state(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		c.metrics.clients.Add(1)
	case http.StateClosed, http.StateHijacked:
		c.metrics.clients.Add(-1)
		if c.slots != nil {
			<-c.slots
		}
	}
}

// limit returns a listener that accepts no more connections than there are slots.
func (c *clients) limit(l net.Listener) net.Listener {
	if c.slots == nil {
		return l
	}
	return &limitedListener{Listener: l, slots: c.slots, closed: make(chan struct{})}
}

type limitedListener struct {
	net.Listener
	slots  chan struct{}
	once   sync.Once
	closed chan struct{}
}

// Accept waits for a slot, and for a connection, which clients.state gives the slot
// back for.
func (l *limitedListener) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
	}
	return c, err
}

func (l *limitedListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}
