package packages

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
)

const (
	dpkgStatus = "var/lib/dpkg/status"
	// dpkgStatusDir has a file of the same form for each package, in images that were
	// put together without dpkg, as the distroless ones are.
	dpkgStatusDir = "var/lib/dpkg/status.d"
	dpkgDatabase  = "dpkg database"
)

// dpkgStates are the states in which a package's files are there; see dpkg(1).
var dpkgStates = map[string]bool{
	"installed": true, "triggers-pending": true, "triggers-awaited": true, "half-configured": true, "unpacked": true,
}

// readDpkg reads dpkg's database, see deb-control(5) for the fields.
func readDpkg(ctx context.Context, fsys fs.FS, found *list) error {
	f, _, err := openRegular(fsys, dpkgStatus)
	if err != nil {
		return in(dpkgDatabase, dpkgStatus, err)
	}
	if f != nil {
		err := parseDpkg(ctx, f, true, found)
		f.Close()
		if err != nil {
			return in(dpkgDatabase, dpkgStatus, err)
		}
	}
	return readNames(fsys, dpkgStatusDir, func(name string) error {
		if strings.HasSuffix(name, ".md5sums") || strings.HasSuffix(name, ".preinst") {
			return nil
		}
		file := path.Join(dpkgStatusDir, name)
		f, _, err := openRegular(fsys, file)
		if f == nil {
			return in(dpkgDatabase, file, err)
		}
		defer f.Close()
		return in(dpkgDatabase, file, parseDpkg(ctx, f, false, found))
	})
}

// parseDpkg adds the packages of a file. Whether they are installed is in their field
// Status, or needs none.
func parseDpkg(ctx context.Context, r io.Reader, needsStatus bool, found *list) error {
	p, state, seen := Package{Kind: Deb}, "", false
	end := func() error {
		defer func() { p, state, seen = Package{Kind: Deb}, "", false }()
		if !seen || !dpkgStates[state] && (needsStatus || state != "") {
			return nil
		}
		return found.add(p)
	}
	err := lines(ctx, r, func(line []byte) error {
		if len(line) == 0 {
			return end()
		}
		if line[0] == ' ' || line[0] == '\t' { // goes on with a field
			return nil
		}
		seen = true
		name, value, ok := strings.Cut(string(line), ":")
		if !ok {
			return fmt.Errorf("%w: a line that is not a field", ErrFormat)
		}
		value = strings.TrimSpace(value)
		switch strings.ToLower(name) {
		case "package":
			p.Name = value
		case "version":
			p.Version = value
		case "architecture":
			p.Arch = value
		case "source":
			p.Source, _, _ = strings.Cut(value, " ") // a version may follow
		case "installed-size":
			p.Size = parseSize(value, 1<<10)
		case "status":
			if fields := strings.Fields(value); len(fields) == 3 {
				state = fields[2]
			} else {
				return fmt.Errorf("%w: a status of %d words", ErrFormat, len(fields))
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return end()
}
