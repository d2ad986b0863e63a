package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
	"github.com/skopeo-cfs/skopeo-cfs/internal/needs"
)

// tags are the build tags of the Makefile.
const tags = "containers_image_openpgp exclude_graphdriver_btrfs exclude_graphdriver_devicemapper"

// askStore is the path of a program that is podman where it looks for its store.
const askStore = "internal/podmanio/testdata/askstore"

// program builds a package of a module, with other versions where modfile is not
// empty, and returns the path of the program.
func program(t *testing.T, module, modfile, pkg string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), filepath.Base(pkg))
	tags := tags
	if _, err := os.Stat("/usr/include/sqlite3.h"); err == nil {
		tags += " libsqlite3" // compiling another takes more than a minute
	}
	cmd := exec.Command("go", "build", "-buildvcs=false", "-tags", tags, "-modfile="+modfile, "-o", path, "./"+pkg)
	cmd.Dir = module
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	return path
}

// configuration is a machine's, and what is to come of it.
type configuration struct {
	files  map[string]string // by path below /; ROOT is a directory of the case's own
	env    string            // of all commands; ROOT here too
	store  string            // the root of the store that podman 6 uses, below ROOT
	before string            // that of podman up to 5.6; "" if the command refuses to copy
}

const (
	vendorConf = "[storage]\ndriver = \"vfs\"\ngraphroot = \"ROOT/vendor\"\nrunroot = \"ROOT/run\"\n"
	anyImage   = `{"default": [{"type": "insecureAcceptAnything"}]}`
)

var configurations = map[string]configuration{
	"an administrator's drop-in": {
		files: map[string]string{
			"usr/share/containers/storage.conf":               vendorConf,
			"etc/containers/storage.conf.d/50-elsewhere.conf": "[storage]\ngraphroot = \"ROOT/elsewhere\"\n",
			"etc/containers/policy.json":                      anyImage,
		},
		store: "elsewhere", before: "vendor",
	},
	"a vendor's drop-in": {
		files: map[string]string{
			"etc/containers/storage.conf":                       vendorConf,
			"usr/share/containers/storage.conf.d/10-image.conf": "[storage]\ngraphroot = \"ROOT/of the image\"\n",
			"etc/containers/policy.json":                        anyImage,
		},
		store: "of the image", before: "vendor",
	},
	"a drop-in in place of the vendor's": {
		files: map[string]string{
			"usr/share/containers/storage.conf":              vendorConf,
			"usr/share/containers/storage.conf.d/store.conf": "[storage]\ngraphroot = \"ROOT/hidden\"\n",
			"etc/containers/storage.conf.d/store.conf":       "[storage]\ngraphroot = \"ROOT/shown\"\n",
			"etc/containers/policy.json":                     anyImage,
		},
		store: "shown", before: "vendor",
	},
	"a user's drop-in": {
		files: map[string]string{
			"usr/share/containers/storage.conf":        vendorConf,
			"home/containers/storage.conf.d/mine.conf": "[storage]\ngraphroot = \"ROOT/mine\"\n",
			"etc/containers/policy.json":               anyImage,
		},
		env:   "XDG_CONFIG_HOME=ROOT/home",
		store: "mine", before: "vendor",
	},
	"a file named in the environment": {
		files: map[string]string{
			"usr/share/containers/storage.conf":               vendorConf,
			"etc/containers/storage.conf.d/50-elsewhere.conf": "[storage]\ngraphroot = \"ROOT/elsewhere\"\n",
			"home/override.conf":                              "[storage]\ngraphroot = \"ROOT/named\"\n",
			"etc/containers/policy.json":                      anyImage,
		},
		env:   "CONTAINERS_STORAGE_CONF_OVERRIDE=ROOT/home/override.conf",
		store: "named", before: "vendor",
	},
	"the vendor's policy": {
		files: map[string]string{
			"etc/containers/storage.conf":      vendorConf,
			"usr/share/containers/policy.json": anyImage,
		},
		store: "vendor", before: "",
	},
}

// The command that is shipped puts an image where podman 6 finds it. On the
// libraries of podman 5.6 it would not: they know of no drop-ins for the store,
// and of no policy under /usr/share.
func TestTheCommandFindsTheStoreOfPodman(t *testing.T) {
	needs.Root(t)
	needs.Tool(t, "unshare")
	for _, dir := range []string{"/etc/containers", "/usr/share/containers"} {
		if _, err := os.Stat(dir); err != nil && os.Getenv("CI") != "true" {
			t.Skipf("needs %s, which podman's packages make", dir)
		}
	}
	module := t.TempDir()
	require.NoError(t, run([]string{"-from", root, "-o", module}))
	source, err := os.ReadFile(filepath.Join(root, askStore, "main.go"))
	require.NoError(t, err)
	source, err = rewrite("main.go", source)
	require.NoError(t, err)
	require.NoError(t, writeFile(filepath.Join(module, "askstore/main.go"), source, 0o644))

	podman := program(t, module, "newest.mod", "askstore")
	shipped := program(t, module, "newest.mod", "cmd/skopeo-cfs")
	podmanBefore := program(t, root, "go.mod", askStore)
	shippedBefore := program(t, root, "go.mod", "cmd/skopeo-cfs")
	repository := fixtures.Unpack(t, "sha512")

	for name, c := range configurations {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, c)
			require.NoError(t, m.copy(shipped, repository, "localhost/new"))
			assert.Equal(t, []string{m.path(c.store), "vfs", "localhost/new:latest"}, m.ask(t, podman))

			err := m.copy(shippedBefore, repository, "localhost/old")
			if c.before == "" {
				assert.ErrorContains(t, err, "reading the trust policy")
				return
			}
			require.NoError(t, err)
			assert.Equal(t, []string{m.path(c.before), "vfs", "localhost/old:latest"}, m.ask(t, podmanBefore))
			assert.NotContains(t, m.ask(t, podman), "localhost/old:latest")
		})
	}
}

// machine is a directory with a configuration in it.
type machine struct{ root, env string }

func newMachine(t *testing.T, c configuration) machine {
	t.Helper()
	m := machine{root: t.TempDir()}
	m.env = m.in(c.env)
	for _, dir := range []string{"etc/containers", "usr/share/containers"} {
		require.NoError(t, os.MkdirAll(m.path(dir), 0o755))
	}
	for path, content := range c.files {
		require.NoError(t, writeFile(m.path(path), []byte(m.in(content)), 0o644))
	}
	return m
}

func (m machine) path(name string) string { return filepath.Join(m.root, name) }

func (m machine) in(text string) string { return strings.ReplaceAll(text, "ROOT", m.root) }

// run runs a command where the configuration is the machine's, and returns its
// output.
func (m machine) run(command ...string) (string, error) {
	const script = `mount --bind "$0/etc/containers" /etc/containers &&
mount --bind "$0/usr/share/containers" /usr/share/containers && exec "$@"`
	cmd := exec.Command("unshare", append([]string{"--mount", "sh", "-c", script, m.root}, command...)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + m.path("nobody"), m.env}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", command[0], err, out)
	}
	return string(out), nil
}

func (m machine) copy(command, repository, name string) error {
	_, err := m.run(command, "copy", "-q", "composefs:["+repository+"]hello", "containers-storage:"+name)
	return err
}

// ask returns the lines that askStore prints.
func (m machine) ask(t *testing.T, program string) []string {
	t.Helper()
	out, err := m.run(program)
	require.NoError(t, err)
	return strings.Split(strings.TrimSpace(out), "\n")
}

// --version tells which command it is.
func TestTheVersionNamesTheLibraries(t *testing.T) {
	module := t.TempDir()
	require.NoError(t, run([]string{"-from", root, "-o", module}))
	for _, c := range []struct{ module, modfile, prefix string }{
		{module, "newest.mod", "go.podman.io"},
		{root, "go.mod", "github.com/containers"},
	} {
		out, err := exec.Command(program(t, c.module, c.modfile, "cmd/skopeo-cfs"), "--version").Output()
		require.NoError(t, err)
		lines := strings.Split(string(out), "\n")
		assert.Regexp(t, `^skopeo-cfs version \S+$`, lines[0])
		mod, err := readMod(filepath.Join(c.module, c.modfile))
		require.NoError(t, err)
		var want []string
		for _, require := range mod.Require {
			if path := require.Mod.Path; path == c.prefix+"/image/v5" || path == c.prefix+"/storage" {
				want = append(want, path+" "+require.Mod.Version)
			}
		}
		assert.Len(t, want, 2)
		assert.Equal(t, append(want, ""), lines[1:])
	}
}
