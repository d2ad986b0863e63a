package diff

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/docker/go-units"
	"github.com/opencontainers/go-digest"

	"github.com/skopeo-cfs/skopeo-cfs/packages"
)

// Layout is how a Result is written for people.
type Layout int

// The layouts.
const (
	// Summary lists what differs between configs and packages, and counts files.
	Summary Layout = iota
	// Lists lists files too, a line each, and counts nothing.
	Lists
	// Counts lists nothing.
	Counts
)

// WriteText writes the sections that the result has, for people. Texts of the images
// that are not printable as they are, as those with control characters, are written as
// string literals of Go; long values in configs are cut.
func (r *Result) WriteText(w io.Writer, layout Layout) error {
	buffered := bufio.NewWriter(w)
	t := &textWriter{Writer: buffered, layout: layout}
	if layout != Lists {
		t.header("From", r.Old)
		t.header("To", r.New)
	}
	if r.Equal() {
		if layout != Lists {
			t.line("No differences.")
		}
		return buffered.Flush()
	}
	t.config(r.Config)
	if r.Packages != nil {
		t.packages(r.Packages)
	}
	if r.Files != nil {
		t.files(r.Files)
	}
	return buffered.Flush()
}

// textWriter writes a result. Errors are kept by the writer below it.
type textWriter struct {
	*bufio.Writer
	layout Layout
}

func (t *textWriter) line(format string, args ...any) { fmt.Fprintf(t, format+"\n", args...) }

// header writes which image one side is.
func (t *textWriter) header(side string, i Image) {
	named, is := i.Digest, "manifest"
	if named == "" {
		named, is = i.ID, "config"
	}
	if i.Name == "" {
		t.line("%-5s %s %s", side+":", is, named)
		return
	}
	t.line("%-5s %s (%s %s)", side+":", printable(i.Name), is, named)
}

func (t *textWriter) config(changes []ConfigChange) {
	if len(changes) == 0 {
		return
	}
	if t.layout == Counts {
		t.line("Config: %s", count(len(changes), "change"))
		return
	}
	t.line("Config:")
	for _, c := range changes {
		name := c.Field
		if c.Key != "" {
			name += " " + printable(c.Key)
		}
		switch c.Kind {
		case Changed:
			t.line("  %s: %s -> %s", name, value(c.Old), value(c.New))
		case Added:
			t.line("  %s added%s", name, ifAny(c.New))
		case Removed:
			t.line("  %s removed%s", name, ifAny(c.Old))
		}
	}
}

// ifAny returns a value behind a colon, "" where there is none.
func ifAny(text string) string {
	if text == "" {
		return ""
	}
	return ": " + value(text)
}

func (t *textWriter) packages(p *Packages) {
	if t.layout == Counts {
		t.line("Packages: %d upgraded, %d downgraded, %d removed, %d added", len(p.Upgraded), len(p.Downgraded), len(p.Removed), len(p.Added))
		return
	}
	t.versions("Upgraded", p.Upgraded)
	t.versions("Downgraded", p.Downgraded)
	t.list("Removed", p.Removed)
	t.list("Added", p.Added)
}

func (t *textWriter) versions(title string, changes []PackageChange) {
	if len(changes) > 0 {
		t.line("%s:", title)
	}
	for _, c := range changes {
		name := printable(c.New.Name)
		if c.severalArchs {
			name = withArch(c.New, name)
		}
		t.line("  %s %s -> %s", name, printable(c.Old.Version), printable(c.New.Version))
	}
}

func (t *textWriter) list(title string, all []packages.Package) {
	if len(all) > 0 {
		t.line("%s:", title)
	}
	for _, p := range all {
		t.line("  %s", packageText(p))
	}
}

// packageText returns a package as its package manager names it with its version.
func packageText(p packages.Package) string {
	name, version := printable(p.Name), printable(p.Version)
	switch p.Kind {
	case packages.RPM:
		return withArch(p, name+"-"+version)
	case packages.APK:
		return name + "-" + version
	default:
		return withArch(p, name) + " " + version
	}
}

// withArch adds a package's architecture to a text.
func withArch(p packages.Package, text string) string {
	switch {
	case p.Arch == "" || p.Kind == packages.Deb && p.Arch == "all":
		return text
	case p.Kind == packages.Deb:
		return text + ":" + printable(p.Arch)
	default:
		return text + "." + printable(p.Arch)
	}
}

func (t *textWriter) files(f *Files) {
	if t.layout == Lists {
		for i := range f.Changes {
			t.file(&f.Changes[i])
		}
		return
	}
	if f.Equal() {
		return
	}
	t.line("Files: %d added (%s), %d removed (%s), %d changed", f.Added, size(f.AddedBytes), f.Removed, size(f.RemovedBytes), f.Changed)
	t.line("New content: %s", size(f.NewBytes))
}

// file writes the line of a file: A, D or C as podman diff has them, the path, and what
// there is to say.
func (t *textWriter) file(c *FileChange) {
	switch c.Kind {
	case Added:
		t.line("A %s (%s)", printable(c.Path), fileText(c.New))
	case Removed:
		t.line("D %s (%s)", printable(c.Path), fileText(c.Old))
	case Changed:
		var what []string
		for _, w := range c.What {
			what = append(what, changeText(w, c))
		}
		t.line("C %s (%s)", printable(c.Path), strings.Join(what, ", "))
	}
}

// fileText returns what kind of file it is, and how large.
func fileText(f *File) string {
	switch f.Type {
	case "file":
		return size(f.Size)
	case "symlink":
		return "symlink to " + printable(f.Target)
	}
	return f.Type
}

// changeText returns how a file differs in one thing.
func changeText(what string, c *FileChange) string {
	o, n := c.Old, c.New
	switch what {
	case "type":
		return fmt.Sprintf("type %s -> %s", o.Type, n.Type)
	case "content":
		if o.Size == n.Size {
			return "content of " + size(n.Size)
		}
		return fmt.Sprintf("content %s -> %s", size(o.Size), size(n.Size))
	case "mode":
		return fmt.Sprintf("mode %04o -> %04o", o.Mode, n.Mode)
	case "owner":
		return fmt.Sprintf("owner %d:%d -> %d:%d", o.UID, o.GID, n.UID, n.GID)
	case "xattrs":
		var names []string
		for _, name := range c.Xattrs {
			names = append(names, printable(name))
		}
		return "xattrs " + strings.Join(names, " ")
	case "target":
		return fmt.Sprintf("target %s -> %s", printable(o.Target), printable(n.Target))
	case "device":
		return fmt.Sprintf("device %d:%d -> %d:%d", o.Major, o.Minor, n.Major, n.Minor)
	}
	if o.Links != n.Links {
		return fmt.Sprintf("links %d -> %d", max(o.Links, 1), max(n.Links, 1))
	}
	return what
}

// count returns a number of things.
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// size returns a number of bytes for people.
func size(bytes int64) string { return units.HumanSize(float64(bytes)) }

// maxValue is how much is written of a value in a config, in bytes.
const maxValue = 200

// value returns a value of a config, cut where it is long.
func value(text string) string {
	cut := ""
	if len(text) > maxValue {
		text, cut = text[:maxValue], "…"
		text = strings.ToValidUTF8(text, "")
	}
	if text == "" {
		return `""`
	}
	return printableValue(text) + cut
}

// printableValue is printable for values, which are often JSON: one that prints is left
// as it is, quotation marks and all.
func printableValue(text string) string {
	for _, r := range text {
		if r == utf8.RuneError || !strconv.IsPrint(r) {
			return strconv.Quote(text)
		}
	}
	return text
}

// printable returns a text as it is where it does nothing to a terminal and can't be
// mistaken for another; else as a string literal of Go.
func printable(text string) string {
	if isPlain(text) {
		return text
	}
	if quoted := strconv.Quote(text); quoted != `"`+text+`"` {
		return quoted
	}
	return text
}

// isPlain tells whether a text is ASCII that needs no look at each character by itself,
// as nearly all names are.
func isPlain(text string) bool {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// Printable returns a copy of the result in which every text of the images is as
// WriteText has it, but not cut: for what is to be written to a terminal otherwise.
func (r *Result) Printable() *Result {
	c := *r
	c.Old.Name, c.New.Name = printable(r.Old.Name), printable(r.New.Name)
	c.Old.Digest, c.New.Digest = digest.Digest(printable(string(r.Old.Digest))), digest.Digest(printable(string(r.New.Digest)))
	c.Config = mapped(r.Config, func(c ConfigChange) ConfigChange {
		c.Key, c.Old, c.New = printable(c.Key), printableValue(c.Old), printableValue(c.New)
		return c
	})
	if p := r.Packages; p != nil {
		c.Packages = &Packages{mapped(p.Upgraded, printableVersions), mapped(p.Downgraded, printableVersions),
			mapped(p.Removed, printablePackage), mapped(p.Added, printablePackage)}
	}
	if r.Files != nil {
		files := *r.Files
		files.Changes = mapped(files.Changes, printableChange)
		c.Files = &files
	}
	return &c
}

func mapped[T any](all []T, f func(T) T) []T {
	if all == nil {
		return nil
	}
	changed := make([]T, len(all))
	for i, one := range all {
		changed[i] = f(one)
	}
	return changed
}

func printablePackage(p packages.Package) packages.Package {
	p.Name, p.Version, p.Arch, p.Source = printable(p.Name), printable(p.Version), printable(p.Arch), printable(p.Source)
	return p
}

func printableVersions(c PackageChange) PackageChange {
	c.Old, c.New = printablePackage(c.Old), printablePackage(c.New)
	return c
}

func printableChange(c FileChange) FileChange {
	c.Path, c.RawPath = printable(c.Path), nil
	c.Xattrs = mapped(c.Xattrs, printable)
	for _, f := range []**File{&c.Old, &c.New} {
		if *f != nil {
			file := **f
			file.Target = printable(file.Target)
			*f = &file
		}
	}
	return c
}
