// Package packagemaker makes packages for tests, with rpmbuild and dpkg-deb, and has
// rpm and dpkg install them into a root directory.
package packagemaker

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/internal/needs"
)

// Package is a package to be made.
type Package struct {
	Name    string
	Version string // [EPOCH:]VERSION-RELEASE
	Arch    string // "" for that of all machines
	Source  string // the source package's name, "" for the package's own
	// Files are the files' contents by their absolute paths.
	Files map[string]string
}

// run runs a program and returns what it prints.
func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "HOME="+t.TempDir())
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, "%s %s: %s%s", name, strings.Join(args, " "), out, &stderr)
	return string(out)
}

func write(t testing.TB, path, content string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, []byte(content), 0o644))
}

// Deb makes a package of Debian's and returns its path.
func Deb(t testing.TB, p Package) string {
	t.Helper()
	needs.Tool(t, "dpkg-deb")
	dir := t.TempDir()
	if p.Arch == "" {
		p.Arch = "all"
	}
	control := fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: %s\nMaintainer: Nobody <nobody@example.org>\nInstalled-Size: %d\nDescription: %[1]s\n about nothing\n",
		p.Name, p.Version, p.Arch, 4*len(p.Files))
	if p.Arch != "all" {
		control += "Multi-Arch: same\n"
	}
	if p.Source != "" {
		control += "Source: " + p.Source + " (9)\n"
	}
	write(t, filepath.Join(dir, "tree/DEBIAN/control"), control)
	for path, content := range p.Files {
		write(t, filepath.Join(dir, "tree", path), content)
	}
	deb := filepath.Join(dir, "package.deb")
	run(t, "dpkg-deb", "--root-owner-group", "-Znone", "--build", filepath.Join(dir, "tree"), deb)
	return deb
}

// dpkg runs dpkg for a root directory.
func dpkg(t testing.TB, root string, args ...string) {
	t.Helper()
	needs.Root(t)
	needs.Tool(t, "dpkg", "dpkg-query")
	for _, name := range []string{"status", "available"} {
		path := filepath.Join(root, "var/lib/dpkg", name)
		if _, err := os.Stat(path); err != nil {
			write(t, path, "")
		}
	}
	for _, name := range []string{"info", "updates"} {
		require.NoError(t, os.MkdirAll(filepath.Join(root, "var/lib/dpkg", name), 0o755))
	}
	run(t, "dpkg", append([]string{"--root=" + root, "--force-all", "--log=/dev/null"}, args...)...)
}

// InstallDebs has dpkg install packages, or other versions of what is there.
func InstallDebs(t testing.TB, root string, debs ...string) {
	t.Helper()
	dpkg(t, root, append([]string{"--install"}, debs...)...)
}

// RemoveDebs has dpkg remove packages by their names; their configuration stays.
func RemoveDebs(t testing.TB, root string, names ...string) {
	t.Helper()
	dpkg(t, root, append([]string{"--remove"}, names...)...)
}

// RPM makes a package of rpm's and returns its path.
func RPM(t testing.TB, p Package) string {
	t.Helper()
	needs.Tool(t, "rpm", "rpmbuild")
	dir := t.TempDir()
	if p.Arch == "" {
		p.Arch = "noarch"
	}
	version, release, _ := strings.Cut(p.Version, "-")
	epoch, version, hasEpoch := cutEpoch(version)
	var spec strings.Builder
	source := p.Source
	if source == "" {
		source = p.Name
	}
	fmt.Fprintf(&spec, "Name: %s\nVersion: %s\nRelease: %s\nSummary: %[1]s\nLicense: none\nAutoReqProv: no\n", source, version, release)
	if hasEpoch {
		fmt.Fprintf(&spec, "Epoch: %s\n", epoch)
	}
	spec.WriteString("%define __os_install_post %{nil}\n%define debug_package %{nil}\n%description\nabout nothing\n")
	section := ""
	if source != p.Name {
		section = "-n " + p.Name
		fmt.Fprintf(&spec, "%%package %s\nSummary: %s\nAutoReqProv: no\n%%description %[1]s\nabout nothing\n", section, p.Name)
	}
	spec.WriteString("%install\n")
	for path, content := range p.Files {
		write(t, filepath.Join(dir, "tree", path), content)
		fmt.Fprintf(&spec, "install -D -m 644 %s %%{buildroot}%s\n", filepath.Join(dir, "tree", path), path)
	}
	fmt.Fprintf(&spec, "%%files %s\n", section)
	for path := range p.Files {
		fmt.Fprintln(&spec, path)
	}
	write(t, filepath.Join(dir, "package.spec"), spec.String())
	run(t, "rpmbuild", "-bb", "--target", p.Arch, "--define", "_topdir "+filepath.Join(dir, "build"), filepath.Join(dir, "package.spec"))
	made, err := filepath.Glob(filepath.Join(dir, "build/RPMS", p.Arch, "*.rpm"))
	require.NoError(t, err)
	require.Len(t, made, 1)
	return made[0]
}

func cutEpoch(version string) (epoch, rest string, found bool) {
	epoch, rest, found = strings.Cut(version, ":")
	if !found {
		return "", version, false
	}
	return epoch, rest, true
}

// RPMDir is where InstallRPMs keeps rpm's database.
const RPMDir = "/usr/lib/sysimage/rpm"

// RunRPM runs rpm for a root directory, with a format of the database, and returns
// what it prints.
func RunRPM(t testing.TB, root, backend string, args ...string) string {
	t.Helper()
	needs.Tool(t, "rpm")
	return run(t, "rpm", append([]string{"--root", root, "--dbpath", RPMDir, "--define", "_db_backend " + backend}, args...)...)
}

// InstallRPMs has rpm install packages beside those that are there, with a database
// of SQLite.
func InstallRPMs(t testing.TB, root string, rpms ...string) {
	t.Helper()
	needs.Root(t)
	RunRPM(t, root, "sqlite", append([]string{"--install", "--nodeps", "--force", "--ignorearch", "--noscripts"}, rpms...)...)
}
