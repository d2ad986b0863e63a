package zerocopy_test

import (
	"archive/tar"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
	"github.com/skopeo-cfs/skopeo-cfs/internal/genimage"
	"github.com/skopeo-cfs/skopeo-cfs/internal/reflinks"
	"github.com/skopeo-cfs/skopeo-cfs/internal/repomaker"
	"github.com/skopeo-cfs/skopeo-cfs/zerocopy"
)

// blocks returns how much of a filesystem is in use, in bytes.
func blocks(t testing.TB, at string) int64 {
	t.Helper()
	unix.Sync()
	var stat unix.Statfs_t
	require.NoError(t, unix.Statfs(at, &stat))
	return int64(stat.Blocks-stat.Bfree) * stat.Bsize
}

// checkCopy copies the small image both ways and compares.
func checkCopy(t testing.TB, repo, plainDir, fastDir string) zerocopy.Stats {
	t.Helper()
	plain, fast := openStore(t, plainDir, "overlay"), openStore(t, fastDir, "overlay")
	stats, err := copyFast(t, fast, repo, "image")
	require.NoError(t, err)
	require.NoError(t, copyPlain(t, plain, repo, "image"))
	sameLayers(t, plain, fast)
	assert.Equal(t, complaints(t, plain), complaints(t, fast))
	checkStaging(t, fast)
	return stats
}

func TestBlocksAreShared(t *testing.T) {
	for name, mkfs := range map[string][]string{
		"XFS":   {"mkfs.xfs", "-q", "-m", "reflink=1"},
		"btrfs": {"mkfs.btrfs", "-q"},
	} {
		t.Run(name, func(t *testing.T) {
			at := reflinks.Mount(t, 1<<30, mkfs...)
			repo, _ := generated(t, at, small)
			before := blocks(t, at)
			store := openStore(t, filepath.Join(at, "fast"), "overlay")
			stats, err := copyFast(t, store, repo, "image")
			require.NoError(t, err)
			assert.Greater(t, stats.Shared, small.Bytes*9/10)
			// Small images have much of what is not content.
			assert.Less(t, blocks(t, at)-before, small.Bytes/4)
			require.NoError(t, os.MkdirAll(filepath.Join(at, "again"), 0o755))
			checkCopy(t, repo, filepath.Join(at, "again/plain"), filepath.Join(at, "again/fast"))
		})
	}
}

// As /sysroot is on a host that bootc has booted.
func TestBlocksAreSharedThroughAReadOnlyMount(t *testing.T) {
	at := reflinks.XFS(t)
	require.NoError(t, os.Mkdir(filepath.Join(at, "sysroot"), 0o755))
	repo, _ := generated(t, filepath.Join(at, "sysroot"), small)
	mounted := t.TempDir()
	require.NoError(t, unix.Mount(filepath.Dir(repo), mounted, "", unix.MS_BIND, ""))
	t.Cleanup(func() { require.NoError(t, unix.Unmount(mounted, unix.MNT_DETACH)) })
	require.NoError(t, unix.Mount("", mounted, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	stats, err := copyFast(t, openStore(t, at, "overlay"), filepath.Join(mounted, "repository"), "image")
	require.NoError(t, err)
	assert.Greater(t, stats.Shared, small.Bytes*9/10)
}

func TestContentsAreCopiedWhereTheyCannotBeShared(t *testing.T) {
	xfs := reflinks.XFS(t)
	ext4 := reflinks.Mount(t, 512<<20, "mkfs.ext4", "-q")
	tmpfs := t.TempDir()
	require.NoError(t, unix.Mount("tmpfs", tmpfs, "tmpfs", 0, ""))
	t.Cleanup(func() { require.NoError(t, unix.Unmount(tmpfs, unix.MNT_DETACH)) })
	for name, dirs := range map[string]struct{ repo, store string }{
		"ext4":           {ext4, ext4},
		"tmpfs":          {tmpfs, tmpfs},
		"from XFS":       {xfs, ext4},
		"from ext4":      {ext4, xfs},
		"tmpfs from XFS": {xfs, tmpfs},
	} {
		t.Run(name, func(t *testing.T) {
			repoDir, storeDir := filepath.Join(dirs.repo, name+" repo"), filepath.Join(dirs.store, name)
			require.NoError(t, os.MkdirAll(repoDir, 0o755))
			repo, _ := generated(t, repoDir, small)
			stats := checkCopy(t, repo, storeDir+" plain", storeDir+" fast")
			assert.Zero(t, stats.Shared)
			assert.Equal(t, small.Bytes, stats.Written)
		})
	}
}

func TestStoresThatCannotHaveLayersStaged(t *testing.T) {
	repo := fixtures.Unpack(t, "sha256")
	vfs := openStore(t, t.TempDir(), "vfs")
	_, err := copyFast(t, vfs, repo, "hello")
	assert.ErrorIs(t, err, zerocopy.ErrUnsupported)
	assert.ErrorContains(t, err, "vfs")
	untouched(t, vfs)

	// The store looks for the program that makes such layers, and gets to call
	// it for none.
	bin := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(bin, "mkcomposefs"), []byte("#!/bin/false\n"), 0o755))
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	images := openStore(t, t.TempDir(), "overlay", "overlay.use_composefs=true")
	_, err = copyFast(t, images, repo, "hello")
	assert.ErrorIs(t, err, zerocopy.ErrUnsupported)
	untouched(t, images)
}

// What is unusual is left to the plain way, with nothing done.
func TestHostileImagesAreLeftToThePlainWay(t *testing.T) {
	file := func(name string) tar.Header {
		return tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644}
	}
	link := func(kind byte, name, target string) tar.Header {
		return tar.Header{Name: name, Typeflag: kind, Linkname: target, Mode: 0o777}
	}
	for name, headers := range map[string][]tar.Header{
		"through a symlink":       {link(tar.TypeSymlink, "s", "../../../.."), file("s/outside")},
		"through an absolute one": {link(tar.TypeSymlink, "s", "/tmp"), file("s/outside")},
		"climbing":                {file("../../outside")},
		"hard link to outside":    {link(tar.TypeLink, "a", "../../../../etc/passwd")},
		"file as a directory":     {file("a"), file("a/b")},
		"over a symlink":          {link(tar.TypeSymlink, "a", "/etc/passwd"), file("/a")},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			repo, _ := made(t, dir, repomaker.Image{Listing: repomaker.Uncompressed, Layers: []repomaker.Layer{
				{Tar: tarOf(t, file("fine"))}, {Tar: tarOf(t, headers...)},
			}})
			store := openStore(t, dir, "overlay")
			_, err := copyFast(t, store, repo, "image")
			assert.ErrorIs(t, err, zerocopy.ErrUnsupported)
			untouched(t, store)
			plain := copyPlain(t, store, repo, "image")
			_, err = copyFast(t, store, repo, "image")
			if plain == nil {
				assert.NoError(t, err) // the layers are there
			} else {
				assert.ErrorIs(t, err, zerocopy.ErrUnsupported)
			}
		})
	}
}

func TestGeneratedImageOfManyLayers(t *testing.T) {
	at := reflinks.XFS(t)
	repo, _ := generated(t, at, genimage.Spec{Files: 600, Bytes: 8 << 20, Layers: 30, Seed: 3})
	checkCopy(t, repo, filepath.Join(at, "plain"), filepath.Join(at, "fast"))
}
