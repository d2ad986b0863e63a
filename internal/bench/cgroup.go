package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
)

// cgroup is a control group in which memory is counted of all processes in it,
// and which has nothing else to say to them.
type cgroup struct {
	dir string
	v1  bool // of the first version of the interface
}

const controller = "memory"

// newCgroup makes a group, below that of this process where that is allowed.
func newCgroup() (*cgroup, error) {
	bases, v1, err := cgroupBases()
	if err != nil {
		return nil, err
	}
	for _, base := range bases {
		dir, mkErr := os.MkdirTemp(base, "skopeo-cfs-bench-")
		if mkErr != nil {
			err = mkErr
			continue
		}
		// Without the controller the group has no such file.
		if _, err = os.Stat(filepath.Join(dir, "memory.stat")); err == nil {
			return &cgroup{dir, v1}, nil
		}
		os.Remove(dir)
	}
	return nil, err
}

// tryCgroup returns why no group can be made, or used.
func tryCgroup() error {
	group, err := newCgroup()
	if err != nil {
		return err
	}
	_, err = group.memory()
	if err == nil {
		line := group.start([]string{"true"})
		err = exec.Command(line[0], line[1:]...).Run()
	}
	return errors.Join(err, group.remove())
}

// cgroupBases returns directories in which a group may be made, the best first.
func cgroupBases() (bases []string, v1 bool, err error) {
	mounts, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) {
		isV1 := m.FSType == "cgroup" && strings.Contains(","+m.VFSOptions+",", ","+controller+",")
		return !isV1 && m.FSType != "cgroup2", false
	})
	if err != nil {
		return nil, false, err
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, false, err
	}
	// A machine may have both, and the controller is in one of them.
	for _, m := range mounts {
		if v1 = m.FSType == "cgroup"; v1 {
			return []string{filepath.Join(m.Mountpoint, ownPath(own, controller)), m.Mountpoint}, v1, nil
		}
	}
	for _, m := range mounts {
		path := filepath.Join(m.Mountpoint, ownPath(own, ""))
		return []string{path, filepath.Dir(path), m.Mountpoint}, false, nil
	}
	return nil, false, errors.New("no control groups are mounted")
}

// ownPath returns the path of a process's group, as its file cgroup in /proc has
// it, where the controller is; "" is for the second version.
func ownPath(file []byte, controller string) string {
	for _, line := range strings.Split(string(file), "\n") {
		fields := strings.SplitN(line, ":", 3)
		if len(fields) == 3 && strings.Contains(","+fields[1]+",", ","+controller+",") {
			return fields[2]
		}
	}
	return "/"
}

// start returns a command line that runs another one in the group.
func (c *cgroup) start(line []string) []string {
	return append([]string{"sh", "-c", `echo $$ >"$0" && exec "$@"`, filepath.Join(c.dir, "cgroup.procs")}, line...)
}

// remove removes the group, when its last process has ended.
func (c *cgroup) remove() error {
	var err error
	for range 100 {
		if err = os.Remove(c.dir); err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return err
}

// memory is what a group uses, in bytes.
type memory struct {
	// used is what the kernel can't take back: the processes' own, files in memory,
	// and with the second version of groups the kernel's own for them.
	used int64
	// kernel is what the kernel keeps for them, with names and inodes that it can
	// forget.
	kernel int64
}

func (m memory) max(n memory) memory { return memory{max(m.used, n.used), max(m.kernel, n.kernel)} }

// memory returns what the group uses now.
func (c *cgroup) memory() (memory, error) {
	stat, err := c.stat()
	if err != nil {
		return memory{}, err
	}
	if c.v1 {
		kernel, err := os.ReadFile(filepath.Join(c.dir, "memory.kmem.usage_in_bytes"))
		if err != nil {
			return memory{}, err
		}
		n, err := strconv.ParseInt(string(bytes.TrimSpace(kernel)), 10, 64)
		return memory{stat["total_rss"] + stat["total_shmem"], n}, err
	}
	kernel := stat["kernel"] + stat["sock"]
	return memory{stat["anon"] + stat["shmem"] + kernel - stat["slab_reclaimable"], kernel}, nil
}

func (c *cgroup) stat() (map[string]int64, error) {
	data, err := os.ReadFile(filepath.Join(c.dir, "memory.stat"))
	if err != nil {
		return nil, err
	}
	stat := map[string]int64{}
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		name, number, _ := strings.Cut(lines.Text(), " ")
		if stat[name], err = strconv.ParseInt(number, 10, 64); err != nil {
			return nil, fmt.Errorf("memory.stat: %w", err)
		}
	}
	return stat, nil
}
