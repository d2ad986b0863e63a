// Package fullname has the names of images as podman spells them out, and what they
// are in a place that holds images of several registries.
package fullname

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/distribution/reference"
)

// ErrInvalid: no image can be called so, but in a composefs repository, whose tags may
// be anything.
var ErrInvalid = errors.New("no image can be called so in other places")

// Name is the name of an image. Names are values, comparable with ==. The parts of
// those that Parse returns are as the grammar of references has them: none is empty,
// begins with a dot, or does anything to a terminal.
type Name struct {
	registry string // with its port
	path     string
	version  string
}

// Parse returns the name that a tag of a composefs repository stands for: localhost is
// put before one that names no registry, and latest behind one without a version. A
// registry has a dot or a colon, or is localhost. A digest behind the version is
// dropped. The error wraps ErrInvalid.
func Parse(tag string) (Name, error) {
	text := tag
	if host, _, ok := strings.Cut(tag, "/"); !ok || host != "localhost" && !strings.ContainsAny(host, ".:") {
		text = "localhost/" + tag
	}
	named, err := reference.ParseNormalizedNamed(text)
	if err != nil {
		return Name{}, fmt.Errorf("%.300q: %w: %w", tag, ErrInvalid, err)
	}
	tagged, ok := reference.TagNameOnly(named).(reference.Tagged)
	if !ok {
		return Name{}, fmt.Errorf("%.300q: %w: it has a digest in the place of a version", tag, ErrInvalid)
	}
	return Name{reference.Domain(named), reference.Path(named), tagged.Tag()}, nil
}

// WithSuffix returns the name with a text behind its version. The error wraps
// ErrInvalid.
func (n Name) WithSuffix(suffix string) (Name, error) {
	if suffix == "" {
		return n, nil
	}
	with, err := Parse(n.String() + suffix)
	if err == nil && (with.registry != n.registry || with.path != n.path || with.version != n.version+suffix) {
		err = fmt.Errorf("%.300q: %w", n.String()+suffix, ErrInvalid)
	}
	return with, err
}

// String returns the whole name.
func (n Name) String() string { return n.registry + "/" + n.path + ":" + n.version }

// Last returns the last part of the name, with the version.
func (n Name) Last() string { return path.Base(n.path) + ":" + n.version }

// Below returns the whole name as it can be below a registry or in a directory: what a
// path can't have of the registry's name is a hyphen, for example localhost-5000.
func (n Name) Below() string {
	words := strings.FieldsFunc(strings.ToLower(n.registry), func(r rune) bool {
		return r != '.' && (r < '0' || r > '9') && (r < 'a' || r > 'z')
	})
	return strings.Join(words, "-") + "/" + n.path + ":" + n.version
}
