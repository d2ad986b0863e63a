package serve

import (
	"fmt"
	"path"
	"strings"

	"github.com/distribution/reference"
)

// named is a repository of the registry, and a tag in it.
type named struct {
	repository string
	tag        string // "" where the image has only its digest
}

// parseTag returns what a tag of a composefs repository, or the image's name in a
// deployment's origin, is called in the registry. Only what is a reference can be
// asked for by clients; "hello" is tag latest of hello.
func parseTag(text string) (named, bool) {
	parsed, err := reference.Parse(text)
	if err != nil {
		return named{}, false
	}
	ref, ok := parsed.(reference.Named)
	if !ok {
		return named{}, false
	}
	n := named{repository: ref.Name()}
	if tagged, ok := ref.(reference.Tagged); ok {
		n.tag = tagged.Tag()
	} else if _, ok := ref.(reference.Digested); !ok {
		n.tag = "latest"
	}
	return n, true
}

// withoutHost returns the name without the registry's host that it begins with;
// false where it begins with none. A host has a dot or a colon, or is localhost.
func withoutHost(name string) (string, bool) {
	host, rest, ok := strings.Cut(name, "/")
	if !ok || rest == "" || host != "localhost" && !strings.ContainsAny(host, ".:") {
		return "", false
	}
	return rest, true
}

// canBeAsked tells whether clients can ask a registry for a repository of that
// name: references have no colon behind a host, nor capitals.
func canBeAsked(name string) bool {
	return !strings.Contains(name, ":") && strings.ToLower(name) == name
}

// patterns are those of what is served.
type patterns []string

// check returns an error if one of the patterns is malformed.
func (p patterns) check() error {
	for _, pattern := range p {
		if _, err := path.Match(pattern, ""); err != nil {
			return fmt.Errorf("pattern %q: %w", pattern, err)
		}
	}
	return nil
}

// match tells whether one of the patterns matches the name with or without its tag;
// without patterns, all do.
func (p patterns) match(n named) bool {
	for _, pattern := range p {
		for _, text := range []string{n.repository, n.repository + ":" + n.tag} {
			if ok, _ := path.Match(pattern, text); ok {
				return true
			}
		}
	}
	return len(p) == 0
}
