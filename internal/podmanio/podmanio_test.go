package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/internal/needs"
)

const root = "../.." // of this module

// listing returns the files below a directory with their contents, by path.
func listing(t *testing.T, dir string) map[string]string {
	t.Helper()
	paths, err := walkFiles(dir)
	require.NoError(t, err)
	files := map[string]string{}
	for _, path := range paths {
		content, err := os.ReadFile(filepath.Join(dir, path))
		require.NoError(t, err)
		files[path] = string(content)
	}
	return files
}

// The module is all of the tree, and nothing in it imports a package by the path
// that it has in the tree.
func TestTheModuleIsTheTree(t *testing.T) {
	module := t.TempDir()
	require.NoError(t, run([]string{"-from", root, "-o", module}))

	paths, err := listFiles(root)
	require.NoError(t, err)
	there, err := walkFiles(module)
	require.NoError(t, err)
	assert.ElementsMatch(t, append(paths, modFiles...), there)
	assert.Contains(t, there, "cmd/skopeo-cfs/main.go")
	for _, path := range paths {
		is, err := os.Lstat(filepath.Join(module, path))
		require.NoError(t, err)
		was, err := os.Lstat(filepath.Join(root, path))
		require.NoError(t, err)
		assert.Equal(t, was.Mode(), is.Mode(), path)
	}

	imported, err := importsBelow(module)
	require.NoError(t, err)
	assert.Contains(t, imported, "github.com/skopeo-cfs/skopeo-cfs/v2/transport")
	assert.Contains(t, imported, "go.podman.io/image/v5/types")
	for _, path := range imported {
		assert.Equal(t, path, rewritePath(path))
	}
}

// Without git, as in an exported tarball, it is the same module.
func TestTheModuleOfAnExportedTree(t *testing.T) {
	paths, err := listFiles(root)
	require.NoError(t, err)
	exported := t.TempDir()
	for _, path := range append(paths, "go.mod", "go.sum") {
		copyFile(t, filepath.Join(root, path), filepath.Join(exported, path))
	}
	for _, r := range []release{oldest(), newest()} {
		for _, extension := range []string{".mod", ".sum"} {
			copyFile(t, pinned(root, r)+extension, pinned(exported, r)+extension)
		}
	}
	copyFile(t, filepath.Join(root, "go.mod"), filepath.Join(exported, "bin/left by a build"))

	inside := filepath.Join(exported, "build/podmanio") // where it would find itself
	outside := t.TempDir()
	require.NoError(t, run([]string{"-from", root, "-o", outside}))
	for range 2 {
		require.NoError(t, run([]string{"-from", exported, "-o", inside}))
		assert.Equal(t, listing(t, outside), listing(t, inside))
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	info, err := os.Stat(from)
	require.NoError(t, err)
	content, err := os.ReadFile(from)
	require.NoError(t, err)
	require.NoError(t, writeFile(to, content, info.Mode().Perm()))
}

// git decides what is part of the tree; files that are not in it any more go.
func TestTheModuleFollowsTheTree(t *testing.T) {
	needs.Tool(t, "git")
	tree, module := t.TempDir(), t.TempDir()
	files := map[string]string{
		".gitignore":      "/ignored\n",
		"a/a.go":          "package a\n\nimport _ \"github.com/containers/storage\"\n",
		"ignored":         "by git",
		"removed":         "from the tree, and not from git's index",
		"new, and not in": "git yet",
	}
	for path, content := range files {
		require.NoError(t, writeFile(filepath.Join(tree, path), []byte(content), 0o644))
	}
	git(t, tree, "init", "-q")
	git(t, tree, "add", "a", "removed", ".gitignore")
	require.NoError(t, os.Remove(filepath.Join(tree, "removed")))
	require.NoError(t, os.Symlink("a.go", filepath.Join(tree, "a/link")))
	require.NoError(t, writeFile(filepath.Join(module, "old/of before"), nil, 0o644))

	require.NoError(t, writeSources(tree, module))
	got := listing(t, module)
	assert.Equal(t, "package a\n\nimport _ \"go.podman.io/storage\"\n", got["a/a.go"])
	assert.Len(t, got, 4)
	assert.Contains(t, got, "new, and not in")
	target, err := os.Readlink(filepath.Join(module, "a/link"))
	require.NoError(t, err)
	assert.Equal(t, "a.go", target)
	assert.NoDirExists(t, filepath.Join(module, "old"))

	before, err := os.Stat(filepath.Join(module, "a/a.go"))
	require.NoError(t, err)
	require.NoError(t, writeSources(tree, module))
	after, err := os.Stat(filepath.Join(module, "a/a.go"))
	require.NoError(t, err)
	assert.Equal(t, before.ModTime(), after.ModTime(), "it has been written again")
}

func git(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
}

// A dependency that the tree has got is missed before anything is compiled.
func TestKeptVersionsHaveToBeEnough(t *testing.T) {
	imported := []string{"example.org/a/b", "example.org/c"}
	for name, c := range map[string]struct{ kept, asked, err string }{
		"the same":                {"require example.org/a v1.1.0", "require example.org/a v1.1.0", ""},
		"newer":                   {"require example.org/a v1.2.0", "require example.org/a v1.1.0", ""},
		"older":                   {"require example.org/a v1.0.0", "require example.org/a v1.1.0", "it has example.org/a v1.0.0, and go.mod asks for v1.1.0"},
		"lacking":                 {"", "require example.org/c v1.1.0", "it lacks example.org/c"},
		"lacking what is no need": {"", "require example.org/ab v1.1.0", ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			read := func(file, content string) string {
				path := filepath.Join(dir, file)
				require.NoError(t, os.WriteFile(path, []byte("module example.org\n"+content+"\n"), 0o644))
				return path
			}
			kept, err := readMod(read("kept.mod", c.kept))
			require.NoError(t, err)
			asked, err := readMod(read("asked.mod", c.asked))
			require.NoError(t, err)
			err = enough(kept, asked, imported)
			if c.err == "" {
				assert.NoError(t, err)
			} else {
				assert.ErrorContains(t, err, c.err)
			}
		})
	}
}

// The module asks for the oldest libraries, newest.mod for the newest.
func TestReleases(t *testing.T) {
	for _, r := range []release{oldest(), newest()} {
		assert.NoError(t, r.isIn(pinned(root, r)+".mod"))
	}
	assert.Error(t, oldest().isIn(pinned(root, newest())+".mod"))
	r, err := find("v5.40.0")
	require.NoError(t, err)
	assert.Equal(t, "v1.63.0", r.storage)
	_, err = find("v5.37.0")
	assert.ErrorContains(t, err, strings.Join([]string{"v5.38.0", "v5.39.3"}, ", "))
}
