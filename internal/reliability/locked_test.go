package reliability

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var lockFaults = []fault{{
	section: endedSection, name: "waiting for a lock",
	what:  "Another program holds a lock of the store, and the copy that waits for it is sent SIGINT",
	holds: "It ends soon; nothing is left but complete layers, and a copy succeeds when the lock is free",
	run: func(t *testing.T, s *suite, y *tally) {
		for _, lock := range []string{"overlay-layers/layers.lock", "storage.lock", "overlay-images/images.lock", "overlay-containers/containers.lock"} {
			waitForLock(t, s, y, lock, true)
			if *each > 0 {
				waitForLock(t, s, y, lock, false)
			}
		}
	},
}}

// waitForLock has a copy wait for a lock, in a store that is new or has an image.
func waitForLock(t *testing.T, s *suite, y *tally, lock string, isNew bool) {
	st := s.newStore(t)
	defer st.remove(t)
	if !isNew {
		y.expect(st.copy(s.images.sibling).wait().mustSucceed(), "copying %s", s.images.sibling.name)
	}
	path := filepath.Join(st.root, lock)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	release, err := hold(path)
	if !y.expect(err, "holding %s", lock) {
		return
	}
	c := st.copy(s.images.large)
	if c.err == nil {
		waitUntilWaiting(c.Process.Pid, path)
	}
	got, took := c.endAt(unix.SIGINT, 0, 0, 1)
	y.count("waits", 1)
	y.took(took)
	release()
	if got.err == nil && got.code == 0 {
		y.see("did not need the lock")
		return
	}
	y.expect(got.mustEnd(), "SIGINT while waiting for %s", lock)
	if isNew {
		y.expect(st.nothing(t), "SIGINT while waiting for %s", lock)
	}
	y.expect(st.copy(s.images.large).wait().mustSucceed(), "when %s is free", lock)
	y.expect(st.check(), "when %s is free", lock)
	y.expect(st.holds(s.images.large), "when %s is free", lock)
}

// hold has a process hold a lock until release is called.
func hold(path string) (release func(), err error) {
	cmd := process(lockProcess, path)
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		return nil, err
	}
	return func() {
		in.Close()
		_ = cmd.Wait()
	}, nil
}

// waitUntilWaiting waits until a process has the lock's file open for a while, or
// somebody waits for the lock, or the process has ended.
func waitUntilWaiting(pid int, lock string) {
	var since time.Time
	for start := time.Now(); time.Since(start) < 5*time.Second; time.Sleep(5 * time.Millisecond) {
		if isAwaited(lock) {
			return
		}
		if !hasOpen(pid, lock) {
			since = time.Time{}
		} else if since.IsZero() {
			since = time.Now()
		} else if time.Since(since) > time.Second {
			return
		}
		if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
	}
}

// isAwaited tells whether the kernel has somebody waiting for a lock on the file.
func isAwaited(path string) bool {
	var stat unix.Stat_t
	locks, err := os.ReadFile("/proc/locks")
	if err != nil || unix.Stat(path, &stat) != nil {
		return false
	}
	for _, line := range strings.Split(string(locks), "\n") {
		if strings.Contains(line, "->") && strings.Contains(line, fmt.Sprintf(":%d ", stat.Ino)) {
			return true
		}
	}
	return false
}

// hasOpen tells whether a process has a file open.
func hasOpen(pid int, path string) bool {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, file := range files {
		if target, err := os.Readlink(file); err == nil && target == path {
			return true
		}
	}
	return false
}
