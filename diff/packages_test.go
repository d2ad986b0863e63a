package diff_test

import (
	"os/exec"
	"strings"
	"testing"

	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/diff"
	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/packagemaker"
	"github.com/skopeo-cfs/skopeo-cfs/packages"
)

// tarOf returns the tar of a directory.
func tarOf(t testing.TB, dir string) []byte {
	t.Helper()
	out, err := exec.Command("tar", "-C", dir, "-cf", "-", ".").Output()
	require.NoError(t, err)
	return out
}

// asText returns what is written for people.
func asText(t testing.TB, r *diff.Result, layout diff.Layout) string {
	t.Helper()
	var b strings.Builder
	require.NoError(t, r.WriteText(&b, layout))
	return b.String()
}

func TestDebianPackages(t *testing.T) {
	root := t.TempDir()
	deb := func(name, version, arch string) string {
		return packagemaker.Deb(t, packagemaker.Package{Name: name, Version: version, Arch: arch, Files: map[string]string{"/usr/share/" + name + "/" + arch: large + version}})
	}
	packagemaker.InstallDebs(t, root, deb("alpha", "1:1.9-1", ""), deb("beta", "2.0", ""), deb("gone", "1", "amd64"), deb("same", "1", ""),
		deb("libm", "1", "amd64"), deb("libm", "1", "i386"))
	r := newRepository(t, fsverity.SHA512)
	old := r.add(imgspecv1.ImageConfig{}, tarOf(t, root))
	packagemaker.RemoveDebs(t, root, "gone")
	packagemaker.InstallDebs(t, root, deb("alpha", "1:1.10-1", ""), deb("beta", "2.0~rc1", ""), deb("come", "3", "amd64"), deb("libm", "2", "amd64"), deb("libm", "2", "i386"))
	new := r.add(imgspecv1.ImageConfig{}, tarOf(t, root))

	result := images(t, old, new, diff.Sections{Packages: true})
	assert.Nil(t, result.Files)
	assert.Equal(t, `Upgraded:
  alpha 1:1.9-1 -> 1:1.10-1
  libm:amd64 1 -> 2
  libm:i386 1 -> 2
Downgraded:
  beta 2.0 -> 2.0~rc1
Removed:
  gone:amd64 1
Added:
  come:amd64 3
`, asText(t, result, diff.Lists))
	assert.Contains(t, asText(t, result, diff.Counts), "Packages: 3 upgraded, 1 downgraded, 1 removed, 1 added\n")
	all := images(t, old, new, diff.All)
	assert.Equal(t, result.Packages, all.Packages)
	var paths []string
	for _, c := range all.Files.Changes {
		paths = append(paths, string(c.Kind)+" "+c.Path)
	}
	assert.Contains(t, paths, "removed /usr/share/gone/amd64")
	assert.Contains(t, paths, "changed /var/lib/dpkg/status")
}

func TestRPMs(t *testing.T) {
	root := t.TempDir()
	rpm := func(name, version string) string {
		return packagemaker.RPM(t, packagemaker.Package{Name: name, Version: version})
	}
	packagemaker.InstallRPMs(t, root, rpm("kernel", "6.1-1"), rpm("kernel", "6.2-1"), rpm("bash", "5.2.15-1.fc39"), rpm("vim", "2:9-1"))
	r := newRepository(t, fsverity.SHA512)
	old := r.add(imgspecv1.ImageConfig{}, tarOf(t, root))
	packagemaker.RunRPM(t, root, "sqlite", "--erase", "kernel-6.1-1", "vim", "bash")
	packagemaker.InstallRPMs(t, root, rpm("kernel", "6.3-1"), rpm("bash", "5.2.26-1.fc40"), rpm("zsh", "5-1"))
	new := r.add(imgspecv1.ImageConfig{}, tarOf(t, root))
	assert.Equal(t, `Upgraded:
  bash 5.2.15-1.fc39 -> 5.2.26-1.fc40
Removed:
  kernel-6.1-1.noarch
  vim-2:9-1.noarch
Added:
  kernel-6.3-1.noarch
  zsh-5-1.noarch
`, asText(t, images(t, old, new, diff.Sections{Packages: true}), diff.Lists))
	assert.Equal(t, `Downgraded:
  bash 5.2.26-1.fc40 -> 5.2.15-1.fc39
`, asText(t, images(t, new, old, diff.Sections{Packages: true}), diff.Lists)[:len("Downgraded:\n  bash 5.2.26-1.fc40 -> 5.2.15-1.fc39\n")])
}

// What pairs up is told from databases that need no program.
func TestPairs(t *testing.T) {
	image := func(packages string) []byte {
		var db strings.Builder
		for _, p := range strings.Fields(packages) {
			fields := strings.Split(p, "|")
			db.WriteString("P:" + fields[0] + "\nV:" + fields[1] + "\nA:" + fields[2] + "\n\n")
		}
		return makeTar(t, dir("lib"), dir("lib/apk"), dir("lib/apk/db"), file("lib/apk/db/installed", db.String()))
	}
	for name, test := range map[string]struct{ old, new, want string }{
		"same":                      {"a|1|x", "a|1|x", ""},
		"other version":             {"a|1|x", "a|2|x", "up a 1 2"},
		"other architecture":        {"a|1|x", "a|1|y", "- a 1, + a 1"},
		"both":                      {"a|1|x", "a|2|y", "up a 1 2"},
		"second of another version": {"a|1|x", "a|1|x a|2|x", "+ a 2"},
		"several to one":            {"a|1|x a|2|x", "a|3|x", "- a 1, - a 2, + a 3"},
		"one of several":            {"a|1|x a|1|y", "a|1|x a|2|y", "up a 1 2"},
		"all":                       {"", "a|1|x b|1|x", "+ a 1, + b 1"},
		"none":                      {"a|1|x", "", "- a 1"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRepository(t, fsverity.SHA256)
			result := images(t, r.add(imgspecv1.ImageConfig{}, image(test.old)), r.add(imgspecv1.ImageConfig{}, image(test.new)), diff.Sections{Packages: true})
			var got []string
			for _, c := range result.Packages.Upgraded {
				got = append(got, "up "+c.New.Name+" "+c.Old.Version+" "+c.New.Version)
			}
			for _, c := range result.Packages.Downgraded {
				got = append(got, "down "+c.New.Name+" "+c.Old.Version+" "+c.New.Version)
			}
			for sign, list := range [][]packages.Package{result.Packages.Removed, result.Packages.Added} {
				for _, p := range list {
					got = append(got, []string{"- ", "+ "}[sign]+p.Name+" "+p.Version)
				}
			}
			assert.Equal(t, test.want, strings.Join(got, ", "))
			assert.Equal(t, test.want == "", result.Equal())
		})
	}
}
