package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/mod/modfile"
)

// A stand-in is a tree that looks to link-into as podman's does, but is small: the
// real ones can't be had from the module proxy with their vendor directories. Its
// versions are those of the module that it is built with here.

// tags are the build tags of the Makefile.
const tags = "containers_image_openpgp exclude_graphdriver_btrfs exclude_graphdriver_devicemapper"

const root = "../.." // of this module

// era is the names of the libraries at some time, and a go.mod with versions.
type era struct {
	names   *strings.Replacer
	modFile string // path without extension
	module  string // the directory of the module to link, relative to this module's
}

var (
	upTo56 = era{strings.NewReplacer(), "go", ""}
	since  = era{strings.NewReplacer(
		"github.com/containers/image/v5", "go.podman.io/image/v5",
		"github.com/containers/storage", "go.podman.io/storage",
		"github.com/containers/common", "go.podman.io/common",
	), "internal/podmanio/versions/v5.42.0", "build/podmanio"}
)

// onlyOurs are modules that the real trees don't have, and get by linking.
var onlyOurs = []string{"gopkg.in/ini.v1", "github.com/agnivade/levenshtein"}

// standIn is a kind of tree.
type standIn struct {
	era
	path string // of the go module
}

func (s standIn) project() string {
	return project.FindStringSubmatch(s.path)[1]
}

var (
	podman5  = standIn{upTo56, "github.com/containers/podman/v5"}
	buildah5 = standIn{upTo56, "github.com/containers/buildah"}
	skopeo5  = standIn{upTo56, "github.com/containers/skopeo"}
	podman57 = standIn{since, "github.com/containers/podman/v5"}
	podman6  = standIn{since, "go.podman.io/podman/v6"}
	buildah6 = standIn{since, "go.podman.io/buildah"}
	skopeo6  = standIn{since, "go.podman.io/skopeo"}
)

// moduleDir returns the directory of the module that is to be linked. It has
// what internal/podmanio has made of this tree, if that is the one.
func (e era) moduleDir(t testing.TB) string {
	t.Helper()
	top, err := filepath.Abs(root)
	require.NoError(t, err)
	if e.module == "" {
		return top
	}
	dir := filepath.Join(t.TempDir(), "module")
	runIn(t, top, "go", "run", "./internal/podmanio", "-o", dir)
	return dir
}

// makeTree makes a tree and returns its path. It vendors, as the real ones do.
func (s standIn) makeTree(t testing.TB) string {
	t.Helper()
	dir := s.makeBareTree(t)
	runIn(t, dir, "go", "mod", "vendor")
	// The library comes from nowhere, but as the real one it is not replaced.
	for _, name := range []string{"go.mod", "vendor/modules.txt"} {
		text := read(t, filepath.Join(dir, name))
		var lines []string
		for _, line := range strings.Split(text, "\n") {
			if strings.HasPrefix(line, "replace ") || strings.HasPrefix(line, "# ") && !strings.Contains(line, " v") {
				continue
			}
			line, _, _ = strings.Cut(line, " => ")
			lines = append(lines, line)
		}
		write(t, filepath.Join(dir, name), strings.Join(lines, "\n"))
	}
	return dir
}

// makeBareTree makes a tree without a vendor directory.
func (s standIn) makeBareTree(t testing.TB) string {
	t.Helper()
	above := t.TempDir()
	dir := filepath.Join(above, s.project())
	s.copySources(t, filepath.Join("testdata", s.project()), dir)
	common := filepath.Join(above, "common")
	s.copySources(t, "testdata/common", common)
	commonPath := s.names.Replace("github.com/containers/common")
	write(t, filepath.Join(common, "go.mod"), "module "+commonPath+"\n\ngo 1.23.0\n")

	mod, err := modfile.Parse("go.mod", []byte(read(t, filepath.Join(root, s.modFile+".mod"))), nil)
	require.NoError(t, err)
	require.NoError(t, mod.AddModuleStmt(s.path))
	if s.era.module == "" {
		require.NoError(t, mod.AddGoStmt("1.23.3"))
	}
	for _, tool := range slices.Clone(mod.Tool) {
		require.NoError(t, mod.DropTool(tool.Path))
	}
	for _, ours := range onlyOurs {
		require.NoError(t, mod.DropRequire(ours))
	}
	if s.project() != "skopeo" {
		require.NoError(t, mod.AddRequire(commonPath, "v0.64.2"))
		require.NoError(t, mod.AddReplace(commonPath, "", "../common", ""))
	}
	mod.Cleanup()
	text, err := mod.Format()
	require.NoError(t, err)
	write(t, filepath.Join(dir, "go.mod"), string(text))
	var sums []string
	for line := range strings.Lines(read(t, filepath.Join(root, s.modFile+".sum"))) {
		if !slices.ContainsFunc(onlyOurs, func(path string) bool { return strings.HasPrefix(line, path+" ") }) {
			sums = append(sums, line)
		}
	}
	write(t, filepath.Join(dir, "go.sum"), strings.Join(sums, ""))
	write(t, filepath.Join(dir, "Makefile"), fmt.Sprintf("%s:\n\tgo build -trimpath -buildvcs=false -tags '%s' -o bin/%[1]s ./cmd/%[1]s\n\n.PHONY: %[1]s\n", s.project(), tags))
	return dir
}

func (s standIn) copySources(t testing.TB, from, to string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		write(t, filepath.Join(to, rel), s.names.Replace(read(t, path)))
		return nil
	}))
}

// build builds the tree's program and returns its path. What it is built with
// comes from vendor alone.
func (s standIn) build(t testing.TB, dir string) string {
	t.Helper()
	cmd := exec.Command("make", "-C", dir, s.project())
	cmd.Env = append(os.Environ(), "GOPROXY=off", "GOFLAGS=-mod=vendor", "GOWORK=off")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	return filepath.Join(dir, "bin", s.project())
}

// link runs link-into as it is run where there is no network.
func link(t testing.TB, args ...string) (stdout string, err error) {
	t.Helper()
	t.Setenv("GOPROXY", "off")
	t.Setenv("GOFLAGS", "-mod=mod")
	var out bytes.Buffer
	err = run(args, &out, &out)
	return out.String(), err
}

func runIn(t testing.TB, dir string, command ...string) {
	t.Helper()
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%q: %s", command, out)
}

func read(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(data)
}

func write(t testing.TB, path, text string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
}

// listing returns all that is below a directory: files with their modes and
// contents, and directories.
func listing(t testing.TB, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if rel == "bin" {
			return filepath.SkipDir
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		files[rel] = info.Mode().String()
		if !entry.IsDir() {
			files[rel] += " " + read(t, path)
		}
		return nil
	}))
	return files
}
