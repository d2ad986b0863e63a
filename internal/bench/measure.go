package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Run is what one run of a way has taken.
type Run struct {
	Seconds    float64 `json:"seconds"`
	CPUSeconds float64 `json:"cpuSeconds"` // of all its processes
	// PeakMemory is the most memory that all its processes have had together, in
	// bytes, without what the kernel caches of files. Where they could not be put
	// into a control group, it is the largest resident set of any of them.
	PeakMemory int64 `json:"peakMemory"`
	// PeakKernel is the most that the kernel kept for them, in bytes, with names and
	// inodes that it can forget; 0 where that is not known.
	PeakKernel int64 `json:"peakKernel,omitempty"`
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
		if err = b.runInGroup(ctx, tmp, line, &run); err != nil {
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

const memoryInterval = 5 * time.Millisecond

// runInGroup runs a command line and adds to the run what it has taken.
func (b *bench) runInGroup(ctx context.Context, tmp string, line []string, run *Run) (err error) {
	if b.whyNoGroups != nil {
		return b.runCommand(ctx, tmp, line, run)
	}
	group, err := newCgroup()
	if err != nil {
		return fmt.Errorf("making a control group: %w", err)
	}
	defer func() { err = errors.Join(err, group.remove()) }()
	var peak memory
	var sampleErr error
	samples := sample(memoryInterval, func() {
		now, err := group.memory()
		peak, sampleErr = peak.max(now), errors.Join(sampleErr, err)
	})
	before := *run
	err = b.runCommand(ctx, tmp, group.start(line), run)
	samples.stop()
	run.PeakMemory, run.PeakKernel = max(before.PeakMemory, peak.used), max(before.PeakKernel, peak.kernel)
	return errors.Join(err, sampleErr)
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
		return fmt.Errorf("%q: %w: %s", line, err, bytes.TrimSpace(stderr.Bytes()))
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
