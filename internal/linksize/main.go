// Command linksize prints what linking this module adds to a program that is
// built on containers/image: to its size, and to the time before main.
package main

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

func main() {
	tags := flag.String("tags", "", "build tags")
	runs := flag.Int("runs", 20, "how often each program is started")
	flag.Parse()
	if err := run(os.Stdout, *tags, *runs); err != nil {
		fmt.Fprintln(os.Stderr, "linksize:", err)
		os.Exit(1)
	}
}

// programs are the packages that are compared, below this one, the base first.
var programs = []struct{ name, what string }{
	{"without", "containers/image alone"},
	{"transport", "with the transport"},
	{"sharing", "with the transport and zerocopy.Copy"},
}

// measured is a program's size in bytes, and the initialization of its packages.
type measured struct {
	size     int64
	packages map[string]time.Duration // by path; the shortest of all starts
}

func run(w io.Writer, tags string, runs int) error {
	work, err := os.MkdirTemp("", "linksize")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	fmt.Fprint(w, "What linking adds to a program\n\n")
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "bytes\tadded\tinit added\t")
	var base measured
	for i, p := range programs {
		m, err := measure(filepath.Join(work, p.name), p.name, tags, runs)
		if err != nil {
			return fmt.Errorf("measuring %s: %w", p.name, err)
		}
		if i == 0 {
			base = m
		}
		fmt.Fprintf(table, "%d\t%d\t%.3f ms\t  %s\n", m.size, m.size-base.size, m.added(base).Seconds()*1000, p.what)
	}
	return table.Flush()
}

// measure builds a program and starts it.
func measure(path, name, tags string, runs int) (measured, error) {
	build := exec.Command("go", "build", "-tags", tags, "-o", path, "./internal/linksize/"+name)
	if out, err := build.CombinedOutput(); err != nil {
		return measured{}, fmt.Errorf("go build: %w: %s", err, out)
	}
	info, err := os.Stat(path)
	if err != nil {
		return measured{}, err
	}
	m := measured{info.Size(), map[string]time.Duration{}}
	for range runs {
		start := exec.Command(path)
		start.Env = append(os.Environ(), "GODEBUG=inittrace=1")
		var trace bytes.Buffer
		start.Stderr = &trace
		if err := start.Run(); err != nil {
			return measured{}, fmt.Errorf("starting it: %w: %s", err, &trace)
		}
		if err := m.note(&trace); err != nil {
			return measured{}, err
		}
	}
	return m, nil
}

// note notes what the runtime tells of a start, in lines such as
//
//	init internal/bytealg @0.008 ms, 0.001 ms clock, 0 bytes, 0 allocs
func (m *measured) note(trace io.Reader) error {
	lines := bufio.NewScanner(trace)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 6 || fields[0] != "init" {
			continue
		}
		ms, err := strconv.ParseFloat(fields[4], 64)
		if err != nil {
			return fmt.Errorf("the runtime's line %q: %w", lines.Text(), err)
		}
		took := time.Duration(ms * float64(time.Millisecond))
		if known, ok := m.packages[fields[1]]; !ok || took < known {
			m.packages[fields[1]] = took
		}
	}
	return lines.Err()
}

// added returns how long packages take that base does not have.
func (m *measured) added(base measured) time.Duration {
	var sum time.Duration
	for name, took := range m.packages {
		if _, ok := base.packages[name]; !ok {
			sum += took
		}
	}
	return sum
}
