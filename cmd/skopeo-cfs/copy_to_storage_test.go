package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/bootc"
	"github.com/skopeo-cfs/skopeo-cfs/internal/bootchost"
	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
)

// copyToStorage runs copy-to-storage on a host and returns what it prints.
func copyToStorage(t *testing.T, host hostOptions, name, target string) (string, error) {
	t.Helper()
	options := copyToStorageOptions{
		copyOptions: copyOptions{global: &globalOptions{insecurePolicy: true, tmpDir: t.TempDir()}},
		host:        host, name: name, targetName: target,
	}
	options.addFlags(pflag.NewFlagSet("", pflag.ContinueOnError))
	// Layers are reported side by side, which a file takes.
	out, err := os.Create(filepath.Join(t.TempDir(), "output"))
	require.NoError(t, err)
	defer out.Close()
	copyErr := options.run(t.Context(), out)
	printed, err := os.ReadFile(out.Name())
	require.NoError(t, err)
	return string(printed), copyErr
}

// From every host every deployment is copied: the booted one by default, the
// others by state, ID and name, with their image ID, and where their manifest is
// there with its digest.
func TestCopyToStorageFromEveryHost(t *testing.T) {
	s := newStore(t, t.TempDir())
	for name, test := range testHosts() {
		t.Run(name, func(t *testing.T) {
			h := test.make(t)
			for i, id := range h.IDs {
				names := []string{"@" + id[:12], "@" + id}
				if test.deployments[i].Origin == "" {
					image := "quay.io/org/" + test.deployments[i].Layout + ":latest"
					names = append(names, image, "docker://"+image, "registry:"+image)
				}
				switch test.states[i] {
				case bootc.Booted, bootc.Staged, bootc.Rollback:
					names = append(names, "@"+string(test.states[i]))
				}
				if i == test.booted() {
					names = append(names, "")
				}
				for n, from := range names {
					to := s.image(fmt.Sprintf("%s-%d-%d:latest", test.deployments[i].Layout, i, n))
					out, err := copyToStorage(t, onHost(h), from, to)
					if slices.Contains(test.gone, i) {
						assert.ErrorIs(t, err, bootc.ErrImageGone, from)
						continue
					}
					require.NoError(t, err, from)
					assert.Contains(t, out, id[:12])
					got := readImage(t, to)
					got.assertIs(t, h.Images[i])
					if !slices.Contains(test.noManifest, i) {
						assert.Equal(t, h.Images[i].Manifest, got.manifest)
					}
				}
			}
		})
	}
}

// The booted deployment itself is copied where the staged one has the same
// name, and by that name, too.
func TestBootedBeforeStaged(t *testing.T) {
	h := bootchost.New(t, "sha512", bootchost.Deployment{Layout: "hello", Name: "quay.io/org/os:42"}, bootchost.Deployment{Layout: "sizes", Name: "quay.io/org/os:42"})
	h.Boot(t, 0)
	h.Stage(t, 1, false)
	for from, i := range map[string]int{"": 0, "quay.io/org/os:42": 0, "@staged": 1} {
		to := "dir:" + filepath.Join(t.TempDir(), "image")
		_, err := copyToStorage(t, onHost(h), from, to)
		require.NoError(t, err)
		readImage(t, to).assertIs(t, h.Images[i])
	}
}

func TestCopyToStorageOfAnotherHost(t *testing.T) {
	h := bootchost.New(t, "sha512", deploymentsOf(bootchost.ManifestDigest, "hello", "sizes")...)
	to := "dir:" + filepath.Join(t.TempDir(), "image")
	args := []string{"copy-to-storage", "--insecure-policy", "--sysroot", h.Sysroot, "--target", to}
	runCommand(t, args...).assertFailure(t, "not the running system", "@"+h.IDs[0][:12], "@"+h.IDs[1][:12])
	runCommand(t, append(args, "--source", "quay.io/org/none")...).assertFailure(t, "no such deployment", "quay.io/org/sizes:latest")
	runCommand(t, append(args, "--source", "@latest")...).assertFailure(t, "@latest")
	assert.NoDirExists(t, strings.TrimPrefix(to, "dir:"))
	runCommand(t, append(args, "--source", "sizes", "--quiet")...).requireSuccess(t)
	readImage(t, to).assertIs(t, h.Images[1])

	only := bootchost.New(t, "sha512", deploymentsOf(bootchost.ManifestDigest, "many")...)
	to = "oci:" + filepath.Join(t.TempDir(), "image")
	runCommand(t, "copy-to-storage", "--insecure-policy", "--sysroot", only.Sysroot, "--target", to).requireSuccess(t)
	readImage(t, to).assertIs(t, only.Images[0])
}

func TestTarget(t *testing.T) {
	for target, want := range map[string]string{
		"containers-storage:localhost/bootc": "containers-storage:localhost/bootc",
		"localhost/bootc":                    "containers-storage:localhost/bootc",
		"localhost:5000/bootc":               "containers-storage:localhost:5000/bootc",
		"bootc:42":                           "containers-storage:bootc:42",
		"docker://quay.io/org/os":            "docker://quay.io/org/os",
		"registry:quay.io/org/os":            "docker://quay.io/org/os",
		"oci:/tmp/layout:os":                 "oci:/tmp/layout:os",
	} {
		assert.Equal(t, want, storageName(target))
	}
}

// A copy of a deployment by the transport alone, as other programs have it.
func TestCopyOfADeployment(t *testing.T) {
	h := bootchost.New(t, "sha512", deploymentsOf(bootchost.ManifestDigest, "hello", "sizes")...)
	for _, name := range []string{"@" + h.IDs[1][:12], "quay.io/org/sizes:latest", "org/sizes"} {
		to := "dir:" + filepath.Join(t.TempDir(), "image")
		copyImage(t, "composefs:["+h.Repository+"]"+name, to).requireSuccess(t)
		readImage(t, to).assertIs(t, h.Images[1])
	}
	copyImage(t, "composefs:["+h.Repository+"]@booted", "dir:"+t.TempDir()).assertFailure(t, "not the running system")
}

// Repositories from before manifests and tags were kept, and before meta.json:
// their images are copied by the digests of their configs.
func TestCopyFromRepositoriesWithoutManifests(t *testing.T) {
	for _, name := range fixtures.Repositories {
		repo := fixtures.Unpack(t, name)
		bootchost.RemoveManifests(t, repo)
		require.NoError(t, os.RemoveAll(filepath.Join(repo, "meta.json")))
		s := newStore(t, t.TempDir())
		for _, layout := range []string{"hello", "kinds", "sizes", "repeated", "emptylayers", "raw"} {
			t.Run(name+"/"+layout, func(t *testing.T) {
				want := fixtures.Expected(t)[layout]
				from := "composefs:[" + repo + "]@" + want.Config.String()
				for _, to := range []string{s.image(layout), "oci:" + filepath.Join(t.TempDir(), "layout")} {
					copyImage(t, from, to).requireSuccess(t)
					readImage(t, to).assertIs(t, want)
				}
			})
		}
		copyImage(t, "composefs:["+repo+"]@"+digest.FromString("none").String(), "dir:"+t.TempDir()).assertFailure(t, "not in the repository")
	}
}

// The defaults, in a mount namespace with a root directory as it is on a bootc
// host: another root is mounted from composefs, the physical root is /sysroot,
// and the kernel's command line is another.
func TestDefaultsOnARunningHost(t *testing.T) {
	needRoot(t)
	needTool(t, "unshare", "chroot", "mount")
	deployments := []bootchost.Deployment{{Layout: "hello", Name: "quay.io/org/os:42"}, {Layout: "sizes", Name: "quay.io/org/os:42"}, {Layout: "many", Name: "quay.io/org/os:41"}}
	for name, test := range map[string]struct {
		source string // of the mount at /, with %s for the ID
		line   int    // the deployment that the kernel was started for
		booted int
	}{
		"by mount":        {"composefs:%s", 0, 0},
		"by command line": {"overlay", 0, 0},
		"soft reboot":     {"composefs:%s", 2, 0},
		"transient":       {"transient:composefs=%s", 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			h := bootchost.New(t, "sha512", deployments...)
			h.CommandLine(t, "composefs=%s", test.line)
			h.Stage(t, 1, false)
			h.Menu(t, 0, 2)
			r := newRunningHost(t, h, strings.ReplaceAll(test.source, "%s", h.IDs[test.booted]))
			out := r.run(t, "deployments")
			assert.Regexp(t, "(?m)^"+h.IDs[test.booted][:12]+"  booted .*quay.io/org/os:42 .* all$", out)
			assert.Regexp(t, "(?m)^"+h.IDs[1][:12]+"  staged ", out)
			assert.Regexp(t, "(?m)^"+h.IDs[2][:12]+"  rollback ", out)

			assert.Contains(t, r.run(t, "copy-to-storage"), h.IDs[test.booted][:12])
			got := readImage(t, r.store.image("bootc:latest"))
			got.assertIs(t, h.Images[test.booted])
			assert.Equal(t, h.Images[test.booted].Manifest, got.manifest)
			id := r.store.podman(t, "image", "inspect", "--format", "{{.Id}}", "localhost/bootc")
			assert.Equal(t, h.Images[test.booted].Config.Encoded(), strings.TrimSpace(id))

			r.run(t, "copy", "composefs:@rollback", "containers-storage:localhost/old")
			readImage(t, r.store.image("old:latest")).assertIs(t, h.Images[2])
			r.run(t, "copy", "composefs:quay.io/org/os:42", "containers-storage:localhost/named")
			readImage(t, r.store.image("named:latest")).assertIs(t, h.Images[0])
		})
	}
}

// runningHost is what the command needs to find itself on a bootc host.
type runningHost struct {
	script string // which sets up the mounts and runs its arguments there
	store  store  // the default one there
}

// newRunningHost makes a host of one that was laid out, with a mount source for
// its root.
func newRunningHost(t *testing.T, h *bootchost.Host, source string) runningHost {
	t.Helper()
	dir, err := os.MkdirTemp("", "cfs") // podman takes no long ones
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	s := newStore(t, dir)
	for _, d := range []string{s.root, s.run, filepath.Join(dir, "mnt"), filepath.Join(dir, "etc")} {
		require.NoError(t, os.MkdirAll(d, 0o755))
	}
	write := func(name, content string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "etc", name), []byte(content), 0o644))
	}
	write("policy.json", `{"default":[{"type":"insecureAcceptAnything"}]}`)
	write("storage.conf", "[storage]\ndriver = \"overlay\"\ngraphroot = "+fmt.Sprintf("%q", s.root)+"\nrunroot = "+fmt.Sprintf("%q", s.run)+"\n")
	// The root is an overlay on the one there is; where TMPDIR, with the tests'
	// files and the program, is mounted on its own, it has to be bound in.
	script := `set -e
cd ` + dir + `
mount -t tmpfs layers mnt
mkdir mnt/upper mnt/work mnt/root
mount -t overlay "` + source + `" -o lowerdir=/,upperdir=mnt/upper,workdir=mnt/work mnt/root
cd mnt/root
mkdir -p sysroot etc/containers .` + os.TempDir() + `
mount --bind ` + h.Sysroot + ` sysroot
mount --rbind ` + os.TempDir() + ` .` + os.TempDir() + `
mount --rbind /proc proc
mount --bind ` + h.Root + `/proc/cmdline proc/cmdline
mount --rbind /dev dev
mount --rbind /sys sys
mount -t tmpfs run run
mkdir run/composefs
cp ` + h.Root + `/run/composefs/staged-deployment run/composefs
cp ` + dir + `/etc/* etc/containers
exec chroot . "$@"
`
	return runningHost{script, s}
}

// The program of the documentation.
func TestDocumentedProgram(t *testing.T) {
	needRoot(t)
	needTool(t, "unshare", "chroot", "mount", "go")
	h := bootchost.New(t, "sha512", bootchost.Deployment{Layout: "hello", Name: "quay.io/org/os:42"}, bootchost.Deployment{Layout: "sizes", Name: "quay.io/org/os:43"})
	h.CommandLine(t, "composefs=%s", 0)
	h.Stage(t, 1, false)
	r := newRunningHost(t, h, "composefs:"+h.IDs[0])
	program := filepath.Join(t.TempDir(), "copy-booted")
	build := exec.Command("go", "build", "-tags", "containers_image_openpgp exclude_graphdriver_btrfs exclude_graphdriver_devicemapper", "-o", program, "../../docs/copy-booted")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	assert.Contains(t, r.runProgram(t, program), h.Images[0].Config.String())
	got := readImage(t, r.store.image("booted:latest"))
	got.assertIs(t, h.Images[0])
	assert.Equal(t, h.Images[0].Manifest, got.manifest)
}

// run runs the command there, which must succeed, and returns what it prints.
func (r runningHost) run(t *testing.T, args ...string) string {
	t.Helper()
	binary, err := os.Executable()
	require.NoError(t, err)
	return r.runProgram(t, binary, args...)
}

// runProgram runs a program there, as run does.
func (r runningHost) runProgram(t *testing.T, binary string, args ...string) string {
	t.Helper()
	cmd := exec.Command("unshare", append([]string{"--mount", "--propagation", "private", "sh", "-c", r.script, "sh", binary}, args...)...)
	cmd.Env = append(os.Environ(), asCommand+"=1")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	require.NoError(t, cmd.Run(), "%s%s", &stdout, &stderr)
	return stdout.String()
}
