package faults

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containers/storage/pkg/reexec"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/internal/needs"
)

func TestMain(m *testing.M) {
	if reexec.Init() {
		return
	}
	os.Exit(m.Run())
}

// runSh runs a shell script with a fault.
func runSh(t *testing.T, f Fault, script string) (r Result, output string, err error) {
	t.Helper()
	needs.Root(t)
	var out bytes.Buffer
	cmd := exec.Command("sh", "-c", script)
	cmd.Dir = f.Dir
	cmd.Stdout, cmd.Stderr = &out, &out
	r, err = f.Run(cmd)
	return r, out.String(), err
}

func TestOperationsAreCountedInTheDirectoryAlone(t *testing.T) {
	dir := t.TempDir()
	r, output, err := runSh(t, Fault{Dir: dir, Err: unix.EIO}, "echo x > a; mv a b; cat b; echo y > ../c; rm ../c")
	require.NoError(t, err, output)
	assert.Equal(t, "x\n", output)
	assert.Zero(t, r.Hit)
	assert.Equal(t, 1, count(r.Calls, "write"), "%q", r.Calls)
	assert.Equal(t, 0, count(r.Calls, "unlinkat")+count(r.Calls, "unlink"), "%q", r.Calls)
	assert.Positive(t, count(r.Calls, "read"))
}

func count(calls []Call, name string) (n int) {
	for _, c := range calls {
		if c.Name == name {
			n++
		}
	}
	return n
}

func TestTheChosenOperationFails(t *testing.T) {
	dir := t.TempDir()
	r, output, err := runSh(t, Fault{Dir: dir, Err: unix.EIO}, "mkdir a; mkdir b; mkdir c")
	require.NoError(t, err, output)
	at := slices.IndexFunc(r.Calls, func(c Call) bool { return c.Name == "mkdir" }) + 1
	for _, d := range []string{"a", "b", "c"} {
		require.NoError(t, os.Remove(filepath.Join(dir, d)))
	}
	r, output, err = runSh(t, Fault{Dir: dir, Err: unix.EIO, At: at}, "mkdir a; mkdir b; mkdir c")
	require.NoError(t, err)
	assert.Contains(t, output, "Input/output error")
	assert.Equal(t, Call{"mkdir", dir + "/a"}, r.Hit)
	assert.NoDirExists(t, filepath.Join(dir, "a"))
	assert.DirExists(t, filepath.Join(dir, "b"))
	require.NoError(t, os.Remove(filepath.Join(dir, "b")))

	_, output, err = runSh(t, Fault{Dir: dir, Err: unix.EIO, At: at, Stays: true}, "mkdir a; mkdir b")
	assert.Error(t, err)
	assert.Equal(t, 2, strings.Count(output, "Input/output error"), output)
	assert.NoDirExists(t, filepath.Join(dir, "b"))
}

func TestSpaceAndEndOfFile(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "file"), []byte("content"), 0o600))
	r, output, err := runSh(t, Fault{Dir: dir, Err: unix.ENOSPC, At: 1}, "cat file; echo x > new")
	assert.Error(t, err)
	assert.Contains(t, output, "content")
	assert.Equal(t, dir+"/new", r.Hit.File)
	r, output, err = runSh(t, Fault{Dir: dir, At: 1}, "cat file")
	require.NoError(t, err)
	assert.Empty(t, output)
	assert.Equal(t, Call{"read", dir + "/file"}, r.Hit)
}

func TestFailedCloseCloses(t *testing.T) {
	dir := t.TempDir()
	script := "exec 9> file; exec 9>&-; ls -l /proc/self/fd | grep -c ' 9 -> .*null'; rm file"
	r, output, err := runSh(t, Fault{Dir: dir, Err: unix.EIO}, script)
	require.NoError(t, err, output)
	at := slices.IndexFunc(r.Calls, func(c Call) bool { return c.Name == "close" })
	require.GreaterOrEqual(t, at, 0, "%q", r.Calls)
	for at++; at <= len(r.Calls); at++ {
		_, output, _ = runSh(t, Fault{Dir: dir, Err: unix.EIO, At: at}, script)
		if strings.HasPrefix(output, "1") {
			return
		}
	}
	t.Error("no descriptor was replaced")
}

func TestChildrenAndCommandsThatCannotBeRun(t *testing.T) {
	needs.Root(t)
	dir := t.TempDir()
	r, output, err := runSh(t, Fault{Dir: dir, Err: unix.EIO}, "(sh -c 'cat /dev/null > a' & wait)")
	require.NoError(t, err, output)
	assert.NotEmpty(t, r.Calls)
	_, err = Fault{Dir: dir}.Run(exec.Command("/does/not/exist"))
	assert.Error(t, err)
}
