package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/containers/image/v5/transports"
	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/source"
	"github.com/skopeo-cfs/skopeo-cfs/transport"
	"github.com/skopeo-cfs/skopeo-cfs/tree"
)

// imageArgument says in help what IMAGE is to the commands that look into one.
const imageArgument = `IMAGE is composefs:[REPOSITORY]NAME; "composefs:" can be left out.`

// composefsName returns an image's name with its transport, which can only be one.
func composefsName(name string) (string, error) {
	const own = "composefs"
	switch prefix, _, _ := strings.Cut(name, ":"); {
	case prefix == own && strings.HasPrefix(name, own+":"):
		return name, nil
	case strings.HasPrefix(name, "docker://"), strings.Contains(name, ":") && transports.Get(prefix) != nil:
		return "", fmt.Errorf("image name %q: only images of composefs repositories can be looked into", name)
	}
	return own + ":" + name, nil
}

// withImage opens an image of a composefs repository, and calls do with it.
func withImage(ctx context.Context, global *globalOptions, name string, do func(*composefsrepo.Image) error) (err error) {
	defer func() { err = contextCause(ctx, err) }()
	name, err = composefsName(name)
	if err != nil {
		return err
	}
	ref, err := parseImageName(ctx, name)
	if err != nil {
		return err
	}
	src, err := ref.NewImageSource(ctx, global.systemContext())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	composefs, ok := src.(*source.Source)
	if !ok {
		return fmt.Errorf("image name %q: it does not belong to the transport %s", name, transport.Transport.Name())
	}
	return do(composefs.Image())
}

// contextCause returns why the context was done, if that is what an error says.
func contextCause(ctx context.Context, err error) error {
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// withTree is withImage with the image's tree.
func withTree(ctx context.Context, global *globalOptions, name string, do func(*tree.Tree) error) error {
	return withImage(ctx, global, name, func(image *composefsrepo.Image) error {
		files, err := tree.Read(ctx, image)
		if err != nil {
			return err
		}
		return do(files)
	})
}

// errNoReader: nobody reads the output any more, and has no interest in a message.
var errNoReader = errors.New("the output has no reader")

// buffered calls do with a buffer of the output, which is written when do has
// returned.
func buffered(stdout io.Writer, do func(io.Writer) error) error {
	out := bufio.NewWriterSize(stdout, 64<<10)
	err := do(out)
	if flushErr := out.Flush(); err == nil {
		err = flushErr
	}
	return noReader(err)
}

// noReader returns errNoReader where that is what the error comes to.
func noReader(err error) error {
	if errors.Is(err, unix.EPIPE) {
		return errNoReader
	}
	return err
}
