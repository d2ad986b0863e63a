package serve_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
	"github.com/skopeo-cfs/skopeo-cfs/internal/repomaker"
	"github.com/skopeo-cfs/skopeo-cfs/serve"
)

func TestAuthentication(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	passwords, tokens := filepath.Join(dir, "htpasswd"), filepath.Join(dir, "tokens")
	writePassword := func(password string) {
		hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(passwords, []byte("# users\nuser:"+string(hash)+"\n"), 0o600))
	}
	writePassword("first")
	require.NoError(t, os.WriteFile(tokens, []byte("a-token-of-32-characters-or-so-1\n"), 0o600))
	s := start(t, serve.Options{Repository: fixtures.Unpack(t, "sha256"), Passwords: passwords, Tokens: tokens})
	status := func(user, password string) int {
		r, err := http.NewRequest(http.MethodGet, s.url+"/v2/", nil)
		require.NoError(t, err)
		r.SetBasicAuth(user, password)
		response, err := http.DefaultTransport.RoundTrip(r)
		require.NoError(t, err)
		response.Body.Close()
		return response.StatusCode
	}
	a := s.get(t, "/v2/hello/manifests/latest")
	assert.Equal(t, 401, a.status)
	assert.Equal(t, `Basic realm="skopeo-cfs"`, a.header.Get("WWW-Authenticate"))
	assert.Contains(t, string(a.body), "UNAUTHORIZED")
	for _, path := range []string{"/v2/_catalog", "/metrics", "/", "/v2/hello/blobs/" + fixtures.Expected(t)["hello"].Config.String()} {
		assert.Equal(t, 401, s.get(t, path).status, path)
	}
	for range 2 { // the second is remembered
		assert.Equal(t, 200, status("user", "first"))
	}
	assert.Equal(t, 401, status("user", "wrong"))
	assert.Equal(t, 401, status("nobody", "first"))
	assert.Equal(t, 401, status("userf", "irst"))
	assert.Equal(t, 200, status("anybody", "a-token-of-32-characters-or-so-1"))
	assert.Equal(t, 200, s.get(t, "/v2/", "Authorization", "bearer a-token-of-32-characters-or-so-1").status)
	for _, header := range []string{"Bearer", "Bearer ", "Bearer a-token", "Basic", "Basic !", "Digest x", "Bearer a-token-of-32-characters-or-so-2"} {
		assert.Equal(t, 401, s.get(t, "/v2/", "Authorization", header).status, header)
	}

	writePassword("second password")
	require.Eventually(t, func() bool { return status("user", "second password") == 200 }, 20*time.Second, 100*time.Millisecond)
	assert.Equal(t, 401, status("user", "first"))
	require.NoError(t, os.WriteFile(passwords, []byte("nonsense\n"), 0o600))
	time.Sleep(1100 * time.Millisecond)
	assert.Equal(t, 200, status("user", "second password"), "what can't be read is as it was")

	for content, why := range map[string]string{"user\n": "USER:HASH", "user:{SHA}abc\n": "bcrypt"} {
		require.NoError(t, os.WriteFile(passwords, []byte(content), 0o600))
		_, err := serve.New(t.Context(), serve.Options{Repository: fixtures.Unpack(t, "sha256"), Passwords: passwords})
		assert.ErrorContains(t, err, why)
	}
	_, err := serve.New(t.Context(), serve.Options{Repository: fixtures.Unpack(t, "sha256"), Tokens: filepath.Join(dir, "none")})
	assert.ErrorContains(t, err, "reading tokens")
}

// writePair writes a certificate for localhost.
func writePair(t testing.TB, certificate, key, name string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	require.NoError(t, err)
	rawKey, err := x509.MarshalECPrivateKey(private)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	require.NoError(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: rawKey}), 0o600))
}

func TestTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certificate, key := filepath.Join(dir, "crt"), filepath.Join(dir, "key")
	writePair(t, certificate, key, "first")
	repository := fixtures.Unpack(t, "sha256")
	s := start(t, serve.Options{Repository: repository, Certificate: certificate, Key: key})
	name := func() string {
		c, err := tls.Dial("tcp", s.host, &tls.Config{InsecureSkipVerify: true})
		require.NoError(t, err)
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	assert.Equal(t, "first", name())
	for _, protocols := range [][]string{{"http/1.1"}, {"h2"}} {
		transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, NextProtos: protocols}, ForceAttemptHTTP2: protocols[0] == "h2"}
		for _, layout := range []string{"sizes", "many"} {
			for _, l := range fixtures.Expected(t)[layout].Layers {
				response, err := transport.RoundTrip(newRequest(t, s.url+"/v2/"+layout+"/blobs/"+l.DiffID.String()))
				require.NoError(t, err)
				body, err := io.ReadAll(response.Body)
				response.Body.Close()
				require.NoError(t, err)
				assert.Equal(t, l.DiffID, digest.FromBytes(body), response.Proto)
			}
		}
		transport.CloseIdleConnections()
	}
	writePair(t, certificate, key, "second")
	require.Eventually(t, func() bool { return name() == "second" }, 20*time.Second, 100*time.Millisecond)
	require.NoError(t, os.WriteFile(certificate, []byte("half"), 0o600))
	time.Sleep(1100 * time.Millisecond)
	assert.Equal(t, "second", name())
	_, err := serve.New(t.Context(), serve.Options{Repository: repository, Certificate: certificate, Key: key})
	assert.ErrorContains(t, err, "reading the certificate")
}

func newRequest(t testing.TB, url string) *http.Request {
	r, err := http.NewRequest(http.MethodGet, url, nil)
	require.NoError(t, err)
	return r
}

// bigRepository makes a repository with a layer that no socket's buffer takes.
func bigRepository(t testing.TB, size int) (path string, layer repomaker.Blob) {
	t.Helper()
	path = t.TempDir()
	repo, err := repomaker.Create(path, fsverity.SHA256, repomaker.Options{})
	require.NoError(t, err)
	content := make([]byte, size)
	_, err = rand.Read(content)
	require.NoError(t, err)
	added, err := repo.AddImage("localhost/big:latest", repomaker.Image{Layers: []repomaker.Layer{{Tar: strings.NewReader(string(tarOf(t, "big", content)))}}})
	require.NoError(t, err)
	return path, added.Layers[0]
}

func (s *server) dial(t testing.TB) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", s.host)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// requireClosed demands that the server closes a connection.
func requireClosed(t testing.TB, c net.Conn, within time.Duration) {
	t.Helper()
	require.NoError(t, c.SetReadDeadline(time.Now().Add(within)))
	_, err := io.Copy(io.Discard, c)
	if err, ok := err.(net.Error); ok {
		require.False(t, err.Timeout(), "the connection stays open")
	}
}

// A client that says nothing, or takes nothing, is given up, and holds up no other.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	path, layer := bigRepository(t, 64<<20)
	s := start(t, serve.Options{Repository: path, PieceTimeout: time.Second})
	slowloris := s.dial(t)
	fmt.Fprintf(slowloris, "GET /v2/ HTTP/1.1\r\nHost: x\r\n")
	stalled := s.dial(t)
	fmt.Fprintf(stalled, "GET /v2/big/blobs/%s HTTP/1.1\r\nHost: x\r\n\r\n", layer.Digest)
	uploading := s.dial(t)
	fmt.Fprintf(uploading, "GET /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nx")
	s.manifest(t, "/v2/big/manifests/latest")
	require.Eventually(t, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, a := range s.accesses {
			if !a.Complete && a.Bytes < layer.Size {
				return true
			}
		}
		return false
	}, 30*time.Second, 50*time.Millisecond)
	requireClosed(t, slowloris, 30*time.Second)
	requireClosed(t, uploading, 30*time.Second)
	assert.NoError(t, s.reported(), "that is the clients' fault")
}

func TestHugeHeaders(t *testing.T) {
	s := start(t, serve.Options{Repository: fixtures.Unpack(t, "sha256")})
	c := s.dial(t)
	go func() {
		fmt.Fprintf(c, "GET /v2/ HTTP/1.1\r\nHost: x\r\nX: ")
		for range 1000 {
			if _, err := c.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	}()
	line, _ := bufio.NewReader(c).ReadString('\n')
	assert.Contains(t, line, "431")
	s.get(t, "/v2/"+strings.Repeat("a/", 10000)+"manifests/latest")
	a := s.get(t, "/v2/", "Accept", strings.Repeat("a/b;q=x,", 3000))
	assert.Equal(t, 200, a.status)
}

func TestMaxClients(t *testing.T) {
	t.Parallel()
	s := start(t, serve.Options{Repository: fixtures.Unpack(t, "sha256"), MaxClients: 2})
	hello := func(c net.Conn) {
		fmt.Fprintf(c, "GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n")
	}
	answered := func(c net.Conn, within time.Duration) bool {
		require.NoError(t, c.SetReadDeadline(time.Now().Add(within)))
		_, err := c.Read(make([]byte, 1))
		return err == nil
	}
	first, second, third := s.dial(t), s.dial(t), s.dial(t)
	for _, c := range []net.Conn{first, second} {
		hello(c)
		require.True(t, answered(c, time.Minute))
	}
	hello(third)
	assert.False(t, answered(third, 300*time.Millisecond), "it waits")
	first.Close()
	assert.True(t, answered(third, time.Minute))
	second.Close()
	third.Close()
	for range 5 {
		s.get(t, "/v2/", "Connection", "close")
	}
}

func TestRate(t *testing.T) {
	t.Parallel()
	path, layer := bigRepository(t, 1<<20)
	s := start(t, serve.Options{Repository: path, Rate: 512 << 10})
	begin := time.Now()
	for range 2 {
		assert.Equal(t, layer.Digest, digest.FromBytes(s.get(t, "/v2/big/blobs/"+layer.Digest.String()).body))
	}
	// 2 MiB less the burst, at half a MiB a second.
	assert.GreaterOrEqual(t, time.Since(begin), 2900*time.Millisecond)
}

// Who is being sent something when the server is told to end has it all, unless that
// takes too long.
func TestGracefulStop(t *testing.T) {
	t.Parallel()
	path, layer := bigRepository(t, 1<<20)
	for _, grace := range []time.Duration{time.Minute, 10 * time.Millisecond} {
		s := start(t, serve.Options{Repository: path, Rate: 512 << 10, Grace: grace})
		response, err := http.DefaultTransport.RoundTrip(newRequest(t, s.url+"/v2/big/blobs/"+layer.Digest.String()))
		require.NoError(t, err)
		_, err = io.ReadFull(response.Body, make([]byte, 1000))
		require.NoError(t, err)
		stopped := make(chan struct{})
		go func() { s.stop(); close(stopped) }()
		rest, err := io.ReadAll(response.Body)
		response.Body.Close()
		<-stopped
		if grace == time.Minute {
			assert.NoError(t, err)
			assert.EqualValues(t, layer.Size, len(rest)+1000)
		} else {
			assert.Error(t, err)
		}
		_, err = net.Dial("tcp", s.host)
		assert.Error(t, err)
		assert.NoError(t, s.reported())
	}
}

// Clients that come and go at any point leave nothing behind (see TestMain).
func TestClientsGoAway(t *testing.T) {
	path, layer := bigRepository(t, 8<<20)
	s := start(t, serve.Options{Repository: path})
	for i := range 50 {
		ctx, cancel := context.WithCancel(t.Context())
		r := newRequest(t, s.url+"/v2/big/blobs/"+layer.Digest.String()).WithContext(ctx)
		if i%3 == 0 {
			r.Header.Set("Accept-Encoding", "zstd")
		}
		if i%5 == 0 {
			r.Header.Set("Range", fmt.Sprintf("bytes=%d-", i*1000))
		}
		time.AfterFunc(time.Duration(i)*100*time.Microsecond, cancel)
		if response, err := http.DefaultTransport.RoundTrip(r); err == nil {
			_, _ = io.CopyN(io.Discard, response.Body, int64(i)*100000)
			response.Body.Close()
		}
		cancel()
	}
	assert.Equal(t, layer.Digest, digest.FromBytes(s.get(t, "/v2/big/blobs/"+layer.Digest.String()).body))
	assert.NoError(t, s.reported())
	assert.Contains(t, string(s.get(t, "/metrics").body), "skopeo_cfs_serve_layers_damaged_total 0\n")
}

func TestUnixSocket(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "socket"))
	require.NoError(t, err)
	path, layer := bigRepository(t, 1<<20)
	s := startOn(t, l, serve.Options{Repository: path})
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", l.Addr().String())
	}}
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(newRequest(t, "http://x/v2/big/blobs/"+layer.Digest.String()))
	require.NoError(t, err)
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	response.Body.Close()
	assert.Equal(t, layer.Digest, digest.FromBytes(body))
	assert.NoError(t, s.reported())
}

func TestAccessLog(t *testing.T) {
	s := start(t, serve.Options{Repository: fixtures.Unpack(t, "sha256")})
	fmt.Fprintf(s.dial(t), "GET /v2/hello/manifests/latest?a=%%0a%%1b[31m\x80 HTTP/1.1\r\nHost: x\r\nUser-Agent: odd\u202e\xff\r\n\r\n")
	require.Eventually(t, func() bool { s.mu.Lock(); defer s.mu.Unlock(); return len(s.accesses) == 1 }, 10*time.Second, 10*time.Millisecond)
	line := s.accesses[0].String()
	assert.Contains(t, line, `"GET" "/v2/hello/manifests/latest?a=%0a%1b[31m\x80" 200`)
	for _, r := range line {
		assert.True(t, r >= ' ' && r < 0x7f, "%q", r)
	}
}
