// Package reference parses and prints references of the transport composefs:, without
// the transport's name. They are
//
//	composefs:[/path/to/repository]NAME
//	composefs:NAME
//
// NAME is a tag of the repository, in full or shortened; @DIGEST, the digest of a
// manifest or of a config; or on a bootc host @booted, @staged, @rollback or @ID, the
// first digits of a deployment's ID. Without a path, the repository is the user's
// default one, and for deployments the host's. docs/reference.md describes how names
// are resolved.
package reference

import (
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
)

var (
	// ErrInvalid: the text is no reference.
	ErrInvalid = errors.New("invalid composefs reference")
	// ErrColon: the path of the repository has a colon. In policies a colon ends the
	// path and a name follows, so that one image could be taken for another's.
	ErrColon = errors.New("the path of a repository can't have a colon, which ends the path in trust policies")
)

// Reference names an image of a repository: by a tag, by a digest or by a
// deployment, one of which it has. References are values, comparable with ==; those that Parse and
// the constructors return are valid.
type Reference struct {
	repository string
	tag        string
	digest     digest.Digest
	deployment string
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
			return Reference{}, errors.New("the repository's path has no closing ]")
		}
		if repository == "" {
			return Reference{}, errors.New("there is no repository path in the brackets")
		}
	}
	r := Reference{repository: repository}
	if text, ok := strings.CutPrefix(name, "@"); ok {
		if isDeployment(text) {
			r.deployment = text
			return r, r.validate()
		}
		d, err := digest.Parse(text)
		if err != nil {
			return Reference{}, fmt.Errorf("%q is neither a digest (%w) nor a deployment: booted, staged, rollback, or %d or more digits of an ID", text, err, minID)
		}
		r.digest = d
	} else {
		r.tag = name
	}
	return r, r.validate()
}

// WithTag returns the reference to a tag of the repository at a path, "" for
// the default one. The error wraps ErrInvalid, for what String could not spell:
// a ] in the path, or a colon (ErrColon), a tag that starts with @ or, without a path, with [.
func WithTag(repository, tag string) (Reference, error) {
	return checked(Reference{repository: repository, tag: tag})
}

// WithDigest returns the reference to a manifest or a config of the repository
// at a path, "" for the default one. The error wraps ErrInvalid.
func WithDigest(repository string, d digest.Digest) (Reference, error) {
	return checked(Reference{repository: repository, digest: d})
}

// WithDeployment returns the reference to a deployment of the host that has the
// repository at a path, "" for the default one: booted, staged, rollback, or the
// beginning of an ID, 12 hex digits at least. The error wraps ErrInvalid.
func WithDeployment(repository, deployment string) (Reference, error) {
	if !isDeployment(deployment) {
		return Reference{}, fmt.Errorf("%w: deployment %.200q", ErrInvalid, deployment)
	}
	return checked(Reference{repository: repository, deployment: deployment})
}

// How many hex digits an ID may be shortened to, and how many one has.
const (
	minID = 12
	maxID = 128
)

// isDeployment tells whether what stands behind an @ is a deployment. A digest
// has a colon, which none of these has.
func isDeployment(text string) bool {
	switch text {
	case "booted", "staged", "rollback":
		return true
	}
	return len(text) >= minID && len(text) <= maxID && strings.Trim(text, "0123456789abcdef") == ""
}

func checked(r Reference) (Reference, error) {
	if err := r.validate(); err != nil {
		return Reference{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return r, nil
}

func (r Reference) validate() error {
	switch {
	case strings.Contains(r.repository, ":"):
		return fmt.Errorf("%w: %q", ErrColon, r.repository)
	case strings.ContainsAny(r.repository, "]\x00"):
		return fmt.Errorf("the repository's path %q has a ] or a NUL byte in it", r.repository)
	case r.digest != "":
		if err := r.digest.Validate(); err != nil {
			return fmt.Errorf("digest %.200q: %w", r.digest, err)
		}
		return nil
	case r.deployment != "":
		return nil
	case r.tag == "":
		return errors.New("it names no image")
	case strings.HasPrefix(r.tag, "@"):
		return fmt.Errorf("tag %q starts with @, which introduces a digest", r.tag)
	case strings.HasPrefix(r.tag, "[") && r.repository == "":
		return fmt.Errorf("tag %q starts with [, so it needs the repository's path before it", r.tag)
	case strings.IndexByte(r.tag, 0) >= 0:
		return fmt.Errorf("tag %q has a NUL byte in it", r.tag)
	}
	return nil
}

// Repository returns the repository's path as it was given, "" for the default
// one.
func (r Reference) Repository() string { return r.repository }

// Tag returns the tag as it was given, "" where the reference is of another kind.
func (r Reference) Tag() string { return r.tag }

// Digest returns the digest, "" where the reference is of another kind.
func (r Reference) Digest() digest.Digest { return r.digest }

// Deployment returns booted, staged, rollback or the beginning of an ID, "" where
// the reference is of another kind.
func (r Reference) Deployment() string { return r.deployment }

// Name returns the reference without the repository: TAG, @DIGEST or
// @DEPLOYMENT.
func (r Reference) Name() string {
	switch {
	case r.digest != "":
		return "@" + r.digest.String()
	case r.deployment != "":
		return "@" + r.deployment
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
