package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containers/image/v5/types"
	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/docker/go-units"
	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/skopeo-cfs/skopeo-cfs/bootc"
	"github.com/skopeo-cfs/skopeo-cfs/internal/defaultrepo"
	"github.com/skopeo-cfs/skopeo-cfs/serve"
)

type serveOptions struct {
	host      hostOptions
	listen    []string
	insecure  bool
	rate      string
	accessLog string
	originals originalsOptions
	server    serve.Options
}

func newServeCommand(global *globalOptions) *cobra.Command {
	var options serveOptions
	cmd := &cobra.Command{
		Use:   "serve [REPOSITORY]",
		Short: "Serve a composefs repository as a read-only registry",
		Long: `Serve a composefs repository as a read-only registry, from which podman, bootc, docker
and other clients pull. Without REPOSITORY, serve the default repository.

The image with the tag quay.io/org/os:42 is HOST:5000/quay.io/org/os:42. It is also
HOST:5000/org/os:42 if no other registry's image has this name, so the server can be
the mirror of a registry in registries.conf(5). On a bootc host, the images of the
deployments are served by their names, and as localhost/bootc:booted, staged and
rollback.

Images have the image IDs that they had when they were pulled. Their manifests list
the uncompressed layers, and the same image has the same digest on every host. With
--identity origin, images have their registry's manifest and digest as long as the
registry has all compressed layers. The server passes these on.

Without a certificate, the server speaks HTTP, and only to this machine. To serve HTTP
to other machines, use --insecure. Clients then need --tls-verify=false.

If systemd passes a socket, the server uses that one and ignores --listen. On SIGINT or
SIGTERM, the server finishes what it is sending, for as long as --grace, and ends.`,
		Example: `  skopeo-cfs serve &
  podman pull --tls-verify=false localhost:5000/localhost/bootc:booted

  skopeo-cfs serve --listen :5000 --tls-cert host.crt --tls-key host.key --only 'quay.io/org/*'`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeDirectory,
		RunE: func(cmd *cobra.Command, args []string) error {
			return options.run(cmd.Context(), global.systemContext(), args, cmd.OutOrStdout())
		},
	}
	options.host.addFlags(cmd.Flags())
	flags, server := cmd.Flags(), &options.server
	flags.StringArrayVar(&options.listen, "listen", []string{"127.0.0.1:5000"}, "`address` to listen on, HOST:PORT, :PORT or unix:PATH; can be given more than once")
	flags.BoolVar(&options.insecure, "insecure", false, "serve HTTP to other machines; others on the network can read and change what is sent, including passwords")
	flags.StringArrayVar(&server.Only, "only", nil, "serve only images whose NAME or NAME:TAG matches the `pattern`, in which * stands for anything except /; can be given more than once")
	flags.StringVar(&server.Certificate, "tls-cert", "", "`path` of the certificate; it is read again when it is replaced")
	flags.StringVar(&server.Key, "tls-key", "", "`path` of the certificate's key")
	flags.StringVar(&server.Passwords, "htpasswd", "", "`path` of a file with users and bcrypt hashes (htpasswd -B); clients must log in as one of them")
	flags.StringVar(&server.Tokens, "token-file", "", "`path` of a file with a token on each line; clients must send one, as bearer token or as password")
	flags.IntVar(&server.MaxClients, "max-clients", 1000, "serve at most this `number` of connections at once; others wait (0: no limit)")
	flags.StringVar(&options.rate, "rate", "", "limit for all clients together, in `bytes` a second, such as 100MB (default: no limit)")
	flags.DurationVar(&server.Grace, "grace", 30*time.Second, "`time` that clients have to finish when the server is told to stop")
	flags.StringVar(&options.accessLog, "access-log", "", "write a line for each request to the file at `path`, or to standard output if it is -")
	options.originals.addFlags(flags)
	return cmd
}

func (o *serveOptions) run(ctx context.Context, sys *types.SystemContext, args []string, stdout io.Writer) (err error) {
	if err := o.complete(args); err != nil {
		return err
	}
	if o.server.Originals, err = o.originals.open(sys, o.server.Repository); err != nil {
		return err
	}
	logged, err := o.openAccessLog(stdout)
	if err != nil {
		return err
	}
	defer logged.Close()
	o.server.Report = func(err error) { logrus.Error(oneLine(err)) }
	server, err := serve.New(ctx, o.server)
	if err != nil {
		return err
	}
	defer server.Close()
	listeners, err := o.listeners()
	if err != nil {
		return err
	}
	for _, l := range listeners {
		fmt.Fprintf(stdout, "Serving %s on %s\n", printable(o.server.Repository), o.url(l.Addr()))
	}
	_, _ = daemon.SdNotify(false, daemon.SdNotifyReady) // where nobody waits for it, nobody misses it
	return server.Serve(ctx, listeners...)
}

// complete sets what follows from several flags.
func (o *serveOptions) complete(args []string) (err error) {
	if (o.server.Certificate == "") != (o.server.Key == "") {
		return errors.New("--tls-cert and --tls-key must be given together")
	}
	if o.rate != "" {
		if o.server.Rate, err = units.FromHumanSize(o.rate); err != nil || o.server.Rate <= 0 {
			return fmt.Errorf("--rate %q: must be a number of bytes, such as 100MB", o.rate)
		}
	}
	switch {
	case len(args) > 0 && o.host.sysroot != "":
		return errors.New("--sysroot already names a repository: don't give another one")
	case len(args) > 0:
		o.server.Repository = args[0]
	case o.host.sysroot != "":
		o.server.Repository = filepath.Join(o.host.sysroot, "composefs")
	default:
		if o.server.Repository, err = defaultrepo.Path(); err != nil {
			return err
		}
	}
	return o.findHost()
}

// findHost has the deployments of the host served whose repository it is.
func (o *serveOptions) findHost() error {
	if o.host.sysroot == "" && filepath.Clean(o.server.Repository) != "/sysroot/composefs" {
		return nil
	}
	_, err := o.host.open()
	if o.host.sysroot == "" && (errors.Is(err, bootc.ErrNotBootc) || errors.Is(err, bootc.ErrOSTree) || errors.Is(err, fs.ErrNotExist)) {
		return nil
	}
	o.server.Deployments = func() (*bootc.Host, error) {
		return bootc.Open(o.host.sysroot, &bootc.Options{Root: o.host.root})
	}
	return err
}

// openAccessLog opens what each request gets a line in.
func (o *serveOptions) openAccessLog(stdout io.Writer) (io.Closer, error) {
	if o.accessLog == "" {
		return io.NopCloser(nil), nil
	}
	to, closer := stdout, io.NopCloser(nil)
	if o.accessLog != "-" {
		f, err := os.OpenFile(o.accessLog, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
		if err != nil {
			return nil, fmt.Errorf("opening the access log: %w", err)
		}
		to, closer = f, f
	}
	var mu sync.Mutex
	o.server.Log = func(a serve.Access) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintln(to, a)
	}
	return closer, nil
}

// listeners returns what to serve on: what systemd has passed, or what --listen says.
func (o *serveOptions) listeners() (_ []net.Listener, err error) {
	listeners, err := activation.Listeners()
	if err != nil {
		return nil, fmt.Errorf("taking sockets from systemd: %w", err)
	}
	listeners = slices.DeleteFunc(listeners, func(l net.Listener) bool { return l == nil }) // other descriptors
	defer func() {
		if err != nil {
			for _, l := range listeners {
				l.Close()
			}
		}
	}()
	if len(listeners) == 0 {
		for _, address := range o.listen {
			l, err := listen(address)
			if err != nil {
				return nil, err
			}
			listeners = append(listeners, l)
		}
	}
	for _, l := range listeners {
		if o.server.Certificate == "" && !o.insecure && !isLocal(l.Addr()) {
			return nil, fmt.Errorf("%s can be reached by other machines: give --tls-cert and --tls-key, or --insecure to serve HTTP to them", l.Addr())
		}
	}
	return listeners, nil
}

// listen listens on an address or, behind "unix:", at a path, where a socket that
// nobody listens on any more makes room.
func listen(address string) (net.Listener, error) {
	path, isUnix := strings.CutPrefix(address, "unix:")
	if !isUnix {
		return net.Listen("tcp", address)
	}
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() == fs.ModeSocket {
		c, err := net.Dial("unix", path)
		if err == nil {
			c.Close()
			return nil, fmt.Errorf("another program serves on %q", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	return net.Listen("unix", path)
}

// isLocal tells whether only this machine reaches an address.
func isLocal(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return !ok || tcp.IP.IsLoopback()
}

// url returns an address as users type it.
func (o *serveOptions) url(a net.Addr) string {
	switch {
	case a.Network() == "unix":
		return "unix:" + printable(a.String())
	case o.server.Certificate != "":
		return "https://" + a.String()
	}
	return "http://" + a.String()
}
