package serve

import (
	"crypto/tls"
	"fmt"
	"os"
	"sync"
	"time"
)

// watched is a file that is read anew when it has changed.
type watched struct {
	path  string
	found os.FileInfo
}

// changed tells whether the file is another than it was.
func (w *watched) changed() bool {
	info, err := os.Stat(w.path)
	if err != nil {
		return false // it is being replaced, or gone: what was read goes on
	}
	before := w.found
	w.found = info
	return before == nil || !os.SameFile(before, info) || before.Size() != info.Size() || !before.ModTime().Equal(info.ModTime())
}

// watchInterval is how often files are looked at.
const watchInterval = time.Second

// certificate is a certificate and its key in files that are replaced now and then.
type certificate struct {
	certificate, key watched

	mu     sync.Mutex
	looked time.Time
	pair   *tls.Certificate
}

// newCertificate reads a certificate; nil where it has no path.
func newCertificate(path, key string) (*certificate, error) {
	if path == "" && key == "" {
		return nil, nil
	}
	c := &certificate{certificate: watched{path: path}, key: watched{path: key}}
	c.certificate.changed()
	c.key.changed()
	return c, c.read()
}

func (c *certificate) read() error {
	pair, err := tls.LoadX509KeyPair(c.certificate.path, c.key.path)
	if err != nil {
		return fmt.Errorf("reading the certificate %q and its key %q: %w", c.certificate.path, c.key.path, err)
	}
	c.pair, c.looked = &pair, time.Now()
	return nil
}

// get returns the certificate as it is now. Where the files don't fit, since only one
// has been replaced yet, it is the one before.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.looked) < watchInterval {
		return c.pair, nil
	}
	c.looked = time.Now()
	changed := c.certificate.changed()
	if changed = c.key.changed() || changed; changed {
		if err := c.read(); err != nil {
			c.certificate.found, c.key.found = nil, nil // another try
		}
	}
	return c.pair, nil
}
