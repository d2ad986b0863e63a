package unpack_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/internal/reflinks"
	"github.com/skopeo-cfs/skopeo-cfs/zerocopy/unpack"
)

// Somebody writes to the files that hold the contents while the layer is
// unpacked: either that is an error, or what is stored is what the digest is of.
func TestWhatIsStoredIsWhatWasHashed(t *testing.T) {
	for filesystem, dir := range map[string]string{
		"XFS": reflinks.XFS(t), "btrfs": reflinks.Mount(t, 512<<20, "mkfs.btrfs", "-q"), "copies": t.TempDir(),
	} {
		for name, owner := range map[string]int{"own": os.Geteuid(), "another user's": 1000} {
			for way, rewrite := range map[string]func(testing.TB, string) func(byte){"write": byWriting, "mmap": byMapping} {
				t.Run(fmt.Sprint(filesystem, " ", name, " ", way), func(t *testing.T) {
					t.Parallel() // most of the time is spent waiting
					unpackWhileRewritten(t, dir, owner, rewrite)
				})
			}
		}
	}
}

const (
	rewrittenFiles  = 25
	rewrittenRounds = 10
	rewrittenSize   = 250_000
)

// unpackWhileRewritten unpacks layers whose files are rewritten meanwhile.
func unpackWhileRewritten(t *testing.T, dir string, owner int, rewrite func(testing.TB, string) func(byte)) {
	var entries []entry
	for i := range rewrittenFiles {
		entries = append(entries, file(fmt.Sprintf("f%d", i), strings.Repeat("0", rewrittenSize)))
	}
	content := makeTar(t, entries...)
	var feeds []*pieces
	for range rewrittenRounds {
		feed := splitTo(t, mkdirTemp(t, dir), content, 0)
		for _, piece := range feed.list {
			if piece.File != "" {
				require.NoError(t, os.Lchown(filepath.Join(feed.dir, piece.File), owner, -1))
			}
		}
		feeds = append(feeds, feed)
	}
	// Files that were changed just now are not taken for files at rest.
	time.Sleep(2200 * time.Millisecond)
	for _, feed := range feeds {
		var all []func(byte)
		for _, piece := range feed.list {
			if piece.File != "" {
				all = append(all, rewrite(t, filepath.Join(feed.dir, piece.File)))
			}
		}
		stop := hammer(all)
		dest := mkdirTemp(t, dir)
		result, err := unpack.Layer(t.Context(), feed, dest, unpack.Options{TempDir: dir})
		stop()
		if err == nil {
			stored := rebuild(t, result.TarSplit, dest)
			assert.Equal(t, result.Digest, digest.FromBytes(stored))
			result.TarSplit.Close()
		} else {
			assert.ErrorContains(t, err, "was changed meanwhile")
			assert.ErrorContains(t, err, feed.dir)
		}
		require.NoError(t, os.RemoveAll(dest))
	}
}

// hammer rewrites files in turn until it is stopped.
func hammer(all []func(byte)) (stop func()) {
	done := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		for value := byte(1); ; value++ {
			for _, rewrite := range all {
				select {
				case <-done:
					return
				default:
					rewrite(value)
				}
			}
		}
	})
	return func() {
		close(done)
		running.Wait()
	}
}

// byWriting returns a function that overwrites a file with one value.
func byWriting(t testing.TB, path string) func(byte) {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { f.Close() })
	return func(value byte) {
		_, err := f.WriteAt(bytes.Repeat([]byte{value}, rewrittenSize), 0)
		assert.NoError(t, err)
	}
}

// byMapping returns a function that does so through a mapping of the file.
func byMapping(t testing.TB, path string) func(byte) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	mapped, err := unix.Mmap(int(f.Fd()), 0, rewrittenSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, unix.Munmap(mapped)) })
	return func(value byte) {
		for i := range mapped {
			mapped[i] = value
		}
	}
}

func mkdirTemp(t testing.TB, in string) string {
	t.Helper()
	dir, err := os.MkdirTemp(in, "")
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, os.RemoveAll(dir)) })
	return dir
}
