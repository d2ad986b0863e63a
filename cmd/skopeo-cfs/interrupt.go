package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// errInterrupted is the cause of the context's end.
var errInterrupted = errors.New("interrupted")

// repeated is how long after a signal another one is taken for the same: a key
// of the terminal reaches the process in a user namespace twice, by itself and
// passed on by the process outside.
const repeated = 500 * time.Millisecond

// interruptible returns a context that ends with SIGINT, SIGTERM or SIGHUP, so
// that what has been started is cleaned up. A second signal ends the program as
// if it knew nothing of the first. Signals that the program was started to
// ignore, as by nohup, stay ignored.
func interruptible(parent context.Context) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(parent)
	stopped := make(chan struct{})
	signals := make(chan os.Signal, 1)
	for _, s := range []os.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP} {
		if !signal.Ignored(s) {
			signal.Notify(signals, s)
		}
	}
	go func() {
		select {
		case s := <-signals:
			cancel(fmt.Errorf("%w by %s", errInterrupted, unix.SignalName(s.(unix.Signal))))
		case <-stopped:
			return
		}
		// One that was about to start may start yet.
		again, end := time.NewTicker(extractionInterval), time.After(repeated)
		defer again.Stop()
		for {
			killExtractions()
			select {
			case <-again.C:
			case <-end:
				signal.Stop(signals)
			case <-stopped:
				return
			}
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(stopped)
		cancel(nil)
	}
}

// extractionInterval is how often extractions are looked for after a signal.
const extractionInterval = 50 * time.Millisecond

// extractions are the names under which containers/storage starts this program
// again to extract a layer.
var extractions = []string{"storage-untar", "storage-applyLayer"}

// killExtractions ends the processes in which containers/storage extracts
// layers. It hears of no context, and would go on until the layer is complete.
func killExtractions() {
	lists, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		return
	}
	for _, list := range lists {
		children, err := os.ReadFile(list)
		if err != nil {
			continue
		}
		for _, child := range strings.Fields(string(children)) {
			line, _ := os.ReadFile("/proc/" + child + "/cmdline")
			name, _, _ := strings.Cut(string(line), "\x00")
			if pid, err := strconv.Atoi(child); err == nil && slices.Contains(extractions, name) {
				_ = unix.Kill(pid, unix.SIGKILL) // it may have ended by itself
			}
		}
	}
}
