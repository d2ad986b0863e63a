package main

import (
	"runtime/debug"
	"slices"
	"strings"
)

// libraries are the modules, by the names that they had before podman 5.7 and by
// those that they have since, that decide which configuration is read.
var libraries = []string{
	"github.com/containers/image/v5", "github.com/containers/storage",
	"go.podman.io/image/v5", "go.podman.io/storage",
}

// stated is the version where whoever builds the command says it to the linker.
var stated string

// version returns the command's version: the stated one, or the module's as the
// go command has recorded it.
func version() string {
	if stated != "" {
		return stated
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Version
	}
	return "unknown"
}

// versions returns the command's version and, on a line each, those of the
// libraries that it was built with.
func versions() string {
	lines := []string{version()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return lines[0]
	}
	for _, dep := range info.Deps {
		if !slices.Contains(libraries, dep.Path) {
			continue
		}
		line := dep.Path + " " + dep.Version
		if r := dep.Replace; r != nil {
			line += " => " + strings.TrimSpace(r.Path+" "+r.Version)
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}
