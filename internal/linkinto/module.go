package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
)

// linked is the module that is linked.
type linked struct {
	path    string
	version string
	dir     string // where its files are
	local   bool   // it is linked from dir, not from the module cache
	sums    []string
	mod     *modfile.File
}

// findModule returns the module for a generation: in a directory if the options
// name one, else a released version.
func findModule(g generation, o options) (*linked, error) {
	m := &linked{path: g.module, dir: o.moduleDir, local: o.moduleDir != ""}
	if m.local {
		var err error
		if m.dir, err = filepath.Abs(o.moduleDir); err != nil {
			return nil, err
		}
		_, major, _ := module.SplitPathVersion(g.module)
		if major = strings.TrimPrefix(major, "/"); major == "" {
			major = "v0"
		}
		m.version = major + ".0.0-00010101000000-000000000000" // as go get has it of a directory
	} else {
		// Whether the module cache has what was released is asked nobody offline.
		d, err := download(os.TempDir(), g.module+"@"+o.version, "GONOSUMDB="+g.module)
		if err != nil {
			return nil, fmt.Errorf("looking for the module (--module-dir links one from a directory): %w", err)
		}
		m.version, m.dir, m.sums = d.Version, d.Dir, d.sums()
	}
	text, err := os.ReadFile(filepath.Join(m.dir, "go.mod"))
	if err != nil {
		return nil, fmt.Errorf("looking for the module: %w", err)
	}
	if m.mod, err = modfile.Parse(filepath.Join(m.dir, "go.mod"), text, nil); err != nil {
		return nil, err
	}
	if m.mod.Module == nil || m.mod.Module.Mod.Path != g.module {
		return nil, fmt.Errorf("%s is not module %s, which is the one for %s", m.dir, g.module, g.image)
	}
	return m, nil
}

// requires returns the versions that the module asks for, by path.
func (m *linked) requires() map[string]string {
	versions := map[string]string{}
	for _, require := range m.mod.Require {
		versions[require.Mod.Path] = require.Mod.Version
	}
	return versions
}

// downloaded is a module in the module cache.
type downloaded struct {
	Path, Version, Dir, Error, Sum, GoModSum string
}

// download returns a module, "PATH@VERSION" or, in a directory whose go.mod asks
// for it, "PATH". It is taken from the module cache, or where that lacks it from
// where the go command gets it.
func download(dir, name string, env ...string) (*downloaded, error) {
	d, err := tryDownload(dir, name, append(env, "GOPROXY=off"))
	if err != nil {
		d, err = tryDownload(dir, name, nil)
	}
	return d, err
}

func tryDownload(dir, name string, env []string) (*downloaded, error) {
	cmd := exec.Command("go", "mod", "download", "-json", name)
	cmd.Dir = dir
	cmd.Env = append(append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off"), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var d downloaded
	if jsonErr := json.Unmarshal(out, &d); jsonErr == nil && d.Error != "" {
		return nil, errors.New(d.Error)
	}
	if err != nil {
		return nil, fmt.Errorf("go mod download %s: %w: %s", name, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return &d, nil
}

// downloadVersion returns a version of a module, checked with checksums as go.sum
// has them; the go command asks its database for one that is not there.
func downloadVersion(mod module.Version, sums []byte) (*downloaded, error) {
	work, err := os.MkdirTemp("", "link-into")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	asking := fmt.Sprintf("module link-into\n\ngo 1.21\n\nrequire %s %s\n", mod.Path, mod.Version)
	if err := os.WriteFile(filepath.Join(work, "go.mod"), []byte(asking), 0o600); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(work, "go.sum"), sums, 0o600); err != nil {
		return nil, err
	}
	return download(work, mod.Path)
}

// sums returns the lines that go.sum has of the module.
func (d *downloaded) sums() []string {
	return []string{
		fmt.Sprintf("%s %s %s", d.Path, d.Version, d.Sum),
		fmt.Sprintf("%s %s/go.mod %s", d.Path, d.Version, d.GoModSum),
	}
}
