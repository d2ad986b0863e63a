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

	"github.com/containers/image/v5/copy"
	"github.com/containers/image/v5/types"
	"github.com/containers/storage/pkg/reexec"
	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"

	"github.com/skopeo-cfs/skopeo-cfs/identity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/lending"
	"github.com/skopeo-cfs/skopeo-cfs/internal/notice"
	"github.com/skopeo-cfs/skopeo-cfs/internal/sources"
	"github.com/skopeo-cfs/skopeo-cfs/source"
	"github.com/skopeo-cfs/skopeo-cfs/transport"
)

// receiver is the name under which this program is started as the process of a user
// into whose containers-storage root copies an image. In the user's namespace it has the
// name that containers/storage gives it.
const receiver = "skopeo-cfs-receive"

func init() {
	reexec.Register(receiver, receiverMain)
	reexec.Register(receiver+"-in-a-user-namespace", receiverMain)
}

func receiverMain() {
	logrus.SetLevel(logrus.WarnLevel)
	err := enterUserNamespace(nil, "containers-storage:")
	if err == nil {
		ctx, stop := interruptible(context.Background())
		notice.Handle(func(text string) { logrus.Warn(text) })
		err = receiveImage(ctx)
		stop()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "skopeo-cfs: "+oneLine(err))
		os.Exit(1)
	}
	os.Exit(0)
}

// maxParcel is the size in bytes of the largest parcel: a manifest and a config of 4 MiB
// each, an index and the signatures, in base 64, and the names of the layers' streams.
const maxParcel = 128 << 20

// receiveImage copies the image that standard input, a socket, gives access to.
func receiveImage(ctx context.Context) error {
	conn, err := net.FileConn(os.Stdin)
	if err != nil {
		return fmt.Errorf("standard input is no socket: %w", err)
	}
	defer conn.Close()
	socket, ok := conn.(*net.UnixConn)
	if !ok {
		return errors.New("standard input is another kind of socket")
	}
	p, err := readParcel(socket)
	if err != nil {
		return err
	}
	if p.Debug {
		logrus.SetLevel(logrus.DebugLevel)
	}
	borrower := lending.NewBorrower(socket)
	d, err := p.copy(ctx, borrower)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return fmt.Errorf("copying composefs:%s to %s as user %s: %w", p.Reference, p.To, os.Getenv("USER"), err)
	}
	return borrower.Report(d.String())
}

// readParcel reads a parcel from root, who is trusted.
func readParcel(r io.Reader) (*parcel, error) {
	var length uint64
	if err := binary.Read(r, binary.BigEndian, &length); err != nil {
		return nil, fmt.Errorf("reading what is to be copied: %w", err)
	}
	if length > maxParcel {
		return nil, fmt.Errorf("reading what is to be copied: %d bytes of it", length)
	}
	raw := make([]byte, length)
	if _, err := io.ReadFull(r, raw); err != nil {
		return nil, fmt.Errorf("reading what is to be copied: %w", err)
	}
	p := &parcel{}
	return p, json.Unmarshal(raw, p)
}

// copy copies the image, whose objects are borrowed, and returns its manifest's digest.
func (p *parcel) copy(ctx context.Context, borrower *lending.Borrower) (digest.Digest, error) {
	image, err := p.Image.Open(borrower.Open)
	if err != nil {
		return "", err
	}
	ref, err := transport.ParseReference(p.Reference)
	if err != nil {
		return "", err
	}
	dest, err := parseImageName(ctx, p.To)
	if err != nil {
		return "", err
	}
	// Root's policy has been asked.
	policy, err := sources.AcceptAll()
	if err != nil {
		return "", err
	}
	defer policy.Destroy()
	o := copyOptions{
		global: &globalOptions{}, quiet: p.Quiet, noZeroCopy: p.NoZeroCopy, preserveDigests: p.PreserveDigests,
		mend: mendOptions{repair: p.Repair, rearchive: p.Rearchive}, signatures: true,
	}
	options := &copy.Options{
		SourceCtx: &types.SystemContext{}, DestinationCtx: &types.SystemContext{},
		PreserveDigests: p.PreserveDigests, MaxParallelDownloads: p.Parallel,
	}
	if !p.Quiet {
		options.ReportWriter = os.Stdout
	}
	found := &identity.Found{Image: image, Original: p.Original, Index: p.Index}
	i := &identified{ref: sources.Opened(ref, source.New(ref, nil, image)), found: found}
	copied, err := o.copyIdentified(ctx, policy, dest, i, options)
	if err != nil {
		return "", o.mend.explain(err)
	}
	d := digest.FromBytes(copied)
	err = o.send(ctx, i, signatures{found: p.Signatures}, dest, d == found.Digest(), nil, nil)
	if err != nil && ctx.Err() == nil && !p.DemandSignatures {
		logrus.Warnf("The image is copied, but not its signatures: %s", oneLine(err))
		err = nil
	}
	return d, err
}
