package bootc

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
)

func TestCompareVersions(t *testing.T) {
	for _, less := range [][2]string{
		{"", "1"}, {"~", ""}, {"~1", ""}, {"1~rc1", "1"}, {"1~rc1", "1~rc2"}, {"1", "1-1"}, {"1-1", "1^1"}, {"1^1", "1.1"},
		{"9", "10"}, {"1.9", "1.10"}, {"a", "b"}, {"A", "a"}, {"a", "1"}, {"42.20251124.0", "42.20251125.0"}, {"1.a", "1.1"},
		{"fedora-41", "fedora-42"}, {"1-2", "1.1"}, {"a", "aa"}, {"099", "100"}, {"123.456", "123.457"},
	} {
		assert.Negative(t, compareVersions(less[0], less[1]), "%q < %q", less[0], less[1])
		assert.Positive(t, compareVersions(less[1], less[0]), "%q > %q", less[1], less[0])
	}
	for _, equal := range [][2]string{{"", ""}, {"1", "01"}, {"1_", "1"}, {"1+2", "1_2"}, {"1.0", "1.00"}} {
		assert.Zero(t, compareVersions(equal[0], equal[1]), "%q = %q", equal[0], equal[1])
	}
}

func TestEntry(t *testing.T) {
	for name, test := range map[string]struct{ text, id string }{
		"a kernel":           {"title OS\noptions rw composefs=" + idA + " quiet\nlinux /x\n", idA},
		"tabs and CR":        {"options\trw composefs=?" + idA + "\r\n", idA},
		"several options":    {"options rw\noptions composefs=" + idA + "\n", idA},
		"several digests":    {"options composefs.digest=v1-sha256-12:" + idB[:64] + " composefs.digest=v1-sha512-12:" + idA + "\n", idA},
		"an image":           {"efi /EFI/Linux/bootc/bootc_composefs-" + idA + ".efi\n", idA},
		"an image as uki":    {"uki /EFI/Linux/bootc/bootc_composefs-" + idA + ".efi\n", idA},
		"an older image":     {"efi /EFI/Linux/" + idA + ".efi\n", idA},
		"another image":      {"efi /EFI/Linux/fedora.efi\n", ""},
		"another kernel":     {"options root=UUID=0\nlinux /vmlinuz\n", ""},
		"a comment":          {"# options composefs=" + idA + "\n", ""},
		"nothing":            {"", ""},
		"an image with a ?":  {"efi /EFI/Linux/?" + idA + ".efi\n", ""},
		"an addon of a UKI":  {"efi /EFI/Linux/bootc/bootc_composefs-" + idA + ".efi.extra.d\n", ""},
		"options without it": {"options composefs\nefi " + idA + ".efi", idA},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, test.id, firstOf(parseEntry("x.conf", []byte(test.text), fsverity.SHA512).ids))
		})
	}
}

func TestEntryName(t *testing.T) {
	for file, want := range map[string]entry{
		"os-42.conf":        {name: "os-42"},
		"os-42+3.conf":      {name: "os-42"},
		"os-42+3-1.conf":    {name: "os-42"},
		"os-42+0-3.conf":    {name: "os-42", bad: true},
		"os-42+0.conf":      {name: "os-42", bad: true},
		"os+x-42.conf":      {name: "os+x-42"},
		"os-42+1-x.conf":    {name: "os-42+1-x"},
		"libstdc++-1.conf":  {name: "libstdc++-1"},
		"os-42+.conf":       {name: "os-42+"},
		"os-42+1-2-3.conf":  {name: "os-42+1-2-3"},
		"os-42+00-003.conf": {name: "os-42", bad: true},
	} {
		name, bad := parseEntryName(file)
		assert.Equal(t, want, entry{name: name, bad: bad}, file)
	}
}

func TestOrderOfEntries(t *testing.T) {
	for name, ordered := range map[string][]entry{
		"sort keys":           {{sortKey: "a", name: "1"}, {sortKey: "b", name: "2"}},
		"with before without": {{sortKey: "z", name: "1"}, {name: "9"}},
		"machines":            {{sortKey: "a", machineID: "1"}, {sortKey: "a", machineID: "2"}},
		"versions":            {{sortKey: "a", version: "10"}, {sortKey: "a", version: "9"}},
		"names":               {{name: "os-10"}, {name: "os-9"}},
		"names in the end":    {{sortKey: "a", version: "1", name: "b"}, {sortKey: "a", version: "1", name: "a"}},
		"failed ones last":    {{name: "os-1"}, {sortKey: "a", bad: true, name: "os-2"}},
	} {
		t.Run(name, func(t *testing.T) {
			reversed := slices.Clone(ordered)
			slices.Reverse(reversed)
			slices.SortFunc(reversed, compareEntries)
			assert.Equal(t, ordered, reversed)
		})
	}
	grub := []entry{{name: "bootc_os-42.2-1"}, {name: "bootc_os-42.1-9", sortKey: "a"}, {name: "bootc_os-42.1-2"}, {name: "a"}}
	reversed := slices.Clone(grub)
	slices.Reverse(reversed)
	slices.SortFunc(reversed, compareGRUBEntries)
	assert.Equal(t, grub, reversed)
}

func TestUserConfig(t *testing.T) {
	const config = `
if [ -f ${config_directory}/efiuuid.cfg ]; then
	source ${config_directory}/efiuuid.cfg
fi
chainloader /EFI/Linux/ID-D.efi

# menuentry "not this" {
menuentry "OS: (B)" {
    insmod chain
    # chainloader /EFI/Linux/ID-C.efi
    chainloader /EFI/Linux/bootc/bootc_composefs-ID-B.efi
}

menuentry "OS: (A)" {
	chainloader "/EFI/Linux/ID-A.efi"
}
menuentry "another" {
	chainloader /EFI/fedora/shimx64.efi
	chainloader
}
`
	text := strings.NewReplacer("ID-A", idA, "ID-B", idB, "ID-C", idC, "ID-D", idC).Replace(config)
	assert.Equal(t, []string{idB, idA}, parseUserConfig([]byte(text)))
	assert.Empty(t, parseUserConfig(nil))
}

// Symlinks, directories and files without end among the entries hide no other.
func TestMenuIsReadAroundWhatIsNoEntry(t *testing.T) {
	dir := t.TempDir()
	entries := filepath.Join(dir, "loader/entries")
	require.NoError(t, os.MkdirAll(filepath.Join(entries, "dir.conf"), 0o755))
	require.NoError(t, os.Symlink("/dev/zero", filepath.Join(entries, "link.conf")))
	require.NoError(t, os.WriteFile(filepath.Join(entries, "long.conf"), make([]byte, maxEntrySize+1), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(entries, "text.txt"), []byte("options composefs="+idB), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(entries, "os.conf"), []byte("options composefs="+idA), 0o644))
	boot, err := os.Open(dir)
	require.NoError(t, err)
	defer boot.Close()
	ids, err := (&Host{}).readMenu(boot)
	require.NoError(t, err)
	assert.Equal(t, []string{idA}, ids)
}

func FuzzEntry(f *testing.F) {
	f.Add("os-42+1-2.conf", []byte("title x\nversion 42\nsort-key a\noptions rw composefs="+idA+"\n"))
	f.Add("os.conf", []byte("efi /EFI/Linux/bootc/bootc_composefs-"+idA+".efi\n"))
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		e := parseEntry(name, data, fsverity.SHA512)
		for _, id := range e.ids {
			checkID(t, id)
		}
		other := entry{name: "os-42", sortKey: "a", version: "42"}
		for _, order := range []func(a, b entry) int{compareEntries, compareGRUBEntries} {
			if a, b := order(e, other), order(other, e); (a < 0) != (b > 0) {
				t.Errorf("%+v: %d one way, %d the other", e, a, b)
			}
		}
	})
}

func FuzzUserConfig(f *testing.F) {
	f.Add([]byte("menuentry \"x\" {\n chainloader /EFI/Linux/" + idA + ".efi\n}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, id := range parseUserConfig(data) {
			if id == "" {
				t.Error("an empty ID")
			}
			checkID(t, id)
		}
	})
}

func FuzzCompareVersions(f *testing.F) {
	f.Add("1.10~rc1-2", "1.9^x")
	f.Fuzz(func(t *testing.T, a, b string) {
		if c, d := compareVersions(a, b), compareVersions(b, a); c != -d {
			t.Errorf("%q, %q: %d one way, %d the other", a, b, c, d)
		}
		if compareVersions(a, a) != 0 {
			t.Errorf("%q is not equal to itself", a)
		}
	})
}
