// Command skopeo-cfs copies, inspects, compares and serves container images in composefs
// repositories. It copies them to and from all transports of containers/image.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"unicode/utf8"

	"github.com/containers/storage/pkg/reexec"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/internal/notice"
)

func main() {
	if reexec.Init() { // this process is an extraction that containers/storage has started
		return
	}
	// Writing to a pipe without a reader is an error like others, which ends list;
	// a copy goes on, where the signal would have it leave everything behind.
	signal.Notify(make(chan os.Signal, 1), unix.SIGPIPE)
	os.Exit(run(os.Args[1:]))
}

// run returns the exit code of a command line.
func run(args []string) int {
	ctx, stop := interruptible(context.Background())
	defer stop()
	notice.Handle(func(text string) { logrus.Warn(text) })
	root := newRootCommand()
	root.SetArgs(args)
	if err := root.ExecuteContext(ctx); err != nil {
		if errors.Is(err, errNoReader) {
			return 128 + int(unix.SIGPIPE) // what a shell makes of programs that the signal ends
		}
		if code := exitCode(0); errors.As(err, &code) {
			return int(code)
		}
		fmt.Fprintln(os.Stderr, "skopeo-cfs: "+oneLine(err))
		return 1
	}
	return 0
}

// oneLine returns the error's text on a line of its own, whatever names and
// contents have been quoted into it: what does not print is spelled out.
func oneLine(err error) string {
	lines := strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' || r == '\r' })
	var b strings.Builder
	for rest := strings.Join(lines, "; "); rest != ""; {
		r, size := utf8.DecodeRuneInString(rest)
		spell(&b, r, []byte(rest[:size]))
		rest = rest[size:]
	}
	return b.String()
}
