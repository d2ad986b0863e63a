package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// changed returns the paths that two listings differ in.
func changed(before, after map[string]string) []string {
	var paths []string
	for path := range after {
		if before[path] != after[path] {
			paths = append(paths, path)
		}
	}
	for path := range before {
		if _, ok := after[path]; !ok {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	return paths
}

// Of what was there, only go.mod, go.sum, modules.txt and the call change; and
// --undo restores all of it.
func TestLinkingAndUndoing(t *testing.T) {
	for name, c := range map[string]struct {
		standIn
		call string
	}{
		"podman up to 5.6":    {podman5, "vendor/github.com/containers/common/libimage/copier.go"},
		"skopeo of then":      {skopeo5, "cmd/skopeo/copy.go"},
		"podman 5.7":          {podman57, "vendor/go.podman.io/common/libimage/copier.go"},
		"podman 6":            {podman6, "vendor/go.podman.io/common/libimage/copier.go"},
		"buildah of podman 6": {buildah6, "vendor/go.podman.io/common/libimage/copier.go"},
	} {
		t.Run(name, func(t *testing.T) {
			tree, module := c.makeTree(t), c.moduleDir(t)
			before := listing(t, tree)

			printed, err := link(t, "--module-dir", module, "--share-blocks", "--dry-run", tree)
			require.NoError(t, err)
			assert.Empty(t, changed(before, listing(t, tree)), "changed by a dry run")
			assert.Contains(t, printed, "\n+// The transport composefs: ")
			assert.Regexp(t, `(?m)^-.*copy\.Image\(ctx, .*$\n^\+.*zerocopy\.Copy\(ctx, `, printed)

			linkedPrinted, err := link(t, "--module-dir", module, "--share-blocks", tree)
			require.NoError(t, err)
			assert.Equal(t, printed, linkedPrinted)
			after := listing(t, tree)
			var old []string
			for _, path := range changed(before, after) {
				if _, ok := before[path]; ok {
					old = append(old, path)
				} else if !isBelow(path, "vendor") {
					assert.Contains(t, []string{"cmd/" + c.project() + "/skopeo_cfs.go", stateFile}, path)
				}
			}
			assert.ElementsMatch(t, []string{"go.mod", "go.sum", "vendor/modules.txt", c.call}, old)
			assert.Empty(t, formatted(t, filepath.Join(tree, c.call)), "gofmt would change the file")

			_, err = link(t, "--module-dir", module, tree)
			assert.ErrorContains(t, err, "it is linked already")
			assert.Empty(t, changed(after, listing(t, tree)))

			_, err = link(t, "--undo", "--dry-run", tree)
			require.NoError(t, err)
			assert.Empty(t, changed(after, listing(t, tree)))
			_, err = link(t, "--undo", tree)
			require.NoError(t, err)
			assert.Empty(t, changed(before, listing(t, tree)))
			_, err = link(t, "--undo", tree)
			assert.ErrorContains(t, err, "there is nothing to undo")
		})
	}
}

func formatted(t *testing.T, path string) string {
	t.Helper()
	out, err := exec.Command("gofmt", "-l", path).CombinedOutput()
	require.NoError(t, err)
	return string(out)
}

// The vendor directory becomes what "go mod vendor" would make of it, but for the
// changed call.
func TestVendorIsAsTheGoCommandMakesIt(t *testing.T) {
	for name, s := range map[string]standIn{"up to 5.6": skopeo5, "since": skopeo6} {
		t.Run(name, func(t *testing.T) {
			tree := s.makeTree(t)
			_, err := link(t, "--module-dir", s.moduleDir(t), "--share-blocks", tree)
			require.NoError(t, err)
			linked := listing(t, tree)
			runIn(t, tree, "go", "mod", "vendor")
			assert.Empty(t, changed(linked, listing(t, tree)))
		})
	}
}

// A tree that was changed in between is not touched.
func TestUndoRefusesChangedFiles(t *testing.T) {
	tree := skopeo5.makeTree(t)
	_, err := link(t, "--module-dir", upTo56.moduleDir(t), tree)
	require.NoError(t, err)
	write(t, filepath.Join(tree, "go.mod"), read(t, filepath.Join(tree, "go.mod"))+"\n// mine\n")
	require.NoError(t, os.Remove(filepath.Join(tree, "cmd/skopeo/skopeo_cfs.go")))
	before := listing(t, tree)
	_, err = link(t, "--undo", tree)
	assert.ErrorContains(t, err, "these files were changed since: go.mod; nothing was undone")
	assert.Empty(t, changed(before, listing(t, tree)))
}

// Where a change fails, those before it are taken back.
func TestLinkingIsAllOrNothing(t *testing.T) {
	tree := t.TempDir()
	write(t, filepath.Join(tree, "a"), "a")
	write(t, filepath.Join(tree, "no directory"), "")
	before := listing(t, tree)
	changes := changeSet{}
	require.NoError(t, changes.replace(tree, "a", []byte("b")))
	require.NoError(t, changes.replace(tree, "c/d/e", []byte("e")))
	changes["no directory/file"] = change{nil, &content{[]byte("f"), 0o644}}
	assert.Error(t, changes.apply(tree))
	assert.Empty(t, changed(before, listing(t, tree)))
}

// A tree that was left half changed is restored.
func TestUndoOfWhatWasInterrupted(t *testing.T) {
	tree := t.TempDir()
	write(t, filepath.Join(tree, "a"), "a")
	before := listing(t, tree)
	changes := changeSet{}
	require.NoError(t, changes.replace(tree, "a", []byte("b")))
	require.NoError(t, changes.replace(tree, "c/d", []byte("d")))
	require.NoError(t, changes.apply(tree))
	write(t, filepath.Join(tree, "a"), "a") // as if it had not been reached
	_, err := link(t, "--undo", tree)
	require.NoError(t, err)
	assert.Empty(t, changed(before, listing(t, tree)))
}

func TestTreesThatAreNotUnderstood(t *testing.T) {
	old, new := skopeo5.makeTree(t), podman6.makeTree(t)
	module, module2 := upTo56.moduleDir(t), since.moduleDir(t)
	for name, c := range map[string]struct {
		tree, module string
		spoil        map[string]func(string) string // by path; what becomes of a file, "" for none
		flags        []string
		err          string
	}{
		"no go.mod": {old, module, files{"go.mod": none}, nil, "not the top of a source tree"},
		"another module": {old, module, files{"go.mod": replacing("module github.com/containers/skopeo", "module example.org/skopeo")}, nil,
			"module example.org/skopeo is none of podman, buildah and skopeo"},
		"no library": {old, module, files{"go.mod": replacing("github.com/containers/image/v5", "example.org/image/v5")}, nil,
			"go.mod must ask for either github.com/containers/image/v5 or go.podman.io/image/v5"},
		"both libraries": {old, module, files{"go.mod": replacing("require (", "require go.podman.io/image/v5 v5.38.0\n\nrequire (")}, nil,
			"go.mod must ask for either"},
		"linked by hand": {old, module, files{"go.mod": replacing("require (", "require github.com/skopeo-cfs/skopeo-cfs v1.0.0\n\nrequire (")}, nil,
			"it is linked already"},
		"no program":         {old, module, files{"cmd/skopeo/main.go": none}, nil, "cmd/skopeo has no program"},
		"the file is there":  {old, module, files{"cmd/skopeo/skopeo_cfs.go": becoming("package main\n")}, nil, "cmd/skopeo/skopeo_cfs.go exists"},
		"a workspace":        {old, module, files{"go.work": becoming("go 1.25\n")}, nil, "it is a workspace"},
		"the other module":   {old, module2, nil, nil, "is not module github.com/skopeo-cfs/skopeo-cfs, which is the one for github.com/containers/image/v5"},
		"the module before":  {new, module, nil, nil, "is not module github.com/skopeo-cfs/skopeo-cfs/v2, which is the one for go.podman.io/image/v5"},
		"no module":          {old, t.TempDir(), nil, nil, "looking for the module"},
		"no list of modules": {old, module, files{"vendor/modules.txt": none}, nil, "vendor/modules.txt"},
		"another list":       {old, module, files{"vendor/modules.txt": replacing("# ", "@ ")}, nil, "belongs to no module"},
		"no call":            {old, module, files{"cmd/skopeo/copy.go": replacing("copy.Image(", "copyOf(")}, []string{"--share-blocks"}, "but there are 0"},
		"two calls": {old, module, files{"cmd/skopeo/copy.go": replacing("	return err\n}", "	_, err = copy.Image(ctx, policyContext, destRef, srcRef, nil)\n	return err\n}")},
			[]string{"--share-blocks"}, "but there are 2"},
		"no file with the call": {old, module, files{"cmd/skopeo/copy.go": none}, []string{"--share-blocks"}, "looking for the call of copy.Image"},
		"another call": {old, module, files{"cmd/skopeo/copy.go": replacing("copy.Image(ctx, ", "copy.Image(")}, []string{"--share-blocks"},
			"copy.Image is not called with five arguments"},
		"the name is taken": {old, module, files{"cmd/skopeo/copy.go": replacing("func copyImage", "var zerocopy int\n\nfunc copyImage")},
			[]string{"--share-blocks"}, "the name zerocopy is in use"},
		"no libimage": {new, module2, files{"vendor/go.podman.io/common/libimage/copier.go": none}, []string{"--share-blocks"}, "looking for the call of copy.Image"},
	} {
		t.Run(name, func(t *testing.T) {
			for path, become := range c.spoil {
				spoil(t, filepath.Join(c.tree, path), become)
			}
			before := listing(t, c.tree)
			_, err := link(t, append(c.flags, "--module-dir", c.module, c.tree)...)
			assert.ErrorContains(t, err, c.err)
			assert.ErrorContains(t, err, "nothing was changed")
			assert.Empty(t, changed(before, listing(t, c.tree)))
		})
	}
}

// files are what becomes of files.
type files = map[string]func(string) string

func none(string) string { return "" }

func becoming(text string) func(string) string { return func(string) string { return text } }

func replacing(is, by string) func(string) string {
	return func(text string) string { return strings.ReplaceAll(text, is, by) }
}

// spoil changes a file for the time of a test, or removes it.
func spoil(t *testing.T, path string, become func(string) string) {
	t.Helper()
	is, err := readContent(path)
	require.NoError(t, err)
	text := ""
	if is != nil {
		text = string(is.Data)
	}
	text = become(text)
	t.Cleanup(func() {
		if is == nil {
			assert.NoError(t, os.Remove(path))
		} else {
			write(t, path, string(is.Data))
		}
	})
	if text == "" {
		require.NoError(t, os.Remove(path))
		return
	}
	require.False(t, is != nil && string(is.Data) == text, "%s stays what it is", path)
	write(t, path, text)
}

// A tree without a vendor directory is linked by the go command's own means, and
// so is one that has older modules than are needed.
func TestTreesThatTheGoCommandResolves(t *testing.T) {
	module := upTo56.moduleDir(t)
	t.Run("without vendor", func(t *testing.T) {
		tree := skopeo5.makeBareTree(t)
		before := listing(t, tree)
		_, err := link(t, "--module-dir", module, "--share-blocks", tree)
		require.NoError(t, err)
		assert.Equal(t, []string{stateFile, "cmd/skopeo/copy.go", "cmd/skopeo/skopeo_cfs.go", "go.mod"},
			slices.DeleteFunc(changed(before, listing(t, tree)), func(path string) bool { return path == "go.sum" }))
		cmd := exec.Command("go", "vet", "-mod=readonly", "-tags", tags, "./cmd/skopeo")
		cmd.Dir, cmd.Env = tree, append(os.Environ(), "GOFLAGS=")
		out, err := cmd.CombinedOutput()
		assert.NoError(t, err, string(out))
		_, err = link(t, "--undo", tree)
		require.NoError(t, err)
		assert.Empty(t, changed(before, listing(t, tree)))
	})
	t.Run("without vendor, where the call is in libimage", func(t *testing.T) {
		tree := podman5.makeBareTree(t)
		_, err := link(t, "--module-dir", module, "--share-blocks", tree)
		assert.ErrorContains(t, err, "go mod vendor makes one")
	})
	t.Run("older modules", func(t *testing.T) {
		tree := skopeo5.makeTree(t)
		for _, name := range []string{"go.mod", "vendor/modules.txt"} {
			spoil(t, filepath.Join(tree, name), replacing("golang.org/x/sys v0.34.0", "golang.org/x/sys v0.33.0"))
		}
		before := listing(t, tree)
		_, err := link(t, "--module-dir", module, "--share-blocks", tree)
		require.NoError(t, err)
		assert.Contains(t, read(t, filepath.Join(tree, "go.mod")), "golang.org/x/sys v0.34.0")
		assert.Contains(t, read(t, filepath.Join(tree, "vendor/modules.txt")), "# golang.org/x/sys v0.34.0")
		assert.Contains(t, read(t, filepath.Join(tree, "cmd/skopeo/copy.go")), "zerocopy.Copy(")
		_, err = link(t, "--undo", tree)
		require.NoError(t, err)
		assert.Empty(t, changed(before, listing(t, tree)))
	})
}

// The two ways by which the import of package copy is written, and where it is of
// no more use.
func TestTheImportIsFixed(t *testing.T) {
	const copyPath, ours = "go.podman.io/image/v5/copy", "github.com/skopeo-cfs/skopeo-cfs/v2/zerocopy"
	for is, becomes := range map[string]string{
		"package a\n\nimport \"" + copyPath + "\"\n\nvar _, err = copy.Image(1, 2, 3, 4, &copy.Options{})\n": "package a\n\nimport \"" + copyPath + "\"\nimport \"" + ours + "\"\n\nvar _, err = zerocopy.Copy(1, 2, 3, 4, &copy.Options{})\n",
		"package a\n\nimport \"" + copyPath + "\"\n\nvar _, err = copy.Image(1, 2, 3, 4, nil)\n":             "package a\n\nimport \"" + ours + "\"\n\nvar _, err = zerocopy.Copy(1, 2, 3, 4, nil)\n",
		"package a\n\nimport (\n\tcp \"" + copyPath + "\"\n)\n\nvar _, err = cp.Image(1, 2, 3, 4, nil)\n":    "package a\n\nimport (\n\t\"" + ours + "\"\n)\n\nvar _, err = zerocopy.Copy(1, 2, 3, 4, nil)\n",
	} {
		got, calls, err := rewriteCalls("a.go", []byte(is), copyPath, ours)
		require.NoError(t, err)
		assert.Equal(t, 1, calls)
		assert.Equal(t, becomes, string(got))
	}
	for name, is := range map[string]string{
		"another package copy":   "package a\n\nimport \"example.org/copy\"\n\nvar _, err = copy.Image(1, 2, 3, 4, 5)\n",
		"a variable of the name": "package a\n\nimport \"" + copyPath + "\"\n\nfunc f(copy T) { copy.Image(1, 2, 3, 4, 5) }\n\nvar _ copy.Options\n",
	} {
		got, calls, err := rewriteCalls("a.go", []byte(is), copyPath, ours)
		require.NoError(t, err, name)
		assert.Zero(t, calls, name)
		assert.Equal(t, is, string(got), name)
	}
}

// What the go command does not build is not copied to vendor.
func TestFilesThatAreNeverBuilt(t *testing.T) {
	for constraint, want := range map[string]bool{
		"":                           true,
		"//go:build linux":           true,
		"//go:build !linux && cgo":   true,
		"//go:build ignore":          false,
		"//go:build ignore || tool":  true,
		"//go:build !ignore":         true,
		"//go:build linux && ignore": false,
	} {
		assert.Equal(t, want, built([]byte("// Copyright\n\n"+constraint+"\n\npackage a\n")), constraint)
	}
	assert.True(t, built([]byte("package a\n\n//go:build ignore\n")), "not a constraint behind the package clause")
}

func TestFlags(t *testing.T) {
	for want, args := range map[string][]string{
		"needs one source tree, not 0":  nil,
		"needs one source tree, not 2":  {"a", "b"},
		"flag provided but not defined": {"--what", "a"},
		"there is nothing to undo":      {"--undo", t.TempDir()},
	} {
		_, err := link(t, args...)
		assert.ErrorContains(t, err, want)
	}
}
