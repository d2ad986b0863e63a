package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestImportsAreRewritten(t *testing.T) {
	for name, c := range map[string]struct{ file, is, becomes string }{
		"imports, sorted as gofmt sorts them": {"a.go",
			"package a\n\nimport (\n\tgodigest \"example.org/d\"\n\t\"github.com/containers/image/v5/copy\"\n\t\"github.com/containers/storage\"\n\t\"go.example.org/x\"\n\n\t_ \"github.com/skopeo-cfs/skopeo-cfs/transport\" // composefs:\n)\n",
			"package a\n\nimport (\n\tgodigest \"example.org/d\"\n\t\"go.example.org/x\"\n\t\"go.podman.io/image/v5/copy\"\n\t\"go.podman.io/storage\"\n\n\t_ \"github.com/skopeo-cfs/skopeo-cfs/v2/transport\" // composefs:\n)\n"},
		"a single import": {"a.go",
			"package a\n\nimport `github.com/containers/common/libimage`\n",
			"package a\n\nimport \"go.podman.io/common/libimage\"\n"},
		"an import in a doc comment": {"a.go",
			"// Package a is imported so:\n//\n//\timport _ \"github.com/skopeo-cfs/skopeo-cfs/transport\"\n//\n// See github.com/containers/storage.\npackage a\n",
			"// Package a is imported so:\n//\n//\timport _ \"github.com/skopeo-cfs/skopeo-cfs/v2/transport\"\n//\n// See github.com/containers/storage.\npackage a\n"},
		"an import in a block comment": {"a.go",
			"/*\nPackage a is imported so:\n\n\timport _ \"github.com/skopeo-cfs/skopeo-cfs/transport\"\n*/\npackage a\n",
			"/*\nPackage a is imported so:\n\n\timport _ \"github.com/skopeo-cfs/skopeo-cfs/v2/transport\"\n*/\npackage a\n"},
		"other modules with such a beginning": {"a.go",
			"package a\n\nimport (\n\t\"github.com/containers/image/v4/copy\"\n\t\"github.com/containers/storage2\"\n\t\"github.com/skopeo-cfs/skopeo-cfs-tools\"\n)\n", ""},
		"strings": {"a.go", "package a\n\nvar a = \"github.com/containers/storage/pkg/reexec\"\n", ""},
		"comments of a file that speaks of both": {"a.go",
			"package a\n\n// go.podman.io/image/v5, and before:\n//\n//\timport \"github.com/containers/image/v5/copy\"\nimport \"github.com/containers/storage\"\n",
			"package a\n\n// go.podman.io/image/v5, and before:\n//\n//\timport \"github.com/containers/image/v5/copy\"\nimport \"go.podman.io/storage\"\n"},
		"a file that is not formatted and has nothing to rewrite": {"a.go", "package a;import \"fmt\"", ""},
		"code in Markdown, and not the prose": {"a.md",
			"See https://github.com/containers/image and\n`github.com/containers/image/v5`:\n\n```go\nimport (\n\t\"github.com/containers/image/v5/copy\"\n\t_ \"github.com/skopeo-cfs/skopeo-cfs/transport\"\n)\n```\n\n```\nimport \"github.com/containers/storage\"\n```\n",
			"See https://github.com/containers/image and\n`github.com/containers/image/v5`:\n\n```go\nimport (\n\t\"go.podman.io/image/v5/copy\"\n\t_ \"github.com/skopeo-cfs/skopeo-cfs/v2/transport\"\n)\n```\n\n```\nimport \"github.com/containers/storage\"\n```\n"},
		"code in Markdown that speaks of both": {"a.md",
			"```go\nimport \"github.com/containers/image/v5/copy\" // since podman 5.7: go.podman.io/image/v5/copy\nimport \"github.com/containers/storage\"\n```\n", ""},
		"code in Markdown that speaks of both elsewhere": {"a.md",
			"go.podman.io/storage:\n\n```go\nimport \"github.com/containers/storage\"\n```\n",
			"go.podman.io/storage:\n\n```go\nimport \"go.podman.io/storage\"\n```\n"},
		"a script": {"run",
			"#!/bin/sh\n# https://github.com/containers/storage\ngo test github.com/skopeo-cfs/skopeo-cfs/zerocopy github.com/skopeo-cfs/skopeo-cfs/...\n",
			"#!/bin/sh\n# https://github.com/containers/storage\ngo test github.com/skopeo-cfs/skopeo-cfs/v2/zerocopy github.com/skopeo-cfs/skopeo-cfs/v2/...\n"},
		"what else there is": {"data.json", "{\"a\": \"github.com/containers/storage\"}", ""},
	} {
		t.Run(name, func(t *testing.T) {
			if c.becomes == "" {
				c.becomes = c.is
			}
			got, err := rewrite(c.file, []byte(c.is))
			require.NoError(t, err)
			assert.Equal(t, c.becomes, string(got))
			again, err := rewrite(c.file, got)
			require.NoError(t, err)
			assert.Equal(t, c.becomes, string(again), "rewritten twice")
		})
	}
}

func TestSourcesThatAreNoGoAreRefused(t *testing.T) {
	_, err := rewrite("a.go", []byte("no Go"))
	assert.ErrorContains(t, err, "expected 'package'")
}
