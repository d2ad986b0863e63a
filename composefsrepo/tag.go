package composefsrepo

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// Where the tags are: each a symlink to a manifest's stream, two levels up.
const tagDir = streamDir + "/refs/oci"

var (
	tagEncoder = strings.NewReplacer("%", "%25", "/", "%2F")
	tagDecoder = strings.NewReplacer("%25", "%", "%2F", "/")
)

// encodeTag returns the file name of a tag, or an error if there can be none.
func encodeTag(tag string) (string, error) {
	name := tagEncoder.Replace(tag)
	switch {
	case tag == "", tag == ".", tag == "..":
		return "", fmt.Errorf("%q is not a tag", tag)
	case strings.HasPrefix(tag, "@"):
		return "", fmt.Errorf("%q is not a tag: it starts with @, which introduces a digest", tag)
	case strings.IndexByte(tag, 0) >= 0:
		return "", fmt.Errorf("%q is not a tag: it has a NUL byte", tag)
	case len(name) > unix.NAME_MAX:
		return "", fmt.Errorf("%.60q… is not a tag: it takes %d bytes as a file name, %d at most", tag, len(name), unix.NAME_MAX)
	}
	return name, nil
}

// decodeTag returns the tag of a file name. Names that encodeTag would not
// give are no tags.
func decodeTag(name string) (tag string, ok bool) {
	tag = tagDecoder.Replace(name)
	encoded, err := encodeTag(tag)
	return tag, err == nil && encoded == name
}

// Tags returns the repository's tags, sorted. They may have any byte but NUL in
// them.
func (r *Repo) Tags() ([]string, error) {
	names, err := r.names(tagDir)
	if err != nil {
		return nil, fmt.Errorf("listing the tags of %s: %w", r.path, err)
	}
	tags := []string{}
	for _, name := range names {
		if tag, ok := decodeTag(name); ok {
			tags = append(tags, tag)
		}
	}
	slices.Sort(tags)
	return tags, nil
}

// Resolve returns the digest of the manifest that a tag stands for; whether the
// repository has that manifest was not looked at. The error wraps ErrNotFound
// where there is no such tag, ErrIndex where it stands for a list of manifests,
// ErrBadLink where it points to anything but a manifest of the repository.
func (r *Repo) Resolve(tag string) (digest.Digest, error) {
	d, err := r.resolve(tag)
	if err != nil {
		return "", fmt.Errorf("tag %q: %w", tag, err)
	}
	return d, nil
}

func (r *Repo) resolve(tag string) (digest.Digest, error) {
	name, err := encodeTag(tag)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	target, err := r.readLink(tagDir, name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", ErrNotFound
	case errors.Is(err, unix.EINVAL):
		return "", fmt.Errorf("%w: it is not a symlink", ErrBadLink)
	case err != nil:
		return "", err
	}
	if d, ok := tagged(target, manifestPrefix); ok {
		return d, nil
	}
	if _, ok := tagged(target, indexPrefix); ok {
		return "", ErrIndex
	}
	return "", fmt.Errorf("%w: %q is not a manifest of this repository", ErrBadLink, target)
}

// tagged returns the digest of the stream that a tag's symlink points to, if it is
// of the kind that has the prefix. It looks at the path only: nothing but the place
// of the directory with the tags is relied on.
func tagged(target, prefix string) (digest.Digest, bool) {
	text, ok := strings.CutPrefix(path.Join(tagDir, target), streamDir+"/"+prefix)
	d, err := digest.Parse(text)
	return d, ok && err == nil && !path.IsAbs(target)
}
