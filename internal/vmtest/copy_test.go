package vmtest

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/containers/storage"
	"github.com/containers/storage/pkg/reexec"
	storagetypes "github.com/containers/storage/types"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/genimage"
	"github.com/skopeo-cfs/skopeo-cfs/internal/repomaker"
	"github.com/skopeo-cfs/skopeo-cfs/internal/verity"
	"github.com/skopeo-cfs/skopeo-cfs/verify"
)

func TestMain(m *testing.M) {
	if reexec.Init() {
		return
	}
	os.Exit(m.Run())
}

// place is a filesystem with a repository of which every object has fs-verity,
// and meta.json has, too.
type place struct {
	dir, repo string
	objects   []string // paths
	added     repomaker.Added
}

func newPlace(t *testing.T) *place {
	t.Helper()
	if os.Getenv(commandPath) == "" {
		t.Skip("`make vm-test` runs this in a virtual machine")
	}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	p := &place{dir: dir, repo: filepath.Join(dir, "repo")}
	maker, err := repomaker.Create(p.repo, algorithm, repomaker.Options{})
	require.NoError(t, err)
	p.added, err = maker.AddGenerated("localhost/image:latest", genimage.Spec{Files: 60, Bytes: 3 << 20, Layers: 2, Seed: 1}, repomaker.Pretended)
	require.NoError(t, err)
	if os.Getenv(withoutVerity) == "" {
		p.objects = verity.EnableObjects(t, p.repo, algorithm)
		verity.Enable(t, filepath.Join(p.repo, "meta.json"), algorithm)
	}
	return p
}

var algorithm = fsverity.SHA512

// In the environment.
const (
	diskPath      = "SKOPEO_CFS_DISK"      // path of the disk of the filesystem below TMPDIR
	commandPath   = "SKOPEO_CFS_COMMAND"   // path of the command
	withReflinks  = "SKOPEO_CFS_REFLINKS"  // files below TMPDIR can share blocks
	withoutVerity = "SKOPEO_CFS_NO_VERITY" // there is no fs-verity below TMPDIR
)

// copyImage copies the image into a new store on the same filesystem. A store is
// returned even if the copy has failed.
func (p *place) copyImage(t *testing.T) (store storage.Store, output string, err error) {
	t.Helper()
	at, err := os.MkdirTemp(p.dir, "store")
	require.NoError(t, err)
	options := storagetypes.StoreOptions{GraphRoot: filepath.Join(at, "root"), RunRoot: filepath.Join(at, "run"), GraphDriverName: "overlay"}
	var out bytes.Buffer
	cmd := exec.Command(os.Getenv(commandPath), "copy", "--insecure-policy", "composefs:["+p.repo+"]image",
		"containers-storage:[overlay@"+options.GraphRoot+"+"+options.RunRoot+"]localhost/copied:latest")
	cmd.Stdout, cmd.Stderr = &out, &out
	conf := filepath.Join(at, "storage.conf")
	require.NoError(t, os.WriteFile(conf, []byte("[storage]\ndriver = \"overlay\"\nrunroot = \"/run\"\ngraphroot = \"/root\"\n"), 0o600))
	cmd.Env = append(os.Environ(), "CONTAINERS_STORAGE_CONF="+conf)
	err = cmd.Run()
	store, openErr := storage.GetStore(options)
	require.NoError(t, openErr)
	t.Cleanup(func() { _, _ = store.Shutdown(true) })
	return store, out.String(), err
}

// requireRight demands that the image is in the store, with its manifest's digest
// and layers that rebuild their tars.
func (p *place) requireRight(t *testing.T, store storage.Store) {
	t.Helper()
	image, err := store.Image("localhost/copied:latest")
	require.NoError(t, err)
	assert.Equal(t, p.added.Manifest.Digest, image.Digest)
	repo, err := composefsrepo.Open(context.Background(), p.repo, nil)
	require.NoError(t, err)
	defer repo.Close()
	opened, err := repo.ImageByTag(context.Background(), "localhost/image:latest")
	require.NoError(t, err)
	id := image.TopLayer
	for i := len(opened.Layers) - 1; i >= 0; i-- {
		layer, err := store.Layer(id)
		require.NoError(t, err)
		diff, err := store.Diff("", id, nil)
		require.NoError(t, err)
		d, err := digest.FromReader(diff)
		require.NoError(t, err)
		require.NoError(t, diff.Close())
		assert.Equal(t, opened.Layers[i].DiffID, d)
		id = layer.Parent
	}
	assert.Empty(t, id)
	report, err := store.Check(storage.CheckEverything())
	require.NoError(t, err)
	assert.Empty(t, report.Layers)
	assert.Empty(t, report.Images)
}

func assertEmpty(t *testing.T, store storage.Store) {
	t.Helper()
	images, err := store.Images()
	require.NoError(t, err)
	assert.Empty(t, images)
	layers, err := store.Layers()
	require.NoError(t, err)
	assert.Empty(t, layers)
}

func TestVerityRepositoryIsCopied(t *testing.T) {
	p := newPlace(t)
	store, output, err := p.copyImage(t)
	require.NoError(t, err, output)
	t.Log(output)
	p.requireRight(t, store)
	assert.Equal(t, os.Getenv(withReflinks) != "", sharesBlocks(t, store), "blocks are shared")
}

// sharesBlocks tells whether most of the larger files of a store's layers share
// their blocks, as the filesystem has it.
func sharesBlocks(t *testing.T, store storage.Store) bool {
	t.Helper()
	files, shared := 0, 0
	err := filepath.WalkDir(filepath.Join(store.GraphRoot(), "overlay"), func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil || info.Size() < 16<<10 {
			return err
		}
		files++
		if isShared(t, path) {
			shared++
		}
		return nil
	})
	require.NoError(t, err)
	t.Logf("of %d files of 16 KiB or more %d share blocks", files, shared)
	require.Positive(t, files)
	return shared > files*9/10
}

// The altered object is refused, by name; the store has nothing of the image.
func TestAlteredVerityObjectsAreRefused(t *testing.T) {
	p := newPlace(t)
	if os.Getenv(withoutVerity) != "" {
		t.Skip("this filesystem has no fs-verity")
	}
	object, other := p.large(t)
	content, err := os.ReadFile(object)
	require.NoError(t, err)
	altered := bytes.Clone(content)
	altered[len(altered)/2] ^= 1
	// The object as it was comes between, and last what no file can be again.
	for _, step := range []struct {
		name  string
		kind  verify.Kind // of the damage
		alter func(t *testing.T)
	}{
		{"another object", verify.ObjectSwapped, func(t *testing.T) {
			require.NoError(t, os.Remove(object))
			require.NoError(t, os.Link(other, object))
		}},
		{"altered, with verity", verify.ObjectAltered, func(t *testing.T) {
			rewrite(t, object, altered)
			verity.Enable(t, object, algorithm)
		}},
		{"not altered, but without verity", verify.ObjectVerity, func(t *testing.T) { rewrite(t, object, content) }},
		{"altered on the disk", verify.ObjectUnreadable, func(t *testing.T) {
			rewrite(t, object, content)
			verity.Enable(t, object, algorithm)
			alterOnDisk(t, object)
		}},
	} {
		step.alter(t)
		store, output, err := p.copyImage(t)
		require.Error(t, err, step.name)
		t.Logf("%s: %s", step.name, output)
		assert.Contains(t, output, filepath.Base(object), step.name)
		assertEmpty(t, store)
		found, err := exec.Command(os.Getenv(commandPath), "verify", "--repository", p.repo).Output()
		assert.Error(t, err, step.name)
		assert.Contains(t, string(found), string(step.kind)+": objects/", step.name)
		assert.Contains(t, string(found), filepath.Base(object), step.name)
	}
}

// large returns two objects that are contents of files: no stream is that large.
func (p *place) large(t *testing.T) (one, other string) {
	t.Helper()
	for _, object := range p.objects {
		info, err := os.Stat(object)
		require.NoError(t, err)
		if info.Size() < 100_000 {
			continue
		}
		if one != "" {
			return one, object
		}
		one = object
	}
	t.Fatal("there are no large objects")
	return "", ""
}

// rewrite puts another file in the place of an object.
func rewrite(t *testing.T, object string, content []byte) {
	t.Helper()
	require.NoError(t, os.Remove(object))
	require.NoError(t, os.WriteFile(object, content, 0o644))
}

// alterOnDisk alters a byte of a file behind the filesystem's back, and has it
// forget what it had in memory.
func alterOnDisk(t *testing.T, object string) {
	t.Helper()
	content, err := os.ReadFile(object)
	require.NoError(t, err)
	const block = 4096
	at := len(content) / 2 / block * block
	wanted := content[at : at+block]
	unix.Sync()
	disk, err := os.OpenFile(os.Getenv(diskPath), os.O_RDWR|os.O_SYNC, 0)
	require.NoError(t, err)
	defer disk.Close()
	altered := 0
	buffer := make([]byte, 1<<20)
	for offset := int64(0); ; offset += int64(len(buffer)) {
		n, _ := disk.ReadAt(buffer, offset)
		if n == 0 {
			break
		}
		for i := 0; i+block <= n; i += block {
			if bytes.Equal(buffer[i:i+block], wanted) {
				_, err := disk.WriteAt([]byte{wanted[0] ^ 1}, offset+int64(i))
				require.NoError(t, err)
				altered++
			}
		}
	}
	require.Positive(t, altered)
	unix.Sync()
	require.NoError(t, os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0))
	_, err = os.ReadFile(object)
	require.ErrorIs(t, err, unix.EIO)
}
