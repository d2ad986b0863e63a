package main

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
)

// changeCall has the tree copy images with zerocopy.Copy in the place of
// copy.Image, where it does that for users: in skopeo's copy, and for podman and
// buildah in libimage.
func (t *tree) changeCall(changes changeSet, m *linked) error {
	name := t.mainDir() + "/copy.go"
	if t.project != "skopeo" {
		name = "vendor/" + t.generation.common + "/libimage/copier.go"
		if !t.vendored {
			return errors.New("the call to change is in libimage, and there is no vendor directory with that; go mod vendor makes one")
		}
	}
	source, err := changes.read(t.dir, name)
	if err != nil {
		return fmt.Errorf("looking for the call of copy.Image: %w", err)
	}
	rewritten, calls, err := rewriteCalls(name, source, t.generation.image+"/copy", m.path+"/zerocopy")
	if err != nil {
		return fmt.Errorf("looking for the call of copy.Image: %w", err)
	}
	if calls != 1 {
		return fmt.Errorf("there must be one call of copy.Image in %s, but there are %d", name, calls)
	}
	return changes.replace(t.dir, name, rewritten)
}

// rewriteCalls replaces the calls of Image in the package copyPath by those of
// Copy in zerocopyPath, and tells how many there were.
func rewriteCalls(name string, source []byte, copyPath, zerocopyPath string) ([]byte, int, error) {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, name, source, parser.ParseComments)
	if err != nil {
		return nil, 0, err
	}
	spec := importOf(file, copyPath)
	if spec == nil {
		return source, 0, nil
	}
	local := "copy"
	if spec.Name != nil {
		local = spec.Name.Name
	}
	var found []*ast.SelectorExpr // calls of Image
	others := false               // whether the package is used for something else
	taken := false
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Ident:
			taken = taken || n.Name == "zerocopy"
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && x.Name == local && x.Obj == nil {
				if n.Sel.Name == "Image" {
					found = append(found, n)
				} else {
					others = true
				}
			}
		}
		return true
	})
	if len(found) == 0 {
		return source, 0, nil
	}
	if taken {
		return nil, 0, errors.New("the name zerocopy is in use there")
	}
	for _, f := range found {
		if !isCalled(file, f) {
			return nil, 0, fmt.Errorf("%s: copy.Image is not called with five arguments", files.Position(f.Pos()))
		}
	}
	result, err := edit(files, source, file, spec, found, others, zerocopyPath)
	return result, len(found), err
}

// edit replaces the calls in a file's text, and adds the import behind that of
// package copy, which goes where nothing else uses it.
func edit(files *token.FileSet, source []byte, file *ast.File, spec *ast.ImportSpec, calls []*ast.SelectorExpr, keepCopy bool, zerocopyPath string) ([]byte, error) {
	offset := func(pos token.Pos) int { return files.Position(pos).Offset }
	var result bytes.Buffer
	done := 0
	replace := func(from, to token.Pos, by string) {
		result.Write(source[done:offset(from)])
		result.WriteString(by)
		done = offset(to)
	}
	parenthesized := slices.ContainsFunc(file.Decls, func(d ast.Decl) bool {
		g, ok := d.(*ast.GenDecl)
		return ok && g.Lparen.IsValid() && slices.Contains(g.Specs, ast.Spec(spec))
	})
	added := strconv.Quote(zerocopyPath)
	if keepCopy {
		declaration := "\n"
		if !parenthesized {
			declaration = "\nimport "
		}
		added = string(source[offset(spec.Pos()):offset(spec.End())]) + declaration + added
	}
	replace(spec.Pos(), spec.End(), added)
	for _, c := range calls { // in the order of the text
		replace(c.Pos(), c.End(), "zerocopy.Copy")
	}
	result.Write(source[done:])
	return format.Source(result.Bytes())
}

// isCalled tells whether a selector is the function of a call as copy.Image's.
func isCalled(file *ast.File, f *ast.SelectorExpr) bool {
	called := false
	ast.Inspect(file, func(n ast.Node) bool {
		if c, ok := n.(*ast.CallExpr); ok && c.Fun == f {
			called = len(c.Args) == 5 && !c.Ellipsis.IsValid()
		}
		return !called
	})
	return called
}

func importOf(file *ast.File, path string) *ast.ImportSpec {
	for _, spec := range file.Imports {
		if is, err := strconv.Unquote(spec.Path.Value); err == nil && is == path {
			return spec
		}
	}
	return nil
}
