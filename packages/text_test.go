package packages

import (
	"context"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/internal/needs"
	"github.com/skopeo-cfs/skopeo-cfs/internal/packagemaker"
)

// asDpkg returns what dpkg says is installed in a root directory.
func asDpkg(t testing.TB, root string) []string {
	t.Helper()
	cmd := exec.Command("dpkg-query", "--admindir="+filepath.Join(root, "var/lib/dpkg"), "-W", "-f", `${db:Status-Status}|${Package}|${Version}|${Architecture}|${source:Package}|${Installed-Size}\n`)
	out, err := cmd.Output()
	require.NoError(t, err)
	var lines []string
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		fields := strings.Split(line, "|")
		if !dpkgStates[fields[0]] {
			continue
		}
		if fields[4] == fields[1] {
			fields[4] = ""
		}
		lines = append(lines, strings.Join(fields[1:5], "|")+"|"+fields[5])
	}
	slices.Sort(lines)
	return lines
}

func TestDpkg(t *testing.T) {
	root := t.TempDir()
	packagemaker.InstallDebs(t, root,
		packagemaker.Deb(t, packagemaker.Package{Name: "alpha", Version: "1:2.0~rc1-3+deb12u1", Files: map[string]string{"/usr/share/alpha": "a"}}),
		packagemaker.Deb(t, packagemaker.Package{Name: "libbeta1", Version: "1.0", Source: "beta", Arch: "amd64"}),
		packagemaker.Deb(t, packagemaker.Package{Name: "libbeta1", Version: "1.0", Source: "beta", Arch: "i386"}),
		packagemaker.Deb(t, packagemaker.Package{Name: "gone", Version: "1", Files: map[string]string{"/etc/gone": "x"}}))
	check := func(n int) {
		want := asDpkg(t, root)
		require.Len(t, want, n)
		got, err := Read(t.Context(), os.DirFS(root))
		require.NoError(t, err)
		for i := range got {
			assert.Equal(t, Deb, got[i].Kind)
			got[i].Size /= 1 << 10 // dpkg's unit
		}
		assert.Equal(t, want, asLines(got))
	}
	check(4)
	packagemaker.RemoveDebs(t, root, "gone")
	check(3)
	packagemaker.InstallDebs(t, root, packagemaker.Deb(t, packagemaker.Package{Name: "alpha", Version: "1:2.0-1"}))
	check(3)
}

// The host has more packages than a test makes.
func TestDpkgOfTheHost(t *testing.T) {
	needs.Tool(t, "dpkg-query")
	got, err := Read(t.Context(), os.DirFS("/"))
	require.NoError(t, err)
	got = slices.DeleteFunc(got, func(p Package) bool { return p.Kind != Deb })
	for i := range got {
		got[i].Size /= 1 << 10
	}
	want := asDpkg(t, "/")
	for i, line := range want {
		if strings.HasSuffix(line, "|") { // no size
			want[i] += "0"
		}
	}
	assert.Equal(t, want, asLines(got))
}

const (
	dpkgText = "Package: a\nStatus: install ok installed\nVersion: 1:2-3\nArchitecture: amd64\nSource: s (1)\nInstalled-Size: 7\nDescription: x\n y: z\n .\n\n" +
		"Package: b\nStatus: deinstall ok config-files\nVersion: 1\n\n" + "Package: c\nStatus: install ok unpacked\nVersion: 2\n"
	apkText  = "C:Q1x=\nP:musl\nV:1.2.4-r1\nA:x86_64\nS:1\nI:622592\no:musl\nF:lib\nR:ld.so\n\nP:musl-utils\nV:1.2.4-r1\nA:x86_64\no:musl\n\n"
	alpmText = "%NAME%\nbash\n\n%VERSION%\n1:5.2-1\n\n%BASE%\nbash-base\n\n%DESC%\n%NAME%\n\n%ARCH%\nx86_64\n\n%SIZE%\n900\n\n%DEPENDS%\na\nb\n"
)

func TestTextDatabases(t *testing.T) {
	files := fstest.MapFS{
		"var/lib/dpkg/status":              {Data: []byte(dpkgText)},
		"var/lib/dpkg/status.d/d":          {Data: []byte("Package: d\r\nVersion: 1\r\nDescription: " + strings.Repeat("long ", 5000) + "\nArchitecture: all\n")},
		"var/lib/dpkg/status.d/d.md5sums":  {Data: []byte("0123  a\n")},
		"var/lib/dpkg/status.d/dir/x":      {},
		"lib/apk/db/installed":             {Data: []byte(apkText)},
		"usr/lib/apk/db/installed":         {Data: []byte("not looked at")},
		"var/lib/pacman/local/bash-1/desc": {Data: []byte(alpmText)},
		"var/lib/pacman/local/ALPM_DB":     {Data: []byte("9\n")},
	}
	got, err := Read(t.Context(), files)
	require.NoError(t, err)
	assert.Equal(t, []Package{
		{Kind: Deb, Name: "a", Version: "1:2-3", Arch: "amd64", Source: "s", Size: 7 << 10},
		{Kind: ALPM, Name: "bash", Version: "1:5.2-1", Arch: "x86_64", Source: "bash-base", Size: 900},
		{Kind: Deb, Name: "c", Version: "2"},
		{Kind: Deb, Name: "d", Version: "1", Arch: "all"},
		{Kind: APK, Name: "musl", Version: "1.2.4-r1", Arch: "x86_64", Size: 622592},
		{Kind: APK, Name: "musl-utils", Version: "1.2.4-r1", Arch: "x86_64", Source: "musl"},
	}, got)
}

// A database that is damaged does not hide the others.
func TestOneBroken(t *testing.T) {
	got, err := Read(t.Context(), fstest.MapFS{
		"var/lib/dpkg/status":              {Data: []byte(dpkgText)},
		"lib/apk/db/installed":             {Data: []byte("P:musl\nnonsense\n")},
		"var/lib/pacman/local/bash-1/desc": {Data: []byte("%NAME%\nbash\n")},
	})
	require.ErrorIs(t, err, ErrFormat)
	assert.ErrorContains(t, err, "apk database /lib/apk/db/installed: malformed package database")
	assert.ErrorContains(t, err, "pacman database /var/lib/pacman/local/bash-1/desc")
	assert.Len(t, got, 2)
}

func TestNoPackages(t *testing.T) {
	got, err := Read(t.Context(), fstest.MapFS{"usr/lib/sysimage/rpm/x": {}, "var/lib/dpkg": {}, "lib/apk/db/installed": {Mode: fs.ModeNamedPipe}})
	require.NoError(t, err)
	assert.Empty(t, got)
}

func TestTooLarge(t *testing.T) {
	many := strings.Repeat("P:"+strings.Repeat("n", maxText)+"\nV:1\n\n", maxTexts/maxText+1)
	_, err := Read(t.Context(), fstest.MapFS{"lib/apk/db/installed": {Data: []byte(many)}})
	assert.ErrorIs(t, err, ErrTooLarge)
	_, err = Read(t.Context(), fstest.MapFS{"lib/apk/db/installed": {Data: []byte("V:1\nP:" + strings.Repeat("n", maxText+1))}})
	assert.ErrorIs(t, err, ErrTooLarge)
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Read(ctx, fstest.MapFS{"var/lib/dpkg/status": {Data: []byte(dpkgText)}})
	assert.ErrorIs(t, err, context.Canceled)
}

func FuzzText(f *testing.F) {
	for i, text := range []string{dpkgText, dpkgText, apkText, alpmText} {
		f.Add(i, []byte(text))
	}
	parsers := []func(context.Context, io.Reader, *list) error{
		func(ctx context.Context, r io.Reader, l *list) error { return parseDpkg(ctx, r, true, l) },
		func(ctx context.Context, r io.Reader, l *list) error { return parseDpkg(ctx, r, false, l) },
		parseAPK, parseALPM,
	}
	f.Fuzz(func(t *testing.T, format int, text []byte) {
		var found list
		err := parsers[uint(format)%4](t.Context(), strings.NewReader(string(text)), &found)
		assert.LessOrEqual(t, found.texts, len(text))
		if err != nil && len(text) < maxText {
			assert.ErrorIs(t, err, ErrFormat)
		}
	})
}

func TestCompareVersions(t *testing.T) {
	for _, c := range []struct {
		kind     Kind
		old, new string
	}{
		{RPM, "1.0-1", "1.0-2"}, {RPM, "9-1", "1:1-1"}, {RPM, "1.0~rc1-1", "1.0-1"}, {RPM, "1.0-1", "1.0^git1-1"}, {RPM, "1.0^git1-1", "1.0.1-1"},
		{RPM, "5.9-1.fc40", "5.10-1.fc40"}, {ALPM, "5.2-1", "1:5.1-1"}, {ALPM, "5.2.026-1", "5.2.032-1"},
		{Deb, "1.0~rc1-1", "1.0-1"}, {Deb, "9", "1:1"}, {Deb, "2.36-9+deb12u7", "2.36-9+deb12u10"}, {Deb, "none", "off"},
		{APK, "1.2.3-r1", "1.2.3-r10"}, {APK, "1.2_rc1", "1.2"}, {APK, "1.2", "1.2_p1"}, {APK, "none", "off"},
	} {
		assert.Negative(t, c.kind.CompareVersions(c.old, c.new), c)
		assert.Positive(t, c.kind.CompareVersions(c.new, c.old), c)
		assert.Zero(t, c.kind.CompareVersions(c.new, c.new), c)
	}
}

// The package managers' own programs order versions the same way.
func TestVersionsAsPackageManagers(t *testing.T) {
	needs.Tool(t, "dpkg", "rpm")
	random := rand.New(rand.NewPCG(1, 2))
	parts := []string{"0", "1", "2", "9", "10", "01", ".", ".", ".", "~", "+", "a", "b", "rc", "git"}
	version := func() string {
		v := "1"
		for range random.IntN(5) {
			v += parts[random.IntN(len(parts))]
		}
		return v + "-" + parts[random.IntN(6)]
	}
	var pairs [][2]string
	var lua strings.Builder
	for range 300 {
		a, b := version(), version()
		pairs = append(pairs, [2]string{a, b})
		lua.WriteString("print(rpm.vercmp('" + a + "','" + b + "') .. '\\n')\n")
	}
	out, err := exec.Command("rpm", "--eval", "%{lua:"+lua.String()+"}").Output()
	require.NoError(t, err)
	asRPM := strings.Fields(string(out))
	require.Len(t, asRPM, len(pairs))
	for i, p := range pairs {
		assert.Equal(t, asRPM[i], []string{"-1", "0", "1"}[RPM.CompareVersions(p[0], p[1])+1], "rpm: %s", p)
		if i < 100 {
			older := exec.Command("dpkg", "--compare-versions", p[0], "lt", p[1]).Run() == nil
			assert.Equal(t, older, Deb.CompareVersions(p[0], p[1]) < 0, "dpkg: %s", p)
		}
	}
}

func FuzzCompareVersions(f *testing.F) {
	f.Add("1:2.0~rc1-3", "2.0^git-1")
	f.Add("1.2_rc1-r3", "1.2a")
	f.Fuzz(func(t *testing.T, a, b string) {
		for _, kind := range []Kind{RPM, Deb, APK, ALPM} {
			assert.Equal(t, kind.CompareVersions(a, b), -kind.CompareVersions(b, a), kind)
		}
	})
}
