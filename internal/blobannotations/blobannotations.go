// Package blobannotations knows the annotations that describe a compressed blob.
package blobannotations

import (
	"maps"
	"slices"
	"strings"
)

// prefixes are those of annotations that describe the compressed
// blob: the tables of contents of zstd:chunked and of eStargz.
var prefixes = []string{
	"io.github.containers.zstd-chunked.",
	"containerd.io/snapshot/stargz/",
	"io.containers.estargz.",
}

// Without returns a layer's annotations without those that would
// be wrong of the uncompressed layer.
func Without(annotations map[string]string) map[string]string {
	kept := maps.Clone(annotations)
	maps.DeleteFunc(kept, func(key, _ string) bool {
		return slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(key, prefix) })
	})
	return kept
}
