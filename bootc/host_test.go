package bootc_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/bootc"
	"github.com/skopeo-cfs/skopeo-cfs/internal/bootchost"
)

var three = []bootchost.Deployment{{Layout: "hello"}, {Layout: "kinds"}, {Layout: "sizes"}}

func open(t *testing.T, h *bootchost.Host) *bootc.Host {
	t.Helper()
	host, err := bootc.Open("", &bootc.Options{Root: h.Root})
	require.NoError(t, err)
	assert.True(t, host.Running)
	return host
}

// statesOf returns the states of the deployments in the order in which they
// were laid out.
func statesOf(t *testing.T, h *bootchost.Host, host *bootc.Host) []bootc.State {
	t.Helper()
	require.Len(t, host.Deployments, len(h.IDs))
	states := make([]bootc.State, len(h.IDs))
	for i, id := range h.IDs {
		d, err := host.Find(id)
		require.NoError(t, err)
		states[i] = d.State
	}
	return states
}

func TestStates(t *testing.T) {
	uki := []bootchost.Deployment{{Layout: "hello", UKI: true}, {Layout: "kinds", UKI: true}, {Layout: "sizes", UKI: true}}
	for name, test := range map[string]struct {
		deployments []bootchost.Deployment
		lay         func(t *testing.T, h *bootchost.Host)
		want        []bootc.State
	}{
		"booted by mount": {three, func(t *testing.T, h *bootchost.Host) {
			h.Mount(t, 1)
			h.Menu(t, 1, 0, 2)
		}, []bootc.State{bootc.Rollback, bootc.Booted, bootc.Other}},
		"by the command line": {three, func(t *testing.T, h *bootchost.Host) {
			h.MountAnother(t)
			h.CommandLine(t, "composefs=%s", 1)
			h.Menu(t, 1, 2, 0)
		}, []bootc.State{bootc.Other, bootc.Booted, bootc.Rollback}},
		"by the digest of the repository's algorithm": {three, func(t *testing.T, h *bootchost.Host) {
			h.CommandLine(t, "composefs.digest=v1-sha256-12:"+strings.Repeat("0", 64)+" composefs.digest=v1-sha512-12:"+strings.Repeat("0", 128)+" composefs.digest=v2-sha512-12:%s", 1)
			h.Menu(t, 1, 2, 0)
		}, []bootc.State{bootc.Other, bootc.Booted, bootc.Rollback}},
		"without verity": {three, func(t *testing.T, h *bootchost.Host) {
			h.CommandLine(t, "composefs=?%s", 2)
			h.Menu(t, 2, 0, 1)
		}, []bootc.State{bootc.Rollback, bootc.Other, bootc.Booted}},
		"soft reboot": {three, func(t *testing.T, h *bootchost.Host) {
			h.CommandLine(t, "composefs=%s", 0)
			h.Mount(t, 2)
			h.Menu(t, 2, 0, 1)
		}, []bootc.State{bootc.Rollback, bootc.Other, bootc.Booted}},
		"transient": {three, func(t *testing.T, h *bootchost.Host) {
			h.MountTransient(t, 0)
			h.Menu(t, 0, 1)
		}, []bootc.State{bootc.Booted, bootc.Rollback, bootc.Other}},
		"staged": {three, func(t *testing.T, h *bootchost.Host) {
			h.Boot(t, 0)
			h.Stage(t, 2, false)
			h.Menu(t, 0, 1)
		}, []bootc.State{bootc.Booted, bootc.Rollback, bootc.Staged}},
		"staged and in the menu": {three, func(t *testing.T, h *bootchost.Host) {
			h.Boot(t, 0)
			h.Stage(t, 2, false)
			h.Menu(t, 2, 0, 1)
		}, []bootc.State{bootc.Booted, bootc.Rollback, bootc.Staged}},
		"rollback queued": {three, func(t *testing.T, h *bootchost.Host) {
			h.Boot(t, 0)
			h.Menu(t, 2, 0)
		}, []bootc.State{bootc.Booted, bootc.Other, bootc.Rollback}},
		"nothing to roll back to": {three, func(t *testing.T, h *bootchost.Host) {
			h.Boot(t, 0)
			h.Menu(t, 0)
		}, []bootc.State{bootc.Booted, bootc.Other, bootc.Other}},
		"booted from what was staged": {three, func(t *testing.T, h *bootchost.Host) {
			h.Boot(t, 0)
			h.Stage(t, 0, false)
			h.Menu(t, 0, 1)
		}, []bootc.State{bootc.Booted, bootc.Rollback, bootc.Other}},
		"no boot partition": {three, func(t *testing.T, h *bootchost.Host) {
			h.Boot(t, 0)
			h.Stage(t, 2, false)
		}, []bootc.State{bootc.Booted, bootc.Unknown, bootc.Staged}},
		"another system's menu": {three, func(t *testing.T, h *bootchost.Host) {
			h.Boot(t, 0)
			entry := filepath.Join(h.Root, "boot/loader/entries/fedora.conf")
			require.NoError(t, os.MkdirAll(filepath.Dir(entry), 0o755))
			require.NoError(t, os.WriteFile(entry, []byte("linux /vmlinuz\noptions root=UUID=1\n"), 0o644))
		}, []bootc.State{bootc.Booted, bootc.Unknown, bootc.Unknown}},
		"unified images and GRUB": {uki, func(t *testing.T, h *bootchost.Host) {
			h.Boot(t, 0)
			h.Menu(t, 0, 2, 1)
		}, []bootc.State{bootc.Booted, bootc.Other, bootc.Rollback}},
		"unified images and systemd-boot": {uki, func(t *testing.T, h *bootchost.Host) {
			h.Boot(t, 0)
			h.EFIMenu(t, "efi", 0, 2, 1)
		}, []bootc.State{bootc.Booted, bootc.Other, bootc.Rollback}},
		"systemd-boot in /boot/efi": {three, func(t *testing.T, h *bootchost.Host) {
			h.Boot(t, 1)
			h.EFIMenu(t, "boot/efi", 1, 2, 0)
		}, []bootc.State{bootc.Other, bootc.Booted, bootc.Rollback}},
		"systemd-boot in /boot": {three, func(t *testing.T, h *bootchost.Host) {
			h.Boot(t, 1)
			h.EFIMenu(t, "boot", 1, 2, 0)
		}, []bootc.State{bootc.Other, bootc.Booted, bootc.Rollback}},
		"nothing booted": {three, func(t *testing.T, h *bootchost.Host) {
			h.Menu(t, 0, 1)
		}, []bootc.State{bootc.Rollback, bootc.Other, bootc.Other}},
		"two": {three[:2], func(t *testing.T, h *bootchost.Host) {
			h.Boot(t, 0)
			h.Menu(t, 0, 1)
		}, []bootc.State{bootc.Booted, bootc.Rollback}},
	} {
		t.Run(name, func(t *testing.T) {
			h := bootchost.New(t, "", test.deployments...)
			test.lay(t, h)
			host := open(t, h)
			assert.Equal(t, test.want, statesOf(t, h, host))
			assert.Empty(t, host.Warnings)
			for _, d := range host.Deployments {
				assert.NoError(t, d.Err)
			}
		})
	}
}

func TestTenDeploymentsInOrder(t *testing.T) {
	var ten []bootchost.Deployment
	for _, layout := range []string{"hello", "kinds", "sizes", "rootdir", "gnu-ustar", "trailers", "repeated", "many", "zstd", "raw"} {
		ten = append(ten, bootchost.Deployment{Layout: layout})
	}
	h := bootchost.New(t, "", ten...)
	h.Boot(t, 4)
	h.Stage(t, 7, true)
	h.Menu(t, 4, 9, 2, 0)
	host := open(t, h)
	require.Len(t, host.Deployments, 10)
	for n, i := range []int{4, 7, 9, 2, 0} {
		assert.Equal(t, h.IDs[i], host.Deployments[n].ID, "place %d", n)
	}
	assert.True(t, host.Deployments[1].Locked)
	assert.Equal(t, "quay.io/org/gnu-ustar:latest", host.Deployments[0].Image.Name)
	assert.Equal(t, h.Images[4].Manifest, host.Deployments[0].ManifestDigest)
	assert.Equal(t, bootc.BLS, host.Deployments[0].BootType)
	assert.Equal(t, strings.Repeat("0b", 32), host.Deployments[0].BootDigest)
	assert.False(t, host.Deployments[0].Written.IsZero())
}

func TestFind(t *testing.T) {
	h := bootchost.New(t, "", three...)
	h.Boot(t, 0)
	host := open(t, h)
	d, err := host.Find("booted")
	require.NoError(t, err)
	assert.Equal(t, h.IDs[0], d.ID)
	d, err = host.Find(h.IDs[1][:12])
	require.NoError(t, err)
	assert.Equal(t, h.IDs[1], d.ID)

	for name, want := range map[string]error{
		"staged": bootc.ErrNotFound, "rollback": bootc.ErrRollbackUnknown, strings.Repeat("0", 12): bootc.ErrNotFound, "": bootc.ErrAmbiguous,
	} {
		_, err := host.Find(name)
		assert.ErrorIs(t, err, want, name)
	}
	_, err = host.Find("staged")
	assert.ErrorContains(t, err, "@"+h.IDs[0][:12])
	h.Menu(t, 0)
	_, err = open(t, h).Find("rollback")
	assert.ErrorIs(t, err, bootc.ErrNotFound)
}

// A host that is not the running one has nothing booted, though what the
// running system tells of itself would fit.
func TestHostThatIsNotRunning(t *testing.T) {
	h := bootchost.New(t, "", three...)
	h.Boot(t, 0)
	h.Stage(t, 1, false)
	h.Menu(t, 2, 0, 1)
	host, err := bootc.Open(h.Sysroot, &bootc.Options{Root: t.TempDir()})
	require.NoError(t, err)
	assert.False(t, host.Running)
	assert.Equal(t, []bootc.State{bootc.Other, bootc.Other, bootc.Other}, statesOf(t, h, host))
	assert.Equal(t, h.IDs[2], host.Deployments[0].ID)
	_, err = host.Find("booted")
	assert.ErrorIs(t, err, bootc.ErrNotFound)
	assert.ErrorContains(t, err, "not the running system")

	link := filepath.Join(t.TempDir(), "link")
	require.NoError(t, os.Symlink(h.Sysroot, link))
	host, err = bootc.Open(link, &bootc.Options{Root: h.Root})
	require.NoError(t, err)
	assert.True(t, host.Running)
	assert.Equal(t, bootc.Booted, statesOf(t, h, host)[0])
}

func TestHostsOfOtherKinds(t *testing.T) {
	for name, test := range map[string]struct {
		dirs []string
		want error
	}{
		"no sysroot":        {nil, bootc.ErrNotBootc},
		"an empty one":      {[]string{"sysroot"}, bootc.ErrNotBootc},
		"ostree's":          {[]string{"sysroot/ostree/repo"}, bootc.ErrOSTree},
		"booted by ostree":  {[]string{"sysroot", "run/ostree-booted"}, bootc.ErrOSTree},
		"ostree, no access": {[]string{"run/ostree-booted"}, bootc.ErrOSTree},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for _, dir := range test.dirs {
				require.NoError(t, os.MkdirAll(filepath.Join(root, dir), 0o755))
			}
			_, err := bootc.Open("", &bootc.Options{Root: root})
			assert.ErrorIs(t, err, test.want)
			assert.ErrorContains(t, err, filepath.Join(root, "sysroot"))
		})
	}
	_, err := bootc.Open(filepath.Join(t.TempDir(), "none"), nil)
	assert.ErrorIs(t, err, fs.ErrNotExist)
	assert.NotErrorIs(t, err, bootc.ErrNotBootc)
}

// A host may have deployments of bootc's and yet have booted from ostree.
func TestBootedFromOSTreeAllTheSame(t *testing.T) {
	h := bootchost.New(t, "", three...)
	require.NoError(t, os.MkdirAll(filepath.Join(h.Root, "run"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(h.Root, "run/ostree-booted"), nil, 0o644))
	_, err := open(t, h).Find("booted")
	assert.ErrorIs(t, err, bootc.ErrOSTree)
}

// What is wrong with one deployment hides none of the others.
func TestHostileDeployments(t *testing.T) {
	for name, spoil := range map[string]func(origin string) error{
		"garbage":     func(p string) error { return os.WriteFile(p, []byte("\x00[\n"), 0o644) },
		"absent":      os.Remove,
		"endless":     func(p string) error { return os.Truncate(p, 1<<40) },
		"a link":      func(p string) error { return replace(p, func() error { return os.Symlink("/etc/hostname", p) }) },
		"a loop":      func(p string) error { return replace(p, func() error { return os.Symlink(filepath.Base(p), p) }) },
		"a fifo":      func(p string) error { return replace(p, func() error { return unix.Mkfifo(p, 0o644) }) },
		"a directory": func(p string) error { return replace(p, func() error { return os.Mkdir(p, 0o755) }) },
		"of another": func(p string) error {
			dir := filepath.Dir(p)
			if err := os.RemoveAll(dir); err != nil {
				return err
			}
			return os.Symlink("/etc", dir)
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := bootchost.New(t, "", three...)
			h.Boot(t, 0)
			require.NoError(t, spoil(filepath.Join(h.Sysroot, "state/deploy", h.IDs[1], h.IDs[1]+".origin")))
			host := open(t, h)
			require.Len(t, host.Deployments, 3)
			for _, d := range host.Deployments {
				if d.ID == h.IDs[1] {
					assert.ErrorContains(t, d.Err, d.ID)
					assert.Empty(t, d.Image)
				} else {
					assert.NoError(t, d.Err)
					assert.NotEmpty(t, d.Image)
				}
			}
		})
	}
}

func replace(path string, put func() error) error {
	if err := os.Remove(path); err != nil {
		return err
	}
	return put()
}

func TestWhatIsNoDeploymentIsLeftOut(t *testing.T) {
	h := bootchost.New(t, "", three...)
	for _, name := range []string{"lost+found", "x", h.IDs[0] + ".tmp", strings.ToUpper(h.IDs[0])} {
		require.NoError(t, os.Mkdir(filepath.Join(h.Sysroot, "state/deploy", name), 0o755))
	}
	assert.Len(t, open(t, h).Deployments, 3)
}

// What the running system tells of itself may be wrong; the deployments are
// listed all the same.
func TestWarnings(t *testing.T) {
	for name, test := range map[string]struct{ path, content, warning string }{
		"staged garbage":       {"run/composefs/staged-deployment", "x", "staged"},
		"staged nothing":       {"run/composefs/staged-deployment", `{"depl_id":"` + strings.Repeat("0", 128) + `"}`, "no such deployment"},
		"staged without end":   {"run/composefs/staged-deployment", strings.Repeat(" ", 1<<20), "more than"},
		"booted what is gone":  {"proc/cmdline", "composefs=" + strings.Repeat("0", 128), "no such deployment"},
		"a mount table broken": {"proc/self/mountinfo", "x\n", "mountinfo"},
	} {
		t.Run(name, func(t *testing.T) {
			h := bootchost.New(t, "", three...)
			path := filepath.Join(h.Root, test.path)
			require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
			require.NoError(t, os.WriteFile(path, []byte(test.content), 0o644))
			host := open(t, h)
			assert.Len(t, host.Deployments, 3)
			require.Len(t, host.Warnings, 1)
			assert.ErrorContains(t, host.Warnings[0], test.warning)
		})
	}
}
