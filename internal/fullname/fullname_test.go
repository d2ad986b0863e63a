package fullname

import (
	"path"
	"strings"
	"testing"

	"github.com/distribution/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var digest = "sha256:" + strings.Repeat("0", 64)

func TestNamesAsTheManualHasThem(t *testing.T) {
	for tag, want := range map[string][3]string{ // in a registry, there scoped, and whole
		"registry.example/org/app:1":  {"app:1", "registry.example/org/app:1", "registry.example/org/app:1"},
		"hello":                       {"hello:latest", "localhost/hello:latest", "localhost/hello:latest"},
		"hello:1":                     {"hello:1", "localhost/hello:1", "localhost/hello:1"},
		"org/app:1":                   {"app:1", "localhost/org/app:1", "localhost/org/app:1"},
		"localhost/app":               {"app:latest", "localhost/app:latest", "localhost/app:latest"},
		"localhost:5000/app:1":        {"app:1", "localhost-5000/app:1", "localhost:5000/app:1"},
		"[::1]:5000/app:1":            {"app:1", "1-5000/app:1", "[::1]:5000/app:1"},
		"Registry.Example/app:1":      {"app:1", "registry.example/app:1", "Registry.Example/app:1"},
		"docker.io/busybox:1":         {"busybox:1", "docker.io/library/busybox:1", "docker.io/library/busybox:1"},
		"localhost/bootc-" + digest:   {"bootc-" + digest, "localhost/bootc-" + digest, "localhost/bootc-" + digest},
		"quay.io/org/app:1@" + digest: {"app:1", "quay.io/org/app:1", "quay.io/org/app:1"},
		"quay.io/org/app:" + digest[len(digest)-64:]: {"app:" + digest[len(digest)-64:], "quay.io/org/app:" + digest[len(digest)-64:], "quay.io/org/app:" + digest[len(digest)-64:]},
	} {
		name, err := Parse(tag)
		require.NoError(t, err, tag)
		assert.Equal(t, want, [3]string{name.Last(), name.Below(), name.String()}, tag)
	}
}

// hostile are tags that a repository can have, and no image elsewhere.
var hostile = []string{
	"../../../etc/evil", "a/../../b", "/etc/passwd", "a//b", "a/..", "..:1", "\x1b[31mred", "two words", "line\nbreak", "localhost/Capitals",
	"[bracket]", "quay.io/org/app@" + digest, "quay.io/org/app:" + strings.Repeat("x", 129), "quay.io/org/app:", ":1", "~/x", "%2F", "\xff\xfe", "",
}

func TestTagsThatAreNoNamesAreRefused(t *testing.T) {
	for _, tag := range hostile {
		_, err := Parse(tag)
		assert.ErrorIs(t, err, ErrInvalid, "%q", tag)
	}
}

func TestSuffixes(t *testing.T) {
	name, err := Parse("quay.io/org/app:1")
	require.NoError(t, err)
	for suffix, want := range map[string]string{"": "quay.io/org/app:1", "-new": "quay.io/org/app:1-new", "_.": "quay.io/org/app:1_."} {
		with, err := name.WithSuffix(suffix)
		require.NoError(t, err)
		assert.Equal(t, want, with.String())
	}
	for _, suffix := range []string{"/x", "/x:1", ":1", "@" + digest, " ", "\n", strings.Repeat("x", 128)} {
		_, err := name.WithSuffix(suffix)
		assert.ErrorIs(t, err, ErrInvalid, "%q", suffix)
	}
}

// What can be named stays below the place where it is put.
func FuzzParse(f *testing.F) {
	for _, tag := range append(hostile, "quay.io/org/app:1", "hello", "localhost:5000/app", "[::1]:5000/x:y", "..com/x", "-.-:1/x", "A.b/x@"+digest) {
		f.Add(tag)
	}
	f.Fuzz(func(t *testing.T, tag string) {
		name, err := Parse(tag)
		if err != nil {
			assert.ErrorIs(t, err, ErrInvalid)
			return
		}
		again, err := Parse(name.String())
		require.NoError(t, err)
		assert.Equal(t, name, again)
		for _, below := range []string{name.Last(), name.Below()} {
			assert.Equal(t, below, path.Clean(below))
			for part := range strings.SplitSeq(below, "/") {
				assert.False(t, part == "" || strings.HasPrefix(part, "."), below)
			}
			assert.Empty(t, strings.Trim(below, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:-"), below)
		}
		named, err := reference.ParseNormalizedNamed("mirror.example/" + name.Last())
		if assert.NoError(t, err) {
			assert.Equal(t, "mirror.example/"+name.Last(), named.String())
		}
	})
}
