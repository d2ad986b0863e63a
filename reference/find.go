package reference

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"
	"github.com/distribution/reference"
)

var (
	// ErrUnknownTag: the repository has no tag that could be meant.
	ErrUnknownTag = errors.New("no such tag in the repository")
	// ErrAmbiguous: several tags of the repository could be meant.
	ErrAmbiguous = errors.New("ambiguous name")
)

// Find returns the one of a repository's tags that a name means: the tag that
// is the name; or else the only one that the name normalises to, as podman's
// users know it: registry, path and :latest may be left out, from the outside.
// So hello means localhost/hello:latest. The error wraps ErrUnknownTag and
// lists the tags that are near, or ErrAmbiguous and lists those that fit.
func Find(name string, tags []string) (string, error) {
	if slices.Contains(tags, name) {
		return name, nil
	}
	var fitting []string
	for _, tag := range tags {
		if means(name, tag) {
			fitting = append(fitting, tag)
		}
	}
	switch len(fitting) {
	case 1:
		return fitting[0], nil
	case 0:
		return "", unknown(name, tags)
	default:
		return "", fmt.Errorf("%w: %q may be %s", ErrAmbiguous, name, list(fitting))
	}
}

// means tells whether a name that is not the tag itself normalises to the tag.
func means(name, tag string) bool {
	typed, full := withVersion(name), withVersion(tag)
	return typed == full || strings.HasSuffix(full, "/"+typed) || normalised(name) != "" && normalised(name) == normalised(tag)
}

// withVersion adds :latest to a name whose last component has no version.
func withVersion(name string) string {
	if strings.Contains(name[strings.LastIndex(name, "/")+1:], ":") {
		return name
	}
	return name + ":latest"
}

// normalised returns a name as Docker spells it out, "" if it is no such name.
func normalised(name string) string {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return ""
	}
	return reference.TagNameOnly(named).String()
}

// unknown returns the error of a name that no tag fits, with those near it.
func unknown(name string, tags []string) error {
	near := nearest(name, tags)
	switch {
	case len(near) > 0:
		return fmt.Errorf("%w: %.300q; there is %s", ErrUnknownTag, name, list(near))
	case len(tags) == 0:
		return fmt.Errorf("%w: %.300q; it has no tags", ErrUnknownTag, name)
	default:
		return fmt.Errorf("%w: %.300q; none of its %d tags is similar", ErrUnknownTag, name, len(tags))
	}
}

// maxTagLength is the length in bytes that no tag exceeds, being a file's name.
const maxTagLength = 255

// How many tags are named as near, and how many letters may be wrong in them.
const (
	maxNear     = 5
	maxDistance = 3
)

// nearest returns the tags that a name may be a slip for, the nearest first.
func nearest(name string, tags []string) []string {
	if len(name) > maxTagLength {
		return nil
	}
	distance := func(tag string) int {
		d := levenshtein.ComputeDistance(name, tag)
		for _, tag := range []string{tag, strings.TrimSuffix(tag, ":latest")} {
			for part := tag; ; {
				d = min(d, levenshtein.ComputeDistance(name, part))
				slash := strings.Index(part, "/")
				if slash < 0 {
					break
				}
				part = part[slash+1:]
			}
		}
		return d
	}
	near := slices.DeleteFunc(slices.Clone(tags), func(tag string) bool { return distance(tag) > maxDistance })
	slices.SortStableFunc(near, func(a, b string) int { return distance(a) - distance(b) })
	return near[:min(len(near), maxNear)]
}

// list spells tags out for a message.
func list(tags []string) string {
	quoted := make([]string, len(tags))
	for i, tag := range tags {
		quoted[i] = fmt.Sprintf("%q", tag)
	}
	return strings.Join(quoted, ", ")
}
