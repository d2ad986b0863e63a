package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// oldModule and newModule are the paths of this module and of the one that is
// made of it.
const (
	oldModule = "github.com/skopeo-cfs/skopeo-cfs"
	newModule = oldModule + "/v2"
)

// renamed are the modules whose import paths are rewritten.
var renamed = []struct{ from, to string }{
	{"github.com/containers/image/v5", "go.podman.io/image/v5"},
	{"github.com/containers/storage", "go.podman.io/storage"},
	{"github.com/containers/common", "go.podman.io/common"},
	{oldModule, newModule},
}

// rewrite returns what the generated module has as a file: in Go files the
// imports rewritten, and the import lines in comments; in Markdown the import
// lines of Go code; in scripts and makefiles import paths as such. Prose is left
// alone, and so are comments, code in Markdown and scripts that have the new paths,
// because they speak of both.
func rewrite(name string, content []byte) ([]byte, error) {
	switch {
	case path.Ext(name) == ".go":
		return rewriteGo(name, content, !speaksOfBoth(content))
	case path.Ext(name) == ".md":
		return rewriteMarkdown(content), nil
	case path.Base(name) == "Makefile", bytes.HasPrefix(content, []byte("#!")):
		if !speaksOfBoth(content) {
			return rewritePaths(content), nil
		}
	}
	return content, nil
}

// speaksOfBoth tells whether a text has paths as they are after rewriting.
func speaksOfBoth(text []byte) bool {
	return bytes.Contains(text, []byte("go.podman.io/")) || bytes.Contains(text, []byte(newModule))
}

// rewritePath returns the new import path of a package.
func rewritePath(path string) string {
	if path == newModule || strings.HasPrefix(path, newModule+"/") {
		return path
	}
	for _, r := range renamed {
		if rest, ok := strings.CutPrefix(path, r.from); ok && (rest == "" || rest[0] == '/') {
			return r.to + rest
		}
	}
	return path
}

// rewriteGo rewrites the imports of a Go file, and with comments set the import
// lines in its comments, and sorts the imports as gofmt does.
func rewriteGo(name string, source []byte, comments bool) ([]byte, error) {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, name, source, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	var edits []edit
	for _, spec := range file.Imports {
		is, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, err
		}
		if becomes := rewritePath(is); becomes != is {
			at := files.Position(spec.Path.Pos()).Offset
			edits = append(edits, edit{at, len(spec.Path.Value), []byte(strconv.Quote(becomes))})
		}
	}
	if comments {
		for _, group := range file.Comments {
			for _, comment := range group.List {
				edits = append(edits, commentEdits(files, comment)...)
			}
		}
	}
	if len(edits) == 0 {
		return source, nil
	}
	formatted, err := format.Source(apply(source, edits))
	if err != nil {
		return nil, fmt.Errorf("formatting it: %w", err)
	}
	return formatted, nil
}

// edit is bytes of a file to be replaced.
type edit struct {
	at, length int
	by         []byte
}

// apply returns the source with edits made, which do not overlap.
func apply(source []byte, edits []edit) []byte {
	slices.SortFunc(edits, func(a, b edit) int { return a.at - b.at })
	var result []byte
	done := 0
	for _, e := range edits {
		result = append(append(result, source[done:e.at]...), e.by...)
		done = e.at + e.length
	}
	return append(result, source[done:]...)
}

// commentEdits returns the edits of import lines in a comment.
func commentEdits(files *token.FileSet, comment *ast.Comment) []edit {
	text := []byte(comment.Text)
	if rewritten := rewriteImportLines(text); !bytes.Equal(rewritten, text) {
		return []edit{{files.Position(comment.Pos()).Offset, len(text), rewritten}}
	}
	return nil
}

// importLine is a line of code that imports a package, in a comment or not: an
// import declaration, or a line within the parentheses of one.
var importLine = regexp.MustCompile(`(?m)^((?://)?[ \t]*(?:import[ \t]+)?(?:[._\pL][\pL\pN_]*[ \t]+)?")([^"\s]+)("[ \t]*)$`)

func rewriteImportLines(text []byte) []byte {
	return importLine.ReplaceAllFunc(text, func(line []byte) []byte {
		parts := importLine.FindSubmatch(line)
		return slices.Concat(parts[1], []byte(rewritePath(string(parts[2]))), parts[3])
	})
}

// goCode is a block of Go code in Markdown.
var goCode = regexp.MustCompile("(?ms)^```go\n.*?^```$")

func rewriteMarkdown(text []byte) []byte {
	return goCode.ReplaceAllFunc(text, func(code []byte) []byte {
		if speaksOfBoth(code) {
			return code
		}
		return rewriteImportLines(code)
	})
}

// word is whatever could be a path or an address.
var word = regexp.MustCompile(`[\pL\pN_.:/@-]+`)

// rewritePaths rewrites all words that are import paths of packages.
func rewritePaths(text []byte) []byte {
	return word.ReplaceAllFunc(text, func(w []byte) []byte { return []byte(rewritePath(string(w))) })
}
