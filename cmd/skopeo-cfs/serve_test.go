package main

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/internal/bootchost"
	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
)

// startServe starts serve on a free port, or where args say, and returns where it
// serves.
func startServe(t testing.TB, args ...string) (c *command, url string) {
	t.Helper()
	c = newCommand(t, append([]string{"serve", "--listen", "127.0.0.1:0"}, args...)...)
	stdout, err := c.StdoutPipe()
	require.NoError(t, err)
	c.start(t)
	t.Cleanup(func() { c.Process.Kill() })
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err, c.stderr.String())
	_, url, ok := strings.Cut(strings.TrimSpace(line), " on ")
	require.True(t, ok, line)
	go io.Copy(io.Discard, stdout)
	return c, url
}

func getStatus(t testing.TB, url string) int {
	t.Helper()
	response, err := http.Get(url)
	require.NoError(t, err)
	defer response.Body.Close()
	_, err = io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode
}

func TestServe(t *testing.T) {
	repository := fixtures.Unpack(t, "sha256")
	log := filepath.Join(t.TempDir(), "access.log")
	c, url := startServe(t, repository, "--access-log", log, "--only", "localhost/hello", "--rate", "100MB")
	assert.Equal(t, 200, getStatus(t, url+"/v2/hello/manifests/latest"))
	assert.Equal(t, 404, getStatus(t, url+"/v2/sizes/manifests/latest"))
	copyImage(t, "docker://"+strings.TrimPrefix(url, "http://")+"/hello:latest", "dir:"+t.TempDir(), "--src-tls-verify=false").requireSuccess(t)
	require.NoError(t, c.Process.Signal(unix.SIGTERM))
	c.wait(t).requireSuccess(t)
	lines, err := os.ReadFile(log)
	require.NoError(t, err)
	assert.Contains(t, string(lines), `"GET" "/v2/hello/manifests/latest" 200`)

	// One that is killed leaves nothing that keeps the next from starting.
	socket := filepath.Join(t.TempDir(), "socket")
	for range 2 {
		c, url = startServe(t, repository, "--listen", "unix:"+socket)
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", socket) }}}
		response, err := client.Get("http://localhost/v2/")
		require.NoError(t, err)
		response.Body.Close()
		assert.Equal(t, 200, getStatus(t, url+"/v2/"))
		require.NoError(t, c.Process.Kill())
		c.Wait()
	}
}

func TestServeHost(t *testing.T) {
	host := bootchost.New(t, "sha512", bootchost.Deployment{Layout: "hello", Name: "quay.io/org/os:42"})
	c, url := startServe(t, "--sysroot", host.Sysroot)
	assert.Equal(t, 200, getStatus(t, url+"/v2/org/os/manifests/42"))
	require.NoError(t, c.Process.Signal(unix.SIGINT))
	c.wait(t).requireSuccess(t)
}

// A socket of systemd's is served instead of --listen's.
func TestServeActivated(t *testing.T) {
	needTool(t, "systemd-socket-activate")
	c := newCommand(t, "serve", fixtures.Unpack(t, "sha256"))
	socket := filepath.Join(t.TempDir(), "socket")
	activate := exec.Command("systemd-socket-activate", append([]string{"-l", socket, "-E", asCommand, "-E", "TMPDIR"}, c.Args...)...)
	activate.Env = c.Env
	require.NoError(t, activate.Start())
	t.Cleanup(func() { activate.Process.Kill(); activate.Wait() })
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", socket) }}}
	require.Eventually(t, func() bool {
		response, err := client.Get("http://localhost/v2/hello/tags/list")
		if err != nil {
			return false
		}
		response.Body.Close()
		return response.StatusCode == 200
	}, 30*time.Second, 100*time.Millisecond)
}

func TestServeRefuses(t *testing.T) {
	repository := fixtures.Unpack(t, "sha256")
	missing := filepath.Join(t.TempDir(), "missing")
	for name, c := range map[string]struct {
		args []string
		why  string
	}{
		"others without TLS": {[]string{repository, "--listen", "0.0.0.0:0"}, "--insecure"},
		"half a pair":        {[]string{repository, "--tls-cert", missing}, "together"},
		"no certificate":     {[]string{repository, "--tls-cert", missing, "--tls-key", missing}, "reading the certificate"},
		"no passwords":       {[]string{repository, "--htpasswd", missing}, "reading passwords"},
		"no repository":      {[]string{missing}, "no such file"},
		"a pattern":          {[]string{repository, "--only", "["}, "pattern"},
		"a rate":             {[]string{repository, "--rate", "fast"}, "--rate"},
		"two repositories":   {[]string{repository, "--sysroot", missing}, "--sysroot"},
		"an address":         {[]string{repository, "--listen", "nowhere"}, "nowhere"},
		"no host":            {[]string{"--sysroot", missing}, "missing"},
	} {
		t.Run(name, func(t *testing.T) {
			runCommand(t, append([]string{"serve"}, c.args...)...).assertFailure(t, c.why)
		})
	}
}
