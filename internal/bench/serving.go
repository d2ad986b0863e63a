package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/crane"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// The rows of what serving an image is compared with. Of the servers, CPU seconds and
// memory are their own, without the clients.
const (
	rowServe       = "serve"
	rowServeFirst  = "serve-first"
	rowRegistry    = "docker-registry"
	rowCatObjects  = "cat-objects"
	servingClients = 8
)

// served is how the servers call the image.
const served = "localhost/generated:latest"

// serving measures how an image is served to several clients at once.
func (b *bench) serving(ctx context.Context, results *Results) (err error) {
	r, err := b.generate(ctx, "serving", b.spec)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.remove()) }()
	ours := server{line: []string{b.command, "serve", "--listen", "127.0.0.1:0", r.path}}

	g := newGroup(fmt.Sprintf("Serving an image to %d clients at once, with what the server takes", servingClients), b.spec, rowServe)
	g.addRow(rowServe, "skopeo-cfs serve")
	g.addRow(rowServeFirst, "the first client alone, while the layers are checked")
	g.addRow(rowCatObjects, fmt.Sprintf("cat of the objects, %d times", servingClients)).Limit = true
	results.Serving = g
	var other *server
	if program, err := exec.LookPath("docker-registry"); err == nil {
		g.addRow(rowRegistry, "docker-registry, with the same layers")
		dir := filepath.Join(b.disk.path, "registry")
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
		if other, err = newRegistry(ctx, program, dir, ours); err != nil {
			return err
		}
	} else {
		say("no docker-registry to compare with: %v", err)
	}
	for i := range b.runs {
		say("serving: run %d of %d", i+1, b.runs)
		run, err := b.measure(ctx, one("sh", "-c", `for i in $(seq "$2"); do xargs -0 cat <"$1" >/dev/null; done`, "sh", r.objects(), strconv.Itoa(servingClients)))
		if err != nil {
			return err
		}
		g.add(rowCatObjects, run)
		first, all, err := ours.measure(ctx)
		if err != nil {
			return err
		}
		g.add(rowServeFirst, first)
		g.add(rowServe, all)
		if other == nil {
			continue
		}
		if _, all, err = other.measure(ctx); err != nil {
			return err
		}
		g.add(rowRegistry, all)
	}
	g.summarise()
	results.Goals = append(results.Goals,
		atLeast("serve: bytes a CPU second against cat of the objects", g.find(rowCatObjects).CPUSeconds/g.find(rowServe).CPUSeconds, 0.9, "×"))
	return nil
}

// server is a registry that is started to be measured.
type server struct {
	line    []string
	address string // "" where it prints that
}

// newRegistry returns a docker-registry that has the image which another server has.
func newRegistry(ctx context.Context, program, dir string, from server) (_ *server, err error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address := listener.Addr().String() // free, when it was closed
	if err := listener.Close(); err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "config.yml")
	text := fmt.Sprintf("version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %q}}\nhttp: {addr: %q}\n", dir, address)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	s := &server{[]string{program, "serve", config}, address}
	err = s.run(ctx, func(ctx context.Context, to *running) error {
		return from.run(ctx, func(ctx context.Context, at *running) error {
			return crane.Copy(at.address+"/"+served, to.address+"/"+served, crane.Insecure, crane.WithContext(ctx))
		})
	})
	return s, err
}

// running is a server that runs.
type running struct {
	address string
	process *os.Process
}

// run runs the server while do runs.
func (s *server) run(ctx context.Context, do func(context.Context, *running) error) (err error) {
	cmd := exec.CommandContext(ctx, s.line[0], s.line[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() {
		_ = cmd.Process.Signal(unix.SIGTERM)
		_ = cmd.Wait() // by the signal
	}()
	takePrecedence(cmd.Process.Pid)
	address := s.address
	if address == "" {
		line, err := bufio.NewReader(stdout).ReadString('\n')
		if err != nil {
			return fmt.Errorf("%q: %w", s.line, err)
		}
		_, address, _ = strings.Cut(strings.TrimSpace(line), " on http://")
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		connection, err := net.Dial("tcp", address)
		if err == nil {
			connection.Close()
			break
		}
		if ctx.Err() != nil || time.Now().After(end) {
			return fmt.Errorf("%q does not answer: %w", s.line, err)
		}
	}
	return do(ctx, &running{address, cmd.Process})
}

// measure starts the server and has one client pull the image, and then several at
// once.
func (s *server) measure(ctx context.Context) (first, all Run, err error) {
	err = s.run(ctx, func(ctx context.Context, r *running) error {
		if first, err = r.pull(ctx, 1); err != nil {
			return err
		}
		all, err = r.pull(ctx, servingClients)
		return err
	})
	return first, all, err
}

// pull has clients pull the image at once, and returns what the server has taken.
func (r *running) pull(ctx context.Context, clients int) (Run, error) {
	before, _, err := r.used()
	if err != nil {
		return Run{}, err
	}
	start := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	for range clients {
		group.Go(func() error { return r.pullOne(ctx) })
	}
	if err := group.Wait(); err != nil {
		return Run{}, fmt.Errorf("pulling the image: %w", err)
	}
	seconds := time.Since(start).Seconds()
	after, peak, err := r.used()
	return Run{Seconds: seconds, CPUSeconds: after - before, PeakMemory: peak}, err
}

// pullOne reads the image's layers, and drops them.
func (r *running) pullOne(ctx context.Context) error {
	name, tag, _ := strings.Cut(served, ":")
	base := "http://" + r.address + "/v2/" + name
	var manifest imgspecv1.Manifest
	if err := get(ctx, base+"/manifests/"+tag, func(body io.Reader) error { return json.NewDecoder(body).Decode(&manifest) }); err != nil {
		return err
	}
	for _, l := range manifest.Layers {
		if err := get(ctx, base+"/blobs/"+l.Digest.String(), func(body io.Reader) error {
			n, err := io.Copy(io.Discard, body)
			if err == nil && n != l.Size {
				err = fmt.Errorf("%d bytes instead of %d", n, l.Size)
			}
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

func get(ctx context.Context, url string, read func(io.Reader) error) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	request.Header.Set("Accept", imgspecv1.MediaTypeImageManifest)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, response.Status)
	}
	if err := read(response.Body); err != nil {
		return fmt.Errorf("%s: %w", url, err)
	}
	return nil
}

// ticks are the CPU time's units in /proc, a second's number of which is the same on
// every architecture that Linux tells of (USER_HZ).
const ticks = 100

// used returns the CPU seconds that the server has used, and the most memory that it has
// had, in bytes: proc(5).
func (r *running) used() (cpu float64, peak int64, err error) {
	dir := filepath.Join("/proc", strconv.Itoa(r.process.Pid))
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return 0, 0, err
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	for _, field := range fields[11:13] { // utime and stime
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, 0, err
		}
		cpu += float64(n) / ticks
	}
	status, err := os.ReadFile(dir + "/status")
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(status)) {
		if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &peak); err == nil {
			return cpu, peak << 10, nil
		}
	}
	return 0, 0, errors.New("/proc does not tell the peak of memory")
}
