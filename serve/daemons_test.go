package serve_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
	"github.com/skopeo-cfs/skopeo-cfs/internal/needs"
	"github.com/skopeo-cfs/skopeo-cfs/serve"
)

// daemon runs a program until the test ends, and returns when a client's question to it
// succeeds.
func daemon(t testing.TB, question []string, name string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	require.NoError(t, cmd.Start())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	for exec.Command(question[0], question[1:]...).Run() != nil {
		select {
		case <-ended:
			require.Fail(t, name+" has ended", "%s", &out)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// runDir returns a directory for sockets, whose paths must be short.
func runDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/run", "cfs")
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, os.RemoveAll(dir)) })
	return dir
}

// startContainerd starts containerd, and returns its socket.
func startContainerd(t testing.TB) string {
	t.Helper()
	needs.Root(t)
	needs.Tool(t, "containerd")
	dir, run := t.TempDir(), runDir(t)
	socket, config := filepath.Join(run, "containerd.sock"), filepath.Join(dir, "config.toml")
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, `version = 2
root = %q
state = %q
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = %q
[ttrpc]
address = %q
`, dir+"/root", run+"/state", socket, socket+".ttrpc"), 0o600))
	daemon(t, []string{"ctr", "-a", socket, "version"}, "containerd", "-c", config)
	return socket
}

// layouts are the images that the daemons pull.
var layouts = []string{"hello", "sizes", "mixed", "repeated", "zstd"}

func TestContainerd(t *testing.T) {
	s := start(t, serve.Options{Repository: fixtures.Unpack(t, "sha512")})
	socket := startContainerd(t)
	for _, layout := range layouts {
		name := s.host + "/localhost/" + layout + ":latest"
		// It compares what it unpacks with the diff IDs in the config.
		run(t, "ctr", "-a", socket, "images", "pull", "--snapshotter", "native", "--plain-http", name)
		served := digest.FromBytes(s.get(t, "/v2/localhost/"+layout+"/manifests/latest", "Accept", "*/*").body)
		listed := run(t, "ctr", "-a", socket, "images", "ls", "name=="+name)
		manifest := strings.Fields(strings.Split(listed, "\n")[1])[2]
		assert.Contains(t, run(t, "ctr", "-a", socket, "content", "get", manifest), fixtures.Expected(t)[layout].Config.String())
		assert.Equal(t, served.String(), manifest)
	}
	assert.NoError(t, s.reported())
}

func TestDocker(t *testing.T) {
	needs.Tool(t, "dockerd")
	s := start(t, serve.Options{Repository: fixtures.Unpack(t, "sha512")})
	containerd, dir, sockets := startContainerd(t), t.TempDir(), runDir(t)
	host := "unix://" + sockets + "/docker.sock"
	docker := func(args ...string) string { return run(t, "docker", append([]string{"-H", host}, args...)...) }
	daemon(t, []string{"docker", "-H", host, "version"}, "dockerd", "-H", host, "--containerd", containerd, "--insecure-registry", s.host,
		"--data-root", dir, "--exec-root", sockets, "--pidfile", sockets+"/pid", "--storage-driver", "vfs", "--iptables=false", "--ip6tables=false", "--bridge=none")
	for _, layout := range layouts {
		name := s.host + "/localhost/" + layout + ":latest"
		docker("pull", "-q", name)
		assert.Equal(t, fixtures.Expected(t)[layout].Config.String(), docker("image", "inspect", "--format", "{{.Id}}", name))
	}
	assert.NoError(t, s.reported())
}
