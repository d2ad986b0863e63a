package beneath

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestEntries(t *testing.T) {
	dir := t.TempDir()
	want := map[string]fs.FileMode{}
	for i := range 3000 { // more than is read at once
		name := fmt.Sprintf("file with a long name, so that many don't fit, number %d", i)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), nil, 0o644))
		want[name] = 0
	}
	require.NoError(t, os.Mkdir(filepath.Join(dir, "dir"), 0o755))
	require.NoError(t, os.Symlink("dir", filepath.Join(dir, "link")))
	require.NoError(t, unix.Mkfifo(filepath.Join(dir, "fifo"), 0o644))
	socket, err := net.Listen("unix", filepath.Join(dir, "socket"))
	require.NoError(t, err)
	defer socket.Close()
	want["dir"], want["link"], want["fifo"], want["socket"] = fs.ModeDir, fs.ModeSymlink, fs.ModeNamedPipe, fs.ModeSocket

	d, err := os.Open(dir)
	require.NoError(t, err)
	defer d.Close()
	got := map[string]fs.FileMode{}
	require.NoError(t, Entries(d, func(name string, kind fs.FileMode) error {
		asked, err := statType(d, name)
		require.NoError(t, err)
		assert.Equal(t, asked, kind, name)
		got[name] = kind
		return nil
	}))
	assert.Equal(t, want, got)
}

func TestEntriesEndWithTheVisitorsError(t *testing.T) {
	d, err := os.Open("..")
	require.NoError(t, err)
	defer d.Close()
	assert.ErrorIs(t, Entries(d, func(string, fs.FileMode) error { return os.ErrPermission }), os.ErrPermission)
	file, err := os.Open("entries_test.go")
	require.NoError(t, err)
	defer file.Close()
	assert.ErrorIs(t, Entries(file, func(string, fs.FileMode) error { return nil }), unix.ENOTDIR)
}

func TestMalformedEntriesAreRefused(t *testing.T) {
	whole := append(make([]byte, direntName), "name\x00"...)
	whole[direntLength] = byte(len(whole))
	name, _, length, err := parseDirent(whole)
	require.NoError(t, err)
	assert.Equal(t, "name", name)
	assert.Equal(t, len(whole), length)
	for n := range whole {
		_, _, _, err := parseDirent(whole[:n])
		assert.Error(t, err)
	}
}
