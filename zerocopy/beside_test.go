package zerocopy_test

import (
	"archive/tar"
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/containers/storage"
	"github.com/containers/storage/pkg/idtools"
	"github.com/containers/storage/pkg/lockfile"
	"github.com/containers/storage/pkg/reexec"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
	"github.com/skopeo-cfs/skopeo-cfs/internal/reflinks"
	"github.com/skopeo-cfs/skopeo-cfs/internal/repomaker"
	"github.com/skopeo-cfs/skopeo-cfs/zerocopy"
)

// A base layer in an additional, read-only store is used.
func TestLayersOfAdditionalStoresAreFound(t *testing.T) {
	at := reflinks.XFS(t)
	require.NoError(t, fixtures.UnpackTo(at, "sha256"))
	repo := filepath.Join(at, "sha256")
	layout := fixtures.Layouts(t, "sha256")["hello"]
	openStore(t, t.TempDir(), "vfs") // skips the test where none can be
	for _, driver := range []string{"overlay", "vfs"} {
		t.Run(driver, func(t *testing.T) {
			dir := filepath.Join(at, driver)
			// Another image that has the lowest layer.
			other, err := storage.GetStore(storeOptions(filepath.Join(dir, "other"), driver))
			require.NoError(t, err)
			_, err = copyFast(t, other, repo, "hello")
			require.NoError(t, err)
			image, err := other.Image(copied)
			require.NoError(t, err)
			top, err := other.Layer(image.TopLayer)
			require.NoError(t, err)
			_, err = other.CreateImage("", nil, top.Parent, "", nil) // keeps what is below
			require.NoError(t, err)
			_, err = other.DeleteImage(image.ID, true)
			require.NoError(t, err)
			_, err = other.Shutdown(true)
			require.NoError(t, err)

			// Elsewhere, since this process has its locks for writing.
			require.NoError(t, os.Rename(filepath.Join(dir, "other"), filepath.Join(dir, "additional")))
			store := openStore(t, dir, driver, driver+".imagestore="+filepath.Join(dir, "additional/store"))
			stats, err := copyFast(t, store, repo, "hello")
			require.NoError(t, err)
			assert.Equal(t, len(layout.Layers)-1, stats.Found)
			checkImage(t, store, layout)
			checkStaging(t, store)
		})
	}
}

// Layers with other ID mappings below: those above have to have them too.
func TestLayersOnOthersWithIDMappings(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) io.Reader {
		return tarOf(t, tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644}, tar.Header{Name: "/", Typeflag: tar.TypeDir, Mode: 0o755})
	}
	repo, added := made(t, dir, repomaker.Image{Listing: repomaker.Pretended, Layers: []repomaker.Layer{{Tar: file("lower")}, {Tar: file("upper")}}})
	store := openStore(t, dir, "overlay")
	mapped := []idtools.IDMap{{ContainerID: 0, HostID: 10000, Size: 1000}}
	lowest := added.Layers[0].Digest.Encoded()
	options := &storage.LayerOptions{}
	options.IDMappingOptions.UIDMap, options.IDMappingOptions.GIDMap = mapped, mapped
	_, _, err := store.PutLayer(lowest, "", nil, "", false, options, file("lower"))
	require.NoError(t, err)
	driver, err := store.GraphDriver()
	require.NoError(t, err)
	if driver.SupportsShifting(mapped, mapped) {
		t.Log("the driver maps IDs when it mounts, so no layer has mappings of its own")
	}
	_, err = copyFast(t, store, repo, "image")
	require.NoError(t, err)
	image, err := store.Image(copied)
	require.NoError(t, err)
	assert.Equal(t, added.Manifest.Digest, image.Digest)
	below, err := store.Layer(lowest)
	require.NoError(t, err)
	above, err := store.Layer(image.TopLayer)
	require.NoError(t, err)
	assert.Equal(t, below.UIDMap, above.UIDMap)
	var stat unix.Stat_t
	require.NoError(t, unix.Stat(filepath.Join(store.GraphRoot(), "overlay", image.TopLayer, "diff/upper"), &stat))
	want := 0
	if len(above.UIDMap) > 0 {
		want = 10000
	}
	assert.EqualValues(t, want, stat.Uid)
}

// The root directory is as containers/storage makes it: an upper layer's without
// an entry has the permissions of the one below, less the umask, and no other bits.
func TestRootDirectories(t *testing.T) {
	root := func(mode int64) tar.Header {
		return tar.Header{Name: "/", Typeflag: tar.TypeDir, Mode: mode, Uid: 3, Gid: 4}
	}
	file := tar.Header{Name: "file", Typeflag: tar.TypeReg, Mode: 0o644}
	for _, mode := range []int64{0o777, 0o1777, 0o7777, 0o700, 0o555, 0} {
		t.Run(fmt.Sprintf("%o", mode), func(t *testing.T) {
			at := reflinks.XFS(t)
			repo, _ := made(t, at, repomaker.Image{Listing: repomaker.Pretended, Layers: []repomaker.Layer{
				{Tar: tarOf(t, file)}, {Tar: tarOf(t, root(mode), file)}, {Tar: tarOf(t, file)}, {Tar: tarOf(t, root(0o711))}, {Tar: tarOf(t, root(mode))},
			}})
			checkCopy(t, repo, filepath.Join(at, "plain"), filepath.Join(at, "fast"))
		})
	}
}

// Work directories of processes that have ended go with the next copy, and what
// they have noted; those of others stay.
func TestAbandonedDirectoriesAreRemoved(t *testing.T) {
	repo := fixtures.Unpack(t, "sha256")
	store := openStore(t, t.TempDir(), "overlay")
	overlay := filepath.Join(store.GraphRoot(), "overlay")
	abandoned, living := filepath.Join(overlay, "tempdirs/skopeo-cfs-1"), filepath.Join(overlay, "tempdirs/skopeo-cfs-2")
	others := []string{filepath.Join(overlay, "tempdirs/another"), filepath.Join(overlay, "staging/77"), living}
	for _, dir := range append(others, abandoned, filepath.Join(abandoned, "0/etc"), filepath.Join(overlay, "staging/1234/dir")) {
		require.NoError(t, os.MkdirAll(dir, 0o700))
	}
	require.NoError(t, os.WriteFile(filepath.Join(abandoned, "probe"), []byte("1234"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(living, "probe"), []byte("77"), 0o600))
	lock, err := os.Open(living)
	require.NoError(t, err)
	defer lock.Close()
	require.NoError(t, unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB))
	_, err = copyFast(t, store, repo, "hello")
	require.NoError(t, err)
	assert.NoDirExists(t, abandoned)
	assert.NoDirExists(t, filepath.Join(overlay, "staging/1234"))
	for _, dir := range others {
		assert.DirExists(t, dir)
	}
}

// A note leads nowhere but to a staging directory.
func TestNotesOfAbandonedDirectories(t *testing.T) {
	repo := fixtures.Unpack(t, "sha256")
	dir := t.TempDir()
	store := openStore(t, dir, "overlay")
	overlay := filepath.Join(store.GraphRoot(), "overlay")
	require.NoError(t, os.MkdirAll(filepath.Join(overlay, "staging"), 0o700))
	precious := filepath.Join(dir, "precious")
	require.NoError(t, os.MkdirAll(precious, 0o700))
	for i, note := range []string{"", ".", "..", "../l", "/", precious, "12/../../l", "12\x00"} {
		abandoned := filepath.Join(overlay, "tempdirs", fmt.Sprint("skopeo-cfs-", i))
		require.NoError(t, os.MkdirAll(abandoned, 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(abandoned, "probe"), []byte(note), 0o600))
	}
	_, err := copyFast(t, store, repo, "hello")
	require.NoError(t, err)
	assert.DirExists(t, filepath.Join(overlay, "staging"))
	assert.DirExists(t, filepath.Join(overlay, "l"))
	assert.DirExists(t, precious)
	checkImage(t, store, fixtures.Layouts(t, "sha256")["hello"])
}

// holdingProcess is the name under which the test starts itself to hold a lock
// until its standard input ends.
const holdingProcess = "zerocopy-test-hold"

func holdLock() {
	lock, err := lockfile.GetLockFile(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	lock.Lock()
	fmt.Println("locked")
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

// Another program has the store to itself, as podman has while it extracts a
// layer: a cancel is heard all the same, and nothing arrives afterwards.
func TestCancelWhileWaitingForTheStore(t *testing.T) {
	repo := fixtures.Unpack(t, "sha256")
	for _, driver := range []string{"overlay", "vfs"} {
		for name, lock := range map[string]string{
			"layers": driver + "-layers/layers.lock", "images": driver + "-images/images.lock", "store": "storage.lock",
		} {
			t.Run(driver+" "+name, func(t *testing.T) {
				store := openStore(t, t.TempDir(), driver)
				_, err := store.Layers() // so that all is there
				require.NoError(t, err)
				holder := reexec.Command(holdingProcess, filepath.Join(store.GraphRoot(), lock))
				holder.Stderr = os.Stderr
				release, err := holder.StdinPipe()
				require.NoError(t, err)
				out, err := holder.StdoutPipe()
				require.NoError(t, err)
				require.NoError(t, holder.Start())
				_, err = bufio.NewReader(out).ReadString('\n')
				require.NoError(t, err)

				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				start := time.Now()
				_, err = zerocopy.Copy(ctx, insecurePolicy(t), in(t, store, copied), composefs(t, repo, "hello"), nil)
				if err == nil {
					assert.Equal(t, "store", name, "the copy has not waited for the lock")
				}
				assert.Less(t, time.Since(start), 20*time.Second)
				require.NoError(t, release.Close())
				require.NoError(t, holder.Wait())
				if err != nil {
					require.ErrorIs(t, err, context.DeadlineExceeded)
					_, err = copyFast(t, store, repo, "hello")
					require.NoError(t, err)
				}
				checkImage(t, store, fixtures.Layouts(t, "sha256")["hello"])
				checkStaging(t, store)
			})
		}
	}
}
