package serve

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/docker/distribution/registry/api/errcode"
	"golang.org/x/crypto/bcrypt"

	"github.com/skopeo-cfs/skopeo-cfs/internal/beneath"
)

const (
	maxAuthFile = 1 << 20 // bytes
	maxAdmitted = 1000
)

// auth admits clients by a password or a token.
type auth struct {
	passwords, tokens watched
	secret            []byte        // of this process, for what is remembered
	slots             chan struct{} // bcrypt takes a core for a while

	mu       sync.Mutex
	looked   time.Time
	users    map[string][]byte // bcrypt hashes
	hashes   [][sha256.Size]byte
	admitted map[[sha256.Size]byte]bool // credentials that were found right
}

// newAuth reads the files of passwords and tokens; nil where there are none.
func newAuth(passwords, tokens string) (*auth, error) {
	if passwords == "" && tokens == "" {
		return nil, nil
	}
	a := &auth{
		passwords: watched{path: passwords}, tokens: watched{path: tokens},
		secret: make([]byte, sha256.Size), slots: make(chan struct{}, runtime.GOMAXPROCS(0)),
	}
	rand.Read(a.secret) // never fails
	a.passwords.changed()
	a.tokens.changed()
	return a, a.read()
}

// read reads the files.
func (a *auth) read() error {
	users, hashes := map[string][]byte{}, [][sha256.Size]byte{}
	err := eachLine(a.passwords.path, func(line string) error {
		user, hash, ok := strings.Cut(line, ":")
		if !ok || user == "" {
			return errors.New("a line is not USER:HASH")
		}
		if _, err := bcrypt.Cost([]byte(hash)); err != nil {
			return fmt.Errorf("user %q: %w: it must be a bcrypt hash (htpasswd -B)", user, err)
		}
		users[user] = []byte(hash)
		return nil
	})
	if err != nil {
		return fmt.Errorf("reading passwords from %q: %w", a.passwords.path, err)
	}
	err = eachLine(a.tokens.path, func(line string) error {
		if len(line) < 16 {
			return errors.New("a token is shorter than 16 characters")
		}
		hashes = append(hashes, sha256.Sum256([]byte(line)))
		return nil
	})
	if err != nil {
		return fmt.Errorf("reading tokens from %q: %w", a.tokens.path, err)
	}
	a.users, a.hashes, a.admitted, a.looked = users, hashes, map[[sha256.Size]byte]bool{}, time.Now()
	return nil
}

// eachLine calls visit with the lines of a file that are not empty and no comments.
func eachLine(path string, visit func(string) error) error {
	if path == "" {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return errors.Unwrap(err)
	}
	defer f.Close()
	data, err := beneath.ReadAll(f, maxAuthFile)
	if err != nil {
		return err
	}
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		if line := strings.TrimSpace(lines.Text()); line != "" && !strings.HasPrefix(line, "#") {
			if err := visit(line); err != nil {
				return err
			}
		}
	}
	return nil
}

// refresh reads the files anew if they have changed. What can't be read is as it was
// before. a.mu is held.
func (a *auth) refresh() {
	if time.Since(a.looked) < watchInterval {
		return
	}
	a.looked = time.Now()
	changed := a.passwords.path != "" && a.passwords.changed()
	if changed = a.tokens.path != "" && a.tokens.changed() || changed; changed && a.read() != nil {
		a.passwords.found, a.tokens.found = nil, nil // another try
	}
}

// admit tells whether a request comes from somebody who may, and from whom.
func (a *auth) admit(r *http.Request) (user string, ok bool) {
	if a == nil {
		return "", true
	}
	a.mu.Lock()
	a.refresh()
	users, hashes, admitted := a.users, a.hashes, a.admitted
	a.mu.Unlock()
	if token, isBearer := cutScheme(r.Header.Get("Authorization"), "Bearer"); isBearer {
		return "", hasToken(hashes, token)
	}
	user, password, ok := r.BasicAuth()
	if !ok {
		return "", false
	}
	if hasToken(hashes, password) { // from clients that can't send one otherwise
		return user, true
	}
	if len(users) == 0 {
		return "", false
	}
	mac := hmac.New(sha256.New, a.secret)
	fmt.Fprintf(mac, "%d:%s%s", len(user), user, password)
	credentials := [sha256.Size]byte(mac.Sum(nil))
	a.mu.Lock()
	known := admitted[credentials]
	a.mu.Unlock()
	if known {
		return user, true
	}
	if !a.compare(r, users, user, password) {
		return "", false
	}
	a.mu.Lock()
	if len(admitted) >= maxAdmitted {
		clear(admitted)
	}
	admitted[credentials] = true
	a.mu.Unlock()
	return user, true
}

// compare compares a password. For a user that there is not it takes as long.
func (a *auth) compare(r *http.Request, users map[string][]byte, user, password string) bool {
	select {
	case a.slots <- struct{}{}:
		defer func() { <-a.slots }()
	case <-r.Context().Done():
		return false
	}
	hash, exists := users[user]
	if !exists {
		for _, hash = range users {
			break // that of any other
		}
	}
	return bcrypt.CompareHashAndPassword(hash, []byte(password)) == nil && exists
}

// cutScheme returns what follows the scheme of an Authorization header.
func cutScheme(header, scheme string) (string, bool) {
	got, rest, _ := strings.Cut(header, " ")
	return strings.TrimSpace(rest), strings.EqualFold(got, scheme)
}

// hasToken tells whether a token is one of those with these hashes.
func hasToken(hashes [][sha256.Size]byte, token string) bool {
	hash, found := sha256.Sum256([]byte(token)), 0
	for i := range hashes {
		found |= subtle.ConstantTimeCompare(hash[:], hashes[i][:])
	}
	return found == 1
}

// refuse tells a client how to say who it is.
func (a *auth) refuse(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("WWW-Authenticate", `Basic realm="skopeo-cfs"`)
	refuse(w, r, errcode.ErrorCodeUnauthorized)
}
