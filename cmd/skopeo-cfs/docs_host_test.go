package main

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/damaged"
	"github.com/skopeo-cfs/skopeo-cfs/internal/erofs"
	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
	"github.com/skopeo-cfs/skopeo-cfs/internal/original"
	"github.com/skopeo-cfs/skopeo-cfs/internal/reflinks"
	"github.com/skopeo-cfs/skopeo-cfs/internal/repomaker"
)

// documentedHost is the bootc host on which the commands of the pages are run:
//
//   - it has booted quay.io/org/os:42, has staged os:43, and os:41 is the rollback;
//   - /mnt is the disk of another such host, of which nothing runs, with a damaged object
//     in os:41;
//   - the commands are run in /srv/demo. There, "repository" has the sample image hello;
//     so has /srv/repo; "installed" has os:42 as an installation from containers-storage leaves it;
//     "zeros" and "altered" have images whose layers an importer got wrong; "layout"
//     is an OCI layout with os:42 as the registry has it;
//   - quay.io has os:41 to os:43, and registry.example.com takes what is pushed. Both
//     are reached on loopback.
type documentedHost struct {
	disk   string // a filesystem with reflinks
	world  string // what is copied for each page
	booted string // the deployment's ID
	images []osImage
	binary string
}

const documentedDirs = "sysroot mnt demo etc containers"

func newDocumentedHost(t *testing.T) *documentedHost {
	t.Helper()
	disk := reflinks.XFS(t)
	h := &documentedHost{disk: disk, world: filepath.Join(disk, "world")}
	for name := range strings.FieldsSeq(documentedDirs) {
		require.NoError(t, os.MkdirAll(filepath.Join(h.world, name), 0o755))
	}
	var err error
	h.binary, err = os.Executable()
	require.NoError(t, err)
	for _, version := range []string{"41", "42", "43"} {
		h.images = append(h.images, newOSImage(t, version))
	}
	h.addDeployments(t)
	require.NoError(t, os.RemoveAll(filepath.Join(h.world, "mnt")))
	tool(t, "cp", "-a", "--reflink=always", filepath.Join(h.world, "sysroot"), filepath.Join(h.world, "mnt"))
	h.damageOther(t)
	h.addDemo(t)
	return h
}

// addDeployments makes the physical root.
func (h *documentedHost) addDeployments(t *testing.T) {
	t.Helper()
	sysroot := filepath.Join(h.world, "sysroot")
	repository := filepath.Join(sysroot, "composefs")
	ids := addEROFSImages(t, repository, len(h.images))
	h.booted = ids[1]
	for i, image := range h.images {
		name := "quay.io/org/os:" + strconv.Itoa(41+i)
		addOS(t, repository, fsverity.SHA512, name, image, image.Manifest)
		writeFile(t, filepath.Join(sysroot, "state/deploy", ids[i], ids[i]+".origin"),
			"[origin]\ncontainer-image-reference=ostree-unverified-image:docker://"+name+"\n\n[boot]\nboot_type=bls\ndigest="+strings.Repeat("0b", 32)+
				"\n\n[image]\nmanifest_digest="+image.Digest.String()+"\n")
	}
	for n, id := range []string{ids[1], ids[0]} {
		writeFile(t, filepath.Join(sysroot, "boot/loader/entries", "bootc_os-"+strconv.Itoa(2-n)+".conf"),
			"title OS\nversion 42\nsort-key bootc-os-"+strconv.Itoa(n)+"\nlinux /boot/vmlinuz\noptions root=UUID=0 rw composefs="+id+"\n")
	}
	writeFile(t, filepath.Join(sysroot, "boot/grub2/grub.cfg"), "blscfg\n")
	writeFile(t, filepath.Join(h.world, "staged-deployment"), `{"depl_id":"`+ids[2]+`","finalization_locked":false}`)
}

// damageOther cuts the kernel of os:41 on the other host's disk.
func (h *documentedHost) damageOther(t *testing.T) {
	t.Helper()
	objects, err := filepath.Glob(filepath.Join(h.world, "mnt/composefs/objects/??/*"))
	require.NoError(t, err)
	for _, path := range objects {
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		if bytes.HasPrefix(content, []byte("kernel "+kernels["41"])) {
			require.NoError(t, os.Truncate(path, 1000))
			return
		}
	}
	require.Fail(t, "no kernel")
}

// addEROFSImages makes a repository with EROFS images, and returns their names. They are
// those of other images, as nothing here boots.
func addEROFSImages(t *testing.T, repository string, n int) []string {
	t.Helper()
	_, err := repomaker.Create(repository, fsverity.SHA512, repomaker.Options{})
	require.NoError(t, err)
	from := fixtures.Unpack(t, "sha512")
	keep := func(d fsverity.Digest) error {
		name := filepath.Join("objects", d.String()[:2], d.String()[2:])
		content, err := os.ReadFile(filepath.Join(from, name))
		require.NoError(t, err)
		writeFile(t, filepath.Join(repository, name), string(content))
		return nil
	}
	var ids []string
	for _, id := range namesIn(t, filepath.Join(from, "images")) {
		d, err := fsverity.Parse(id)
		if err != nil || len(ids) == n {
			continue
		}
		ids = append(ids, id)
		require.NoError(t, keep(d))
		file, err := os.ReadFile(filepath.Join(from, "images", id))
		require.NoError(t, err)
		require.NoError(t, erofs.Objects(t.Context(), bytes.NewReader(file), int64(len(file)), fsverity.SHA512, keep))
		require.NoError(t, os.MkdirAll(filepath.Join(repository, "images"), 0o755))
		require.NoError(t, os.Symlink(filepath.Join("../objects", id[:2], id[2:]), filepath.Join(repository, "images", id)))
	}
	return ids
}

// addDemo makes the directory in which the commands are run.
func (h *documentedHost) addDemo(t *testing.T) {
	t.Helper()
	demo := filepath.Join(h.world, "demo")
	tool(t, "tar", "-xzf", "../../demo/repository.tar.gz", "-C", demo)
	now := h.images[1]
	addOS(t, filepath.Join(demo, "installed"), fsverity.SHA512, "quay.io/org/os:42", now, now.ManifestOf(t, func(m *imgspecv1.Manifest) {
		for i := range m.Layers {
			m.Layers[i] = imgspecv1.Descriptor{MediaType: imgspecv1.MediaTypeImageLayer, Digest: digest.FromBytes(now.tars[i]), Size: int64(len(now.tars[i]))}
		}
	}))
	damaged.Add(t, filepath.Join(demo, "zeros"), fsverity.SHA512, repomaker.Options{LoseTrailer: true}, "trailers", nil)
	damaged.Add(t, filepath.Join(demo, "altered"), fsverity.SHA512, repomaker.Options{}, "hello", damaged.AlterHeaders(0))
	now.Layout(t, filepath.Join(demo, "layout"), nil)
}

// osImage is an image of an operating system, as a registry has it.
type osImage struct {
	original.Image
	tars [][]byte
}

// entry is a file, a link or a directory of an osImage.
type entry struct {
	name, content string
	mode          int64 // 0 for a link
}

// kernels are the kernels of the images, by version.
var kernels = map[string]string{"41": "6.11.4-301", "42": "6.14.0-63", "43": "6.14.0-63"}

// newOSImage makes a small system: a shell, a kernel, and a database of packages.
func newOSImage(t *testing.T, version string) osImage {
	t.Helper()
	busybox, err := exec.LookPath("busybox")
	require.NoError(t, err)
	shell, err := os.ReadFile(busybox)
	require.NoError(t, err)
	base := []entry{{"usr/bin/busybox", string(shell), 0o755}, {"bin", "usr/bin", 0}, {"lib", "usr/lib", 0}, {"tmp/", "", 0o1777}}
	for name := range strings.FieldsSeq("sh cat ls grep touch echo") {
		base = append(base, entry{"usr/bin/" + name, "busybox", 0})
	}
	kernel := kernels[version]
	top := []entry{
		{"etc/os-release", "NAME=Example\nVERSION_ID=" + version + "\n", 0o644},
		{"etc/motd", map[string]string{"41": "Welcome\n", "42": "Welcome\n", "43": "Welcome to 43\n"}[version], 0o644},
		{"usr/lib/modules/" + kernel + "/", "", 0o755},
		{"usr/lib/modules/" + kernel + "/vmlinuz", strings.Repeat("kernel "+kernel+"\n", 50000), 0o644},
		{"var/lib/dpkg/status", dpkgStatus(map[string][]string{
			"41": {"bash 5.2.26-3", "kernel " + kernel, "nano 8.1-2", "tzdata 2025a-1"},
			"42": {"bash 5.2.37-1", "htop 3.3.0-5", "kernel " + kernel, "tzdata 2025a-1"},
			"43": {"bash 5.2.37-2", "htop 3.3.0-5", "kernel " + kernel, "tzdata 2025b-1"},
		}[version]), 0o644},
	}
	image := osImage{Image: original.Image{Blobs: map[digest.Digest][]byte{}}, tars: [][]byte{tarOfEntries(t, base), tarOfEntries(t, top)}}
	created := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	config := imgspecv1.Image{
		Created: &created, Platform: imgspecv1.Platform{OS: "linux", Architecture: "amd64"},
		Config: imgspecv1.ImageConfig{
			Env: []string{"PATH=/usr/bin"}, Cmd: []string{"/bin/sh"},
			Labels: map[string]string{"org.opencontainers.image.version": version},
		},
		RootFS: imgspecv1.RootFS{Type: "layers"},
	}
	for _, tar := range image.tars {
		var blob bytes.Buffer
		w := gzip.NewWriter(&blob)
		_, err := w.Write(tar)
		require.NoError(t, err)
		require.NoError(t, w.Close())
		d := digest.FromBytes(blob.Bytes())
		image.Blobs[d] = blob.Bytes()
		image.Layers = append(image.Layers, imgspecv1.Descriptor{MediaType: imgspecv1.MediaTypeImageLayerGzip, Digest: d, Size: int64(blob.Len())})
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digest.FromBytes(tar))
		config.History = append(config.History, imgspecv1.History{Created: &created, CreatedBy: "example"})
	}
	image.Config, err = json.Marshal(config)
	require.NoError(t, err)
	image.ID = digest.FromBytes(image.Config)
	image.Blobs[image.ID] = image.Config
	image.Manifest = image.ManifestOf(t, func(m *imgspecv1.Manifest) { m.Versioned, m.Annotations = specs.Versioned{SchemaVersion: 2}, nil })
	image.Digest = digest.FromBytes(image.Manifest)
	return image
}

// dpkgStatus returns dpkg's database with packages, each a name and a version.
func dpkgStatus(packages []string) string {
	var b strings.Builder
	for _, p := range packages {
		name, version, _ := strings.Cut(p, " ")
		b.WriteString("Package: " + name + "\nStatus: install ok installed\nArchitecture: amd64\nVersion: " + version + "\n\n")
	}
	return b.String()
}

// tarOfEntries makes a layer's tar.
func tarOfEntries(t *testing.T, entries []entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		header := tar.Header{Name: e.name, Mode: e.mode, Size: int64(len(e.content)), ModTime: time.Unix(1700000000, 0), Format: tar.FormatPAX, Typeflag: tar.TypeReg}
		switch {
		case e.mode == 0:
			header.Typeflag, header.Linkname, header.Size, header.Mode = tar.TypeSymlink, e.content, 0, 0o777
		case strings.HasSuffix(e.name, "/"):
			header.Typeflag = tar.TypeDir
		}
		require.NoError(t, w.WriteHeader(&header))
		if header.Typeflag == tar.TypeReg {
			_, err := io.WriteString(w, e.content)
			require.NoError(t, err)
		}
	}
	require.NoError(t, w.Close())
	return b.Bytes()
}

// addOS adds an image with a manifest of it to a repository.
func addOS(t *testing.T, path string, algorithm fsverity.Algorithm, tag string, image osImage, manifest []byte) {
	t.Helper()
	repo, err := repomaker.Open(path, algorithm, repomaker.Options{})
	if _, missing := os.Stat(path); missing != nil {
		repo, err = repomaker.Create(path, algorithm, repomaker.Options{})
	}
	require.NoError(t, err)
	var layers []repomaker.Blob
	for _, tar := range image.tars {
		layer, err := repo.AddLayer(bytes.NewReader(tar), nil)
		require.NoError(t, err)
		layers = append(layers, layer)
	}
	_, err = repo.AddDocuments(tag, manifest, image.Config, layers)
	require.NoError(t, err)
}

// writeFile writes a file, and makes the directories above it.
func writeFile(t *testing.T, path, content string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, []byte(content), 0o644))
}

// ran is what a command did.
type ran struct {
	done   bool
	code   int
	output string // on both streams
}

// run runs commands one after the other, in one shell, on a new copy of the host, up to
// the first that does not run.
func (h *documentedHost) run(t *testing.T, steps []step) []ran {
	t.Helper()
	dir, err := os.MkdirTemp(h.disk, "page")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	tool(t, "cp", "-a", "--reflink=always", h.world+"/.", dir)
	h.configure(t, dir)

	out := t.TempDir()
	for i, s := range steps {
		writeFile(t, filepath.Join(out, strconv.Itoa(i)), s.command)
	}
	writeFile(t, filepath.Join(out, "skopeo-cfs"), "#!/bin/sh\n"+asCommand+"=1 exec /binary \"$@\"\n")
	require.NoError(t, os.Chmod(filepath.Join(out, "skopeo-cfs"), 0o755))
	script, err := filepath.Abs("testdata/documented-host")
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute) // for one that does not end
	defer cancel()
	cmd := exec.CommandContext(ctx, "unshare", "--mount", "--pid", "--fork", "--kill-child", "bash", script, dir, out, h.binary, h.booted, strconv.Itoa(len(steps)))
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=/root", "LANG=C.UTF-8", "TZ=UTC", "BUILDAH_ISOLATION=chroot"}
	printed, err := h.onOwnNetwork(t, cmd)
	if ctx.Err() == nil {
		require.NoError(t, err, "the host: %s", printed)
	}

	all := make([]ran, len(steps))
	for i := range all {
		code, err := os.ReadFile(filepath.Join(out, strconv.Itoa(i)+".code"))
		if err != nil {
			break
		}
		output, err := os.ReadFile(filepath.Join(out, strconv.Itoa(i)+".output"))
		require.NoError(t, err)
		all[i].output, all[i].done = string(output), true
		all[i].code, err = strconv.Atoi(strings.TrimSpace(string(code)))
		require.NoError(t, err)
	}
	return all
}

// The names under which the host reaches registries.
var documentedRegistries = []string{"quay.io", "registry.example.com", "office.example.com"}

// configure writes what is in /etc of the host.
func (h *documentedHost) configure(t *testing.T, dir string) {
	t.Helper()
	etc := filepath.Join(dir, "etc")
	registries, hosts := "unqualified-search-registries = []\n", "127.0.0.1 localhost\n"
	for _, name := range documentedRegistries {
		registries += "[[registry]]\nlocation = \"" + name + "\"\ninsecure = true\n"
		hosts += "127.0.0.1 " + name + "\n"
	}
	writeFile(t, filepath.Join(etc, "containers/registries.conf"), registries)
	writeFile(t, filepath.Join(etc, "hosts"), hosts)
	writeFile(t, filepath.Join(etc, "containers/policy.json"), `{"default":[{"type":"insecureAcceptAnything"}]}`)
	writeFile(t, filepath.Join(etc, "containers/storage.conf"), "[storage]\ndriver = \"overlay\"\ngraphroot = \"/var/lib/containers/storage\"\nrunroot = \"/run/containers/storage\"\n")
	// Limits that need no privilege, so that it runs within containers.
	writeFile(t, filepath.Join(etc, "containers/containers.conf"), "[containers]\nnetns = \"host\"\ncgroups = \"disabled\"\ndefault_ulimits = [\"nofile=512:512\", \"nproc=200:200\"]\n"+
		"[engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\n")
}

// documentedNames is a registry for each name by which clients reach it.
type documentedNames map[string]http.Handler

func (n documentedNames) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if handler := n[r.Host]; handler != nil {
		handler.ServeHTTP(w, r)
		return
	}
	http.NotFound(w, r)
}

// onOwnNetwork runs a program on a network of its own, on which nothing is but
// registries. quay.io has the images.
func (h *documentedHost) onOwnNetwork(t *testing.T, cmd *exec.Cmd) (printed []byte, err error) {
	t.Helper()
	registries := documentedNames{}
	for _, name := range documentedRegistries {
		registries[name] = registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	}
	outside := httptest.NewServer(registries["quay.io"])
	defer outside.Close()
	for i, image := range h.images {
		image.Push(t, strings.TrimPrefix(outside.URL, "http://"), "org/os", strconv.Itoa(41+i))
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if err = unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return
		}
		if err = loopbackUp(); err != nil {
			return
		}
		var listener net.Listener
		if listener, err = net.Listen("tcp", "127.0.0.1:80"); err != nil {
			return
		}
		inside := &http.Server{Handler: registries}
		go inside.Serve(listener)
		defer inside.Close()
		printed, err = cmd.CombinedOutput()
	}()
	<-done
	return printed, err
}

// loopbackUp makes the loopback interface of a new network usable.
func loopbackUp() error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(socket)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, request)
}
