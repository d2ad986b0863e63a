package bootc

import (
	"bytes"
	"cmp"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/beneath"
)

// Where boot entries are, below a boot or EFI partition. Those of a staged
// deployment lie in loader/entries.staged and grub2/user.cfg.staged until it is
// finalised, together with copies of others: no menu has them.
const (
	entriesDir = "loader/entries"
	grubDir    = "grub2"
	userConfig = grubDir + "/user.cfg"
)

const (
	maxEntrySize  = 64 << 10 // bytes
	maxConfigSize = 1 << 20  // bytes
)

// readMenu returns the deployment IDs that the boot menu of a boot or EFI
// partition offers, in the menu's order. Entries that are another system's, or
// not to be understood, are left out.
func (h *Host) readMenu(boot *os.File) ([]string, error) {
	names, err := beneath.Names(boot, entriesDir)
	if err != nil {
		return nil, err
	}
	var entries []entry
	for _, name := range names {
		data, err := beneath.ReadFile(boot, path.Join(entriesDir, name), maxEntrySize)
		if err != nil || !strings.HasSuffix(name, ".conf") {
			continue
		}
		entries = append(entries, parseEntry(name, data, h.algorithm))
	}
	order := compareEntries
	if grub, err := beneath.Open(boot, grubDir, unix.O_DIRECTORY); err == nil {
		grub.Close()
		order = compareGRUBEntries
	}
	slices.SortFunc(entries, order)
	var ids []string
	for _, e := range entries {
		ids = append(ids, h.choose(e.ids))
	}
	if data, err := beneath.ReadFile(boot, userConfig, maxConfigSize); err == nil {
		ids = append(ids, parseUserConfig(data)...)
	}
	return slices.DeleteFunc(ids, func(id string) bool { return id == "" }), nil
}

// entry is a boot entry of the first type in the Boot Loader Specification
// (UAPI.1), as far as it is of use here.
type entry struct {
	ids                         []string // of the deployment, those to be looked for first, first
	name                        string   // of the file, without suffix and counters
	bad                         bool     // all attempts to boot it have failed
	sortKey, machineID, version string
}

// parseEntry decodes the file with a name that ends with .conf. The algorithm is
// that of idsOfCommandLine.
func parseEntry(name string, data []byte, algorithm fsverity.Algorithm) entry {
	var e entry
	e.name, e.bad = parseEntryName(name)
	var options, image string
	for line := range bytes.Lines(data) {
		key, value, _ := strings.Cut(strings.ReplaceAll(strings.TrimSpace(string(line)), "\t", " "), " ")
		value = strings.TrimSpace(value)
		switch key {
		case "sort-key":
			e.sortKey = value
		case "machine-id":
			e.machineID = value
		case "version":
			e.version = value
		case "options": // may occur several times
			options += " " + value
		case "efi", "uki":
			image = value
		}
	}
	e.ids = idsOfCommandLine(options, algorithm)
	if id := idOfKernelImage(image); id != "" {
		e.ids = append(e.ids, id)
	}
	return e
}

// parseEntryName takes off the suffix, and the counters of boot attempts that
// may stand before it: +LEFT or +LEFT-DONE.
func parseEntryName(file string) (name string, bad bool) {
	name = strings.TrimSuffix(file, ".conf")
	plus := strings.LastIndex(name, "+")
	if plus < 0 {
		return name, false
	}
	left, done, counted := strings.Cut(name[plus+1:], "-")
	n, err := strconv.ParseUint(left, 10, 32)
	if _, doneErr := strconv.ParseUint(done, 10, 32); err != nil || counted && doneErr != nil {
		return name, false
	}
	return name[:plus], n == 0
}

// idOfKernelImage returns the deployment ID in the path of a unified kernel
// image: DIRECTORY/bootc_composefs-ID.efi, or ID.efi of older ones; else "".
func idOfKernelImage(file string) string {
	base, ok := strings.CutSuffix(path.Base(file), ".efi")
	if !ok {
		return ""
	}
	id := strings.TrimPrefix(base, "bootc_composefs-")
	if _, err := fsverity.Parse(id); err != nil {
		return ""
	}
	return id
}

// compareEntries orders entries as the Boot Loader Specification has it: those
// that failed last, those with a sort key first, by sort key, machine ID and
// falling version; the others, and those still equal, by falling file name.
func compareEntries(a, b entry) int {
	if a.bad != b.bad {
		return after(a.bad)
	}
	if (a.sortKey == "") != (b.sortKey == "") {
		return after(a.sortKey == "")
	}
	if a.sortKey != "" {
		if c := cmp.Or(cmp.Compare(a.sortKey, b.sortKey), cmp.Compare(a.machineID, b.machineID), compareVersions(b.version, a.version)); c != 0 {
			return c
		}
	}
	return cmp.Or(compareVersions(b.name, a.name), cmp.Compare(b.name, a.name))
}

// after returns the result of a comparison of an entry to one that it stands
// behind, or else before.
func after(behind bool) int {
	if behind {
		return 1
	}
	return -1
}

// compareGRUBEntries orders entries as GRUB has them, which knows of no sort
// keys: it takes a file's name for that of a package, NAME-VERSION-RELEASE, and
// the greatest comes first.
func compareGRUBEntries(a, b entry) int {
	nameA, versionA, releaseA := splitPackage(a.name)
	nameB, versionB, releaseB := splitPackage(b.name)
	return cmp.Or(
		compareVersions(nameB, nameA), compareVersions(versionB, versionA), compareVersions(releaseB, releaseA),
		cmp.Compare(b.name, a.name),
	)
}

func splitPackage(s string) (name, version, release string) {
	name = s
	if i := strings.LastIndex(name, "-"); i >= 0 {
		name, release = name[:i], name[i+1:]
	}
	if i := strings.LastIndex(name, "-"); i >= 0 {
		name, version = name[:i], name[i+1:]
	}
	return name, version, release
}

// parseUserConfig returns the deployment IDs of the menu entries in GRUB's
// user.cfg, in their order: those that chainload a unified kernel image.
func parseUserConfig(data []byte) []string {
	var ids []string
	inEntry := false
	for line := range bytes.Lines(data) {
		words := strings.Fields(string(line))
		switch {
		case len(words) == 0:
		case words[0] == "menuentry":
			inEntry = true
		case words[0] == "}":
			inEntry = false
		case inEntry && words[0] == "chainloader" && len(words) > 1:
			if id := idOfKernelImage(strings.Trim(words[len(words)-1], `"'`)); id != "" {
				ids = append(ids, id)
			}
		}
	}
	return ids
}
