package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/containers/image/v5/types"
	"github.com/containers/storage/pkg/reexec"
	"github.com/containers/storage/pkg/unshare"
	"github.com/opencontainers/go-digest"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/attached"
	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/internal/lending"
)

// The image is read here, as root, and written by a process of the user: this program,
// started with the user's credentials, which enters the user's namespace as it does
// whenever they copy into their containers-storage. It gets a parcel, and the objects of
// the image one by one, as descriptors to read from: over a socket, its standard input,
// the only file of ours that it has but for the pipes that its output goes to. It is not
// trusted with anything.

// withUser are the flags that have a meaning with --to-user. All others are for
// registries and files.
var withUser = []string{
	"to-user", "quiet", "digestfile", "preserve-digests", "image-parallel-copies", "no-zero-copy", "repair", "rearchive",
	"identity", "origin", "signatures", "remove-signatures", "src-creds", "src-username", "src-password", "src-no-creds",
	"src-registry-token", "src-authfile", "src-tls-verify", "src-cert-dir",
	"source", "target", "sysroot",
	"debug", "policy", "insecure-policy", "tmpdir", "authfile", "command-timeout", "registries.d", "registries-conf", "user-agent-prefix",
}

// recipientOptions say whose containers-storage an image is copied to.
type recipientOptions struct {
	name  string
	flags *pflag.FlagSet
}

func (o *recipientOptions) addFlags(flags *pflag.FlagSet) {
	o.flags = flags
	flags.StringVar(&o.name, "to-user", "", "copy into the containers-storage of the user with this `name`, as that user; needs root")
}

// recipient is a user into whose containers-storage an image is copied.
type recipient struct {
	name, home string
	credential syscall.Credential
}

// find returns the user. It is called before anything is done for the copy.
func (o *recipientOptions) find(to string) (*recipient, error) {
	if unshare.IsRootless() {
		return nil, fmt.Errorf("--to-user %q: needs root", o.name)
	}
	if !hasCgo {
		return nil, errors.New("--to-user needs a user namespace, and this skopeo-cfs can't make one: it was built without cgo")
	}
	var others []string
	o.flags.Visit(func(f *pflag.Flag) {
		if !slices.Contains(withUser, f.Name) {
			others = append(others, "--"+f.Name)
		}
	})
	if len(others) > 0 {
		return nil, fmt.Errorf("--to-user: can't be given together with %s", strings.Join(others, ", "))
	}
	if !strings.HasPrefix(to, "containers-storage:") {
		return nil, fmt.Errorf("--to-user: the destination must be in containers-storage:, not %q", to)
	}
	r, err := findRecipient(o.name)
	if err != nil {
		return nil, fmt.Errorf("--to-user %q: %w", o.name, err)
	}
	return r, nil
}

func findRecipient(name string) (*recipient, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return nil, errors.New("there is no such user")
	}
	r := &recipient{name: u.Username, home: u.HomeDir}
	groups, err := u.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("looking for their groups: %w", err)
	}
	var numbers []uint32
	for _, text := range append([]string{u.Uid, u.Gid}, groups...) {
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return nil, err
		}
		numbers = append(numbers, uint32(n))
	}
	r.credential = syscall.Credential{Uid: numbers[0], Gid: numbers[1], Groups: numbers[2:]}
	if r.credential.Uid == 0 {
		return nil, errors.New("it is root, whose containers-storage is the one without --to-user")
	}
	return r, nil
}

// environment returns what the user's process has for one: nothing of ours but the
// language.
func (r *recipient) environment() []string {
	env := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + r.home, "USER=" + r.name, "LOGNAME=" + r.name}
	runtimeDir := filepath.Join("/run/user", strconv.FormatUint(uint64(r.credential.Uid), 10))
	var stat unix.Stat_t
	if unix.Lstat(runtimeDir, &stat) == nil && stat.Mode&unix.S_IFMT == unix.S_IFDIR && stat.Uid == r.credential.Uid {
		env = append(env, "XDG_RUNTIME_DIR="+runtimeDir)
	}
	for _, v := range os.Environ() {
		if strings.HasPrefix(v, "LANG=") || strings.HasPrefix(v, "LC_") {
			env = append(env, v)
		}
	}
	return env
}

// parcel is what the user's process gets to know.
type parcel struct {
	Reference  string // of the image, within the transport
	Image      *composefsrepo.Lent
	Original   bool // the manifest is a registry's
	Index      []byte
	Signatures []attached.Signature
	To         string

	Debug, Quiet, NoZeroCopy, Repair, Rearchive, PreserveDigests, DemandSignatures bool
	Parallel                                                                       uint
}

// runToUser is run for a copy into a user's containers-storage.
func (o *copyOptions) runToUser(ctx context.Context, from, to string, stdout io.Writer) error {
	r, err := o.recipient.find(to)
	if err != nil {
		return err
	}
	src, err := parseImageName(ctx, from)
	if err != nil {
		return err
	}
	if src.Transport().Name() != "composefs" {
		return fmt.Errorf("--to-user: the source must be in a composefs repository, not %q", from)
	}
	copied, err := o.sendToUser(ctx, src, to, r, stdout)
	var code exitCode
	if errors.As(err, &code) {
		return err // the user's process has said what is wrong
	}
	if err != nil {
		return fmt.Errorf("copying %s to %s of user %s: %w", from, to, r.name, err)
	}
	return o.writeDigestText(copied)
}

// sendToUser looks for the image's manifest and signatures, asks the policy, and has the
// user's process copy the image. It returns the digest that this has reported.
func (o *copyOptions) sendToUser(ctx context.Context, src types.ImageReference, to string, r *recipient, stdout io.Writer) (digest.Digest, error) {
	sys := o.global.systemContext()
	if err := o.source.apply(sys); err != nil {
		return "", err
	}
	policy, err := o.global.policyContext()
	if err != nil {
		return "", err
	}
	defer policy.Destroy()
	i, err := o.identity.identify(ctx, src, nil, sys)
	if err != nil {
		return "", err
	}
	if !o.quiet {
		i.tell(o.identity.asked())
	}
	s, err := o.gather(ctx, i, src, sys)
	if err != nil {
		return "", err
	}
	opened, err := openComposefs(ctx, i.ref, sys)
	if err != nil {
		return "", err
	}
	defer opened.Close()
	image := opened.Image()
	if err := attached.Signed(ctx, policy, opened.Reference(), image.Manifest, s.found, o.global.tmpDir); err != nil {
		return "", err
	}
	p := &parcel{
		Reference: opened.Reference().StringWithinTransport(), Image: image.Lend(), To: to,
		Debug: o.global.debug, Quiet: o.quiet, NoZeroCopy: o.noZeroCopy, Repair: o.mend.repair, Rearchive: o.mend.rearchive,
		PreserveDigests: o.preserveDigests, DemandSignatures: o.source.flags.Changed("signatures"), Parallel: o.parallelCopies,
	}
	if i.found != nil {
		p.Original, p.Index = i.found.Original, i.found.Index
	}
	if o.signatures && !o.signing.remove {
		p.Signatures = s.found
	}
	return r.receive(ctx, p, lending.NewLender(image), stdout)
}

// receiverEnd is how long the user's process has to end when it is told to.
const receiverEnd = 10 * time.Second

// receive starts the user's process, gives it the parcel, and lends it the image's
// objects until it ends. The error is an exitCode where the process has said on standard
// error what is wrong.
func (r *recipient) receive(ctx context.Context, p *parcel, lender *lending.Lender, stdout io.Writer) (digest.Digest, error) {
	ours, theirs, err := socketPair()
	if err != nil {
		return "", err
	}
	defer ours.Close()
	ended, end := context.WithCancel(ctx)
	defer end()
	out, messages := &spelled{out: stdout}, &spelled{out: untilDone{ended, os.Stderr}}
	cmd := reexec.CommandContext(ctx, receiver)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs, out, messages
	cmd.Env, cmd.Dir = r.environment(), "/"
	// In a session of its own it has no terminal to put input into.
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &r.credential, Setsid: true, Pdeathsig: unix.SIGKILL}
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
	cmd.WaitDelay = receiverEnd
	started, waited := make(chan error, 1), make(chan error, 1)
	go runWithoutKeys(cmd, started, waited)
	err = <-started
	theirs.Close()
	if err != nil {
		return "", fmt.Errorf("starting a process of user %s: %w", r.name, err)
	}
	stop := context.AfterFunc(ctx, func() { ours.Close() })
	defer stop()
	report, serveErr := "", writeParcel(ours, p)
	if serveErr == nil {
		report, serveErr = lender.Serve(ctx, ours)
	}
	if errors.Is(serveErr, lending.ErrProtocol) {
		_ = cmd.Process.Kill()
	}
	ours.Close()
	err = <-waited
	_, _ = out.end(), messages.end()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	case errors.As(err, &exit) && exit.Exited():
		return "", exitCode(1)
	case err != nil:
		return "", fmt.Errorf("the process of user %s: %w", r.name, errors.Join(err, serveErr))
	case serveErr != nil:
		return "", fmt.Errorf("the process of user %s: %w", r.name, serveErr)
	}
	d := digest.Digest(report)
	if err := d.Validate(); err != nil {
		return "", fmt.Errorf("the process of user %s: %w: reported digest: %w", r.name, lending.ErrProtocol, err)
	}
	return d, nil
}

// runWithoutKeys runs a program which does not have the keys that root's session has: a
// keyring of the kernel stays with whoever inherits it. That is so for the thread that
// starts the program; it has to live as long as that, which is killed at its end.
func runWithoutKeys(cmd *exec.Cmd, started, waited chan<- error) {
	runtime.LockOSThread()                   // and never unlocked, so the thread ends with the goroutine
	_, _ = unix.KeyctlJoinSessionKeyring("") // where there is none, nothing is inherited
	err := cmd.Start()
	started <- err
	if err == nil {
		waited <- cmd.Wait()
	}
}

// socketPair returns the two ends of a socket, ours and the one to pass on.
func socketPair() (*net.UnixConn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("making a socket: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "socket"), os.NewFile(uintptr(fds[1]), "socket")
	defer ours.Close()
	conn, err := net.FileConn(ours)
	if err != nil {
		theirs.Close()
		return nil, nil, fmt.Errorf("making a socket: %w", err)
	}
	return conn.(*net.UnixConn), theirs, nil
}

// writeParcel sends a parcel, behind its length.
func writeParcel(w io.Writer, p *parcel) error {
	raw, err := json.Marshal(p)
	if err != nil {
		return err
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint64(nil, uint64(len(raw))), raw...))
	return err
}

// untilDone writes until a context is done.
type untilDone struct {
	ctx context.Context
	out io.Writer
}

func (u untilDone) Write(p []byte) (int, error) {
	if u.ctx.Err() != nil {
		return len(p), nil
	}
	return u.out.Write(p)
}
