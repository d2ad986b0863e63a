package reliability

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/containers/storage"
	"github.com/containers/storage/pkg/lockfile"
	"github.com/containers/storage/pkg/reexec"
)

// What the tests do with the library they do in processes of their own, as any
// program would.
const (
	checkProcess = "reliability-check"
	lockProcess  = "reliability-lock"
	putProcess   = "reliability-put"
)

func init() {
	reexec.Register(checkProcess, exitWith(checkStore))
	reexec.Register(lockProcess, exitWith(holdLock))
	reexec.Register(putProcess, exitWith(putLayer))
}

func exitWith(do func(args []string) error) func() {
	return func() {
		if err := do(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
}

// noRaces keeps the race detector, if the tests have it, from failing a process of
// the library because of the races that the library has.
const noRaces = "GORACE=exitcode=0"

// process returns one of these processes.
func process(name string, args ...string) *exec.Cmd {
	cmd := reexec.Command(append([]string{name}, args...)...)
	cmd.SysProcAttr = nil // which has it killed when the thread ends that starts it
	cmd.Env = append(os.Environ(), noRaces)
	return cmd
}

// open opens a store, of whose last change nothing is undone: it is not shut down
// afterwards.
func open(args []string) (storage.Store, error) {
	options := storage.StoreOptions{GraphRoot: args[0], RunRoot: args[1], GraphDriverName: args[2]}
	if args[3] != "" {
		options.GraphDriverOptions = []string{args[2] + ".imagestore=" + args[3]}
	}
	return storage.GetStore(options)
}

// arguments are what open takes.
func (st *store) arguments() []string { return []string{st.root, st.run, st.driver, st.additional} }

// check returns an error if the library's check of the store finds something, or
// if a layer is incomplete after it.
func (st *store) check() error {
	cmd := process(checkProcess, st.arguments()...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("the check of the store: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return st.complete()
}

func checkStore(args []string) error {
	store, err := open(args)
	if err != nil {
		return err
	}
	report, err := store.Check(storage.CheckEverything())
	if err != nil {
		return err
	}
	var all []error
	for id := range report.Layers {
		if libraryFile.MatchString("overlay/" + id) {
			delete(report.Layers, id)
		}
	}
	for _, found := range []map[string][]error{report.Layers, report.ROLayers, report.Images, report.ROImages, report.Containers} {
		for _, id := range slices.Sorted(maps.Keys(found)) {
			all = append(all, found[id]...)
		}
	}
	return errors.Join(all...)
}

// holdLock holds a lock until its standard input ends. It says when it has it.
func holdLock(args []string) error {
	lock, err := lockfile.GetLockFile(args[0])
	if err != nil {
		return err
	}
	lock.Lock()
	defer lock.Unlock()
	fmt.Println("held")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// put has a layer made that no image uses, with the given ID.
func (st *store) put(id string) error {
	cmd := process(putProcess, append(st.arguments(), id)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("making a layer: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

func putLayer(args []string) error {
	store, err := open(args)
	if err != nil {
		return err
	}
	_, _, err = store.PutLayer(args[4], "", nil, "", false, nil, bytes.NewReader(emptyLayer))
	return err
}
