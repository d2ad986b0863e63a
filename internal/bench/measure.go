package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Run is what one run of a way has taken.
type Run struct {
	Seconds    float64 `json:"seconds"`
	CPUSeconds float64 `json:"cpuSeconds"` // of all its processes
	// PeakMemory is the largest resident set of any of its processes, in bytes.
	PeakMemory int64 `json:"peakMemory"`
	// Temporary is the largest size that its temporary files have had together,
	// in bytes.
	Temporary int64 `json:"temporary"`
	// DiskAdded is by how many bytes what it left made the disk fuller.
	DiskAdded int64 `json:"diskAdded"`
}

// commands are command lines that are run one after the other. Temporary files
// are to be in the directory tmp.
type commands func(tmp string) [][]string

// one returns a single command line.
func one(line ...string) commands {
	return func(string) [][]string { return [][]string{line} }
}

// measure runs command lines.
func (b *bench) measure(ctx context.Context, lines commands) (_ Run, err error) {
	tmp, err := os.MkdirTemp(b.disk.path, "tmp-")
	if err != nil {
		return Run{}, err
	}
	defer os.RemoveAll(tmp) // was done already if all went well
	before, err := b.disk.settle(ctx)
	if err != nil {
		return Run{}, err
	}
	var run Run
	sampler := watchSize(tmp)
	start := time.Now()
	for _, line := range lines(tmp) {
		if err = b.runCommand(ctx, tmp, line, &run); err != nil {
			break
		}
	}
	run.Seconds = time.Since(start).Seconds()
	run.Temporary = sampler.stop()
	if err != nil {
		return Run{}, err
	}
	if err := os.RemoveAll(tmp); err != nil {
		return Run{}, err
	}
	after, err := b.disk.settle(ctx)
	run.DiskAdded = after - before
	return run, err
}

// runCommand runs a command line and adds to the run what it has taken. Of a
// context that ends, the processes are told as by a user who has seen enough.
func (b *bench) runCommand(ctx context.Context, tmp string, line []string, run *Run) error {
	cmd := exec.CommandContext(ctx, line[0], line[1:]...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp, "CONTAINERS_STORAGE_CONF="+b.storageConf)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	err := cmd.Start()
	if err == nil {
		takePrecedence(cmd.Process.Pid)
		err = cmd.Wait()
	}
	if err != nil {
		return fmt.Errorf("%s: %w: %s", filepath.Base(line[0]), err, bytes.TrimSpace(stderr.Bytes()))
	}
	// The kernel adds a process's own children to it, when it has waited for them.
	usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return errors.New("this system does not tell what a process has used")
	}
	run.CPUSeconds += (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
	run.PeakMemory = max(run.PeakMemory, usage.Maxrss<<10)
	return nil
}

// takePrecedence gives a session the highest priority where the kernel schedules
// sessions, within which alone priorities of processes count then. Where it does
// not, or this is not allowed, there is nothing to be done.
func takePrecedence(leader int) {
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/autogroup", leader), []byte(strconv.Itoa(highestPriority)), 0)
}
