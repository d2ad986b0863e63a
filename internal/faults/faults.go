// Package faults runs a program and has one of its operations on files fail, as
// on a disk that is damaged or full. The kernel tells each system call that may
// be one (seccomp's user notification) before it carries it out. So the
// operations can be counted over all threads and child processes, on whatever
// filesystem the files are, and each can be chosen.
//
// It is for tests, needs root, and a program that uses it begins as those do that
// use package reexec of containers/storage: with reexec.Init.
package faults

import (
	"errors"
	"fmt"
	"os"
	"os/exec"

	"github.com/containers/storage/pkg/reexec"
	"golang.org/x/sys/unix"
)

// Fault is what goes wrong.
type Fault struct {
	// Dir is the directory in which operations count: an absolute path without
	// symlinks.
	Dir string
	// Chroots: operations of processes in a mount namespace of their own count,
	// too. Their paths say nothing. In such processes containers/storage extracts
	// layers.
	Chroots bool
	// Err is how the operation fails. With ENOSPC and EDQUOT only those count
	// that can need space. With 0 only reads count, and the read says that the
	// file ends.
	Err unix.Errno
	// At is which operation fails, counted from 1; 0 for none.
	At int
	// Stays: all later ones fail, too.
	Stays bool
}

// Result is what was seen while the program ran.
type Result struct {
	Calls []Call // the system calls that counted, in order
	Hit   Call   // the first that failed; its name is "" if none has
}

// Call is a system call on a file.
type Call struct {
	Name string
	File string // its path, as the process sees it
}

func (c Call) String() string { return c.Name + " " + c.File }

// Run runs the command until it and all its children have ended, with the fault.
// The error is the command's, or that it could not be run so.
func (f Fault) Run(cmd *exec.Cmd) (Result, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return Result{}, fmt.Errorf("preparing %s: %w", cmd.Path, err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "socket"), os.NewFile(uintptr(pair[1]), "socket")
	defer ours.Close()
	defer theirs.Close()
	if len(cmd.ExtraFiles) > 0 {
		return Result{}, errors.New("a command with a fault takes no files")
	}
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.Args = append([]string{startName, cmd.Path}, cmd.Args...)
	cmd.Path = reexec.Self()
	if err := cmd.Start(); err != nil {
		return Result{}, err
	}
	theirs.Close()
	listener, err := receiveFile(ours)
	if err != nil {
		return Result{}, errors.Join(fmt.Errorf("starting with a fault: %w", err), cmd.Wait())
	}
	defer listener.Close()
	s := newSupervisor(f, listener)
	ended := make(chan error, 1)
	go func() { ended <- s.serve() }()
	err = cmd.Wait()
	return s.result, errors.Join(err, <-ended)
}
