// Package reference has composefs: references as text: what stands behind the
// transport's name, in
//
//	composefs:[/path/to/repository]NAME
//	composefs:NAME
//
// where NAME is a tag of the repository, in full or as people type it, or
// @DIGEST, the digest of a manifest or of a config. Without a path the default
// repository of the user is meant.
package reference

import (
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
)

// ErrInvalid: the text is no reference.
var ErrInvalid = errors.New("invalid composefs reference")

// Reference names an image of a repository: by a tag or by a digest, one of
// which it has. References are values, comparable with ==; those that Parse and
// the constructors return are valid.
type Reference struct {
	repository string
	tag        string
	digest     digest.Digest
}

// Parse returns the reference that text, without the transport's name, is. The
// error wraps ErrInvalid.
func Parse(text string) (Reference, error) {
	r, err := parse(text)
	if err != nil {
		return Reference{}, fmt.Errorf("%w %.300q: %w", ErrInvalid, text, err)
	}
	return r, nil
}

func parse(text string) (Reference, error) {
	name, repository := text, ""
	if rest, ok := strings.CutPrefix(text, "["); ok {
		if repository, name, ok = strings.Cut(rest, "]"); !ok {
			return Reference{}, errors.New("no ] follows the repository's path")
		}
		if repository == "" {
			return Reference{}, errors.New("the brackets are empty where a repository's path should be")
		}
	}
	r := Reference{repository: repository}
	if text, ok := strings.CutPrefix(name, "@"); ok {
		d, err := digest.Parse(text)
		if err != nil {
			return Reference{}, fmt.Errorf("%q is no digest: %w", text, err)
		}
		r.digest = d
	} else {
		r.tag = name
	}
	return r, r.validate()
}

// WithTag returns the reference to a tag of the repository at a path, "" for
// the default one. The error wraps ErrInvalid, for what String could not spell:
// a ] in the path, a tag that starts with @ or, without a path, with [.
func WithTag(repository, tag string) (Reference, error) {
	return checked(Reference{repository: repository, tag: tag})
}

// WithDigest returns the reference to a manifest or a config of the repository
// at a path, "" for the default one. The error wraps ErrInvalid.
func WithDigest(repository string, d digest.Digest) (Reference, error) {
	return checked(Reference{repository: repository, digest: d})
}

func checked(r Reference) (Reference, error) {
	if err := r.validate(); err != nil {
		return Reference{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return r, nil
}

func (r Reference) validate() error {
	switch {
	case strings.ContainsAny(r.repository, "]\x00"):
		return fmt.Errorf("the repository's path %q has a ] or a NUL byte in it", r.repository)
	case r.digest != "":
		if err := r.digest.Validate(); err != nil {
			return fmt.Errorf("digest %.200q: %w", r.digest, err)
		}
		return nil
	case r.tag == "":
		return errors.New("it names no image")
	case strings.HasPrefix(r.tag, "@"):
		return fmt.Errorf("tag %q starts with @, which introduces a digest", r.tag)
	case strings.HasPrefix(r.tag, "[") && r.repository == "":
		return fmt.Errorf("tag %q starts with [, and no repository's path stands before it", r.tag)
	case strings.IndexByte(r.tag, 0) >= 0:
		return fmt.Errorf("tag %q has a NUL byte in it", r.tag)
	}
	return nil
}

// Repository returns the repository's path as it was given, "" for the default
// one.
func (r Reference) Repository() string { return r.repository }

// Tag returns the tag as it was given, "" where the reference is a digest.
func (r Reference) Tag() string { return r.tag }

// Digest returns the digest, "" where the reference is a tag.
func (r Reference) Digest() digest.Digest { return r.digest }

// Name returns the reference without the repository: TAG or @DIGEST.
func (r Reference) Name() string {
	if r.digest != "" {
		return "@" + r.digest.String()
	}
	return r.tag
}

// String returns the text that Parse returns the same reference for.
func (r Reference) String() string {
	if r.repository != "" {
		return "[" + r.repository + "]" + r.Name()
	}
	return r.Name()
}
