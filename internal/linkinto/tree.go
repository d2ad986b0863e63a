package main

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/mod/modfile"
)

// generation is the names of the libraries that a tree is built on, and of the
// module that is built on the same.
type generation struct {
	image, common string // paths of modules
	module        string // ours
}

var generations = []generation{
	{"github.com/containers/image/v5", "github.com/containers/common", "github.com/skopeo-cfs/skopeo-cfs"},
	{"go.podman.io/image/v5", "go.podman.io/common", "github.com/skopeo-cfs/skopeo-cfs/v2"},
}

// tree is a source tree of podman, buildah or skopeo.
type tree struct {
	dir        string
	project    string // podman, buildah or skopeo
	generation generation
	mod        *modfile.File
	modText    []byte
	vendored   bool
}

// project is the path of a module of one of the projects, whatever its major
// version.
var project = regexp.MustCompile(`^(?:github\.com/containers|go\.podman\.io)/(podman|buildah|skopeo)(?:/v\d+)?$`)

// importFile is the name of the file with the import, in the main package.
const importFile = "skopeo_cfs.go"

// readTree finds out what a tree is, and refuses one that is not understood.
func readTree(dir string) (*tree, error) {
	if _, err := os.Lstat(filepath.Join(dir, stateFile)); err == nil {
		return nil, fmt.Errorf("it is linked already (it has %s); --undo restores what was before", stateFile)
	}
	text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		return nil, fmt.Errorf("not the top of a source tree: %w", err)
	}
	mod, err := modfile.Parse("go.mod", text, nil)
	if err != nil {
		return nil, err
	}
	if mod.Module == nil {
		return nil, errors.New("go.mod names no module")
	}
	parts := project.FindStringSubmatch(mod.Module.Mod.Path)
	if parts == nil {
		return nil, fmt.Errorf("module %s is none of podman, buildah and skopeo", mod.Module.Mod.Path)
	}
	t := &tree{dir: dir, project: parts[1], mod: mod, modText: text}
	if t.generation, err = generationOf(mod); err != nil {
		return nil, err
	}
	if err := t.checkMain(); err != nil {
		return nil, err
	}
	_, err = os.Lstat(filepath.Join(dir, "vendor"))
	t.vendored = err == nil
	if !errors.Is(err, fs.ErrNotExist) && err != nil {
		return nil, err
	}
	if _, err := os.Lstat(filepath.Join(dir, "go.work")); err == nil {
		return nil, errors.New("it is a workspace (it has go.work)")
	}
	return t, nil
}

// generationOf tells which libraries a go.mod is for: those that it asks for
// itself, for others may be there as what a dependency needs.
func generationOf(mod *modfile.File) (generation, error) {
	var found []generation
	for _, g := range generations {
		for _, require := range mod.Require {
			if require.Mod.Path == g.module {
				return generation{}, fmt.Errorf("it is linked already: go.mod asks for %s", g.module)
			}
			if require.Mod.Path == g.image && !require.Indirect {
				found = append(found, g)
			}
		}
	}
	if len(found) != 1 {
		return generation{}, fmt.Errorf("go.mod must ask for either %s or %s", generations[0].image, generations[1].image)
	}
	return found[0], nil
}

// mainDir returns the directory of the program, relative to the tree.
func (t *tree) mainDir() string { return "cmd/" + t.project }

// checkMain checks that the program is where the import will be added.
func (t *tree) checkMain() error {
	files, err := goFiles(filepath.Join(t.dir, t.mainDir()))
	if err != nil {
		return fmt.Errorf("looking for the program: %w", err)
	}
	for name, source := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, source, parser.SkipObjectResolution)
		if err != nil {
			return fmt.Errorf("looking for the program: %w", err)
		}
		for _, decl := range file.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "main" && file.Name.Name == "main" {
				return nil
			}
		}
	}
	return fmt.Errorf("%s has no program (no func main of package main)", t.mainDir())
}

// goFiles returns the contents of the Go files in a directory, but for tests, by
// path.
func goFiles(dir string) (map[string][]byte, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for _, entry := range entries {
		name := entry.Name()
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") || !entry.Type().IsRegular() {
			continue
		}
		path := filepath.Join(dir, name)
		if files[path], err = os.ReadFile(path); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// addImport adds the file that imports the transport. Where the project is built
// for other systems, or as podman-remote, the transport is left out.
func (t *tree) addImport(changes changeSet, m *linked) error {
	constraint := "linux"
	if t.project == "podman" {
		constraint = "linux && !remote"
	}
	path := t.mainDir() + "/" + importFile
	if _, err := os.Lstat(filepath.Join(t.dir, path)); err == nil {
		return fmt.Errorf("%s exists", path)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "//go:build %s\n\npackage main\n\n// The transport composefs: of images in composefs repositories.\nimport _ %q\n", constraint, m.path+"/transport")
	changes[path] = change{after: &content{b.Bytes(), 0o644}}
	return nil
}
