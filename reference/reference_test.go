package reference_test

import (
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/reference"
)

const hex = "c0a62f56137b0a5aa908d520815a8218ec58472826badadbddd45dfc24fddc3e"

func TestParse(t *testing.T) {
	for text, want := range map[string]struct {
		repository, tag, digest, deployment string
	}{
		"hello":                            {tag: "hello"},
		"localhost/hello:latest":           {tag: "localhost/hello:latest"},
		"localhost:5000/a/b/c:latest":      {tag: "localhost:5000/a/b/c:latest"},
		"100%/odd name":                    {tag: "100%/odd name"},
		"localhost/bootc-sha256:" + hex:    {tag: "localhost/bootc-sha256:" + hex},
		"quay.io/org/app@sha256:" + hex:    {tag: "quay.io/org/app@sha256:" + hex},
		"a]b":                              {tag: "a]b"},
		"\xff\n":                           {tag: "\xff\n"},
		"@sha256:" + hex:                   {digest: "sha256:" + hex},
		"[/srv/repo]hello":                 {repository: "/srv/repo", tag: "hello"},
		"[/srv/a b]localhost/hello:latest": {repository: "/srv/a b", tag: "localhost/hello:latest"},
		"[repo]@sha256:" + hex:             {repository: "repo", digest: "sha256:" + hex},
		"[/srv/repo][odd]name":             {repository: "/srv/repo", tag: "[odd]name"},
		"[[]x":                             {repository: "[", tag: "x"},
		"@booted":                          {deployment: "booted"},
		"[/sysroot/composefs]@staged":      {repository: "/sysroot/composefs", deployment: "staged"},
		"@rollback":                        {deployment: "rollback"},
		"@0123456789ab":                    {deployment: "0123456789ab"},
		"[r]@" + hex + hex:                 {repository: "r", deployment: hex + hex},
		"booted":                           {tag: "booted"},
	} {
		t.Run(text, func(t *testing.T) {
			r, err := reference.Parse(text)
			require.NoError(t, err)
			assert.Equal(t, want.repository, r.Repository())
			assert.Equal(t, want.tag, r.Tag())
			assert.Equal(t, want.digest, r.Digest().String())
			assert.Equal(t, want.deployment, r.Deployment())
			assert.Equal(t, text, r.String())
			again, err := reference.Parse(r.String())
			require.NoError(t, err)
			assert.True(t, r == again)
		})
	}
}

func TestParseRefusesWhatIsNoReference(t *testing.T) {
	for text, why := range map[string]string{
		"":                       "names no image",
		"[/srv/repo]":            "names no image",
		"[/srv/repo":             "no closing ]",
		"[]hello":                "no repository path in the brackets",
		"[/srv/a:b]hello":        "colon",
		"[:]@sha256:" + hex:      "colon",
		"[a:b]@booted":           "colon",
		"@":                      "neither a digest",
		"@sha256:00":             "neither a digest",
		"@sha256:" + hex + "00":  "neither a digest",
		"@SHA256:" + hex:         "neither a digest",
		"@md5:" + hex[:32]:       "neither a digest",
		"[/srv/repo]@latest":     "neither a digest",
		"a\x00b":                 "NUL",
		"[/srv\x00/repo]hello":   "NUL",
		"[/srv/repo]@sha256:../": "neither a digest",
		"@0123456789a":           "12 or more digits",
		"@0123456789AB":          "12 or more digits",
		"@" + hex + hex + "0":    "neither a digest",
		"@other":                 "nor a deployment",
		"@booted ":               "neither a digest",
	} {
		t.Run(text, func(t *testing.T) {
			_, err := reference.Parse(text)
			require.ErrorIs(t, err, reference.ErrInvalid)
			assert.ErrorContains(t, err, why)
		})
	}
}

func TestConstructorsRefuseWhatCouldNotBeParsed(t *testing.T) {
	for name, construct := range map[string]func() (reference.Reference, error){
		"] in the path":    func() (reference.Reference, error) { return reference.WithTag("/srv/a]b", "hello") },
		": in the path":    func() (reference.Reference, error) { return reference.WithTag("/srv/a:b", "hello") },
		": and a digest":   func() (reference.Reference, error) { return reference.WithDigest("/srv/a:b", "sha256:"+hex) },
		": and an ID":      func() (reference.Reference, error) { return reference.WithDeployment("/srv/a:b", hex) },
		"@ at the start":   func() (reference.Reference, error) { return reference.WithTag("/srv/repo", "@hello") },
		"[ at the start":   func() (reference.Reference, error) { return reference.WithTag("", "[hello") },
		"no tag":           func() (reference.Reference, error) { return reference.WithTag("/srv/repo", "") },
		"neither a digest": func() (reference.Reference, error) { return reference.WithDigest("/srv/repo", "") },
		"a wrong digest":   func() (reference.Reference, error) { return reference.WithDigest("", "sha256:00") },
		"no deployment":    func() (reference.Reference, error) { return reference.WithDeployment("", "other") },
		"a short ID":       func() (reference.Reference, error) { return reference.WithDeployment("", "0123") },
		"an ID and a ]":    func() (reference.Reference, error) { return reference.WithDeployment("/srv/a]b", hex) },
		"not even a text":  func() (reference.Reference, error) { return reference.WithDigest("", "\x00") },
	} {
		t.Run(name, func(t *testing.T) {
			_, err := construct()
			assert.ErrorIs(t, err, reference.ErrInvalid)
		})
	}
	r, err := reference.WithDigest("/srv/repo", digest.Digest("sha256:"+hex))
	require.NoError(t, err)
	assert.Equal(t, "[/srv/repo]@sha256:"+hex, r.String())
}

func TestFind(t *testing.T) {
	tags := []string{
		"100%/odd name", "docker.io/library/debian:12", "localhost/hello:latest", "localhost/twice:latest",
		"localhost:5000/a/b/c:latest", "plain", "quay.io/org/app:1.0", "quay.io/org/app:2.0", "quay.io/org/twice:latest",
	}
	for name, want := range map[string]string{
		"localhost/hello:latest":      "localhost/hello:latest",
		"localhost/hello":             "localhost/hello:latest",
		"hello:latest":                "localhost/hello:latest",
		"hello":                       "localhost/hello:latest",
		"plain":                       "plain",
		"plain:latest":                "plain",
		"app:1.0":                     "quay.io/org/app:1.0",
		"org/app:2.0":                 "quay.io/org/app:2.0",
		"c":                           "localhost:5000/a/b/c:latest",
		"localhost:5000/a/b/c":        "localhost:5000/a/b/c:latest",
		"100%/odd name":               "100%/odd name",
		"debian:12":                   "docker.io/library/debian:12",
		"docker.io/debian:12":         "docker.io/library/debian:12",
		"localhost/twice":             "localhost/twice:latest",
		"docker.io/library/debian:12": "docker.io/library/debian:12",
	} {
		t.Run(name, func(t *testing.T) {
			tag, err := reference.Find(name, tags)
			require.NoError(t, err)
			assert.Equal(t, want, tag)
		})
	}
	for _, name := range []string{"app", "ello", "hello:1", "lo:latest", "latest", "/hello", "app:", "debian"} {
		t.Run("not "+name, func(t *testing.T) {
			_, err := reference.Find(name, tags)
			assert.ErrorIs(t, err, reference.ErrUnknownTag)
		})
	}
}

func TestFindListsWhatFits(t *testing.T) {
	_, err := reference.Find("twice", []string{"localhost/twice:latest", "quay.io/org/twice:latest", "other"})
	require.ErrorIs(t, err, reference.ErrAmbiguous)
	assert.ErrorContains(t, err, `"localhost/twice:latest", "quay.io/org/twice:latest"`)
	assert.NotContains(t, err.Error(), "other")
}

func TestFindListsWhatIsNear(t *testing.T) {
	tags := []string{"localhost/hello:latest", "localhost/kinds:latest", "quay.io/org/app:1.0"}
	for name, near := range map[string]string{
		"helo":                   "localhost/hello:latest",
		"localhost/hallo:latest": "localhost/hello:latest",
		"app:1.1":                "quay.io/org/app:1.0",
	} {
		_, err := reference.Find(name, tags)
		require.ErrorIs(t, err, reference.ErrUnknownTag)
		assert.ErrorContains(t, err, near)
		assert.NotContains(t, err.Error(), "kinds")
	}
	_, err := reference.Find("nothing-like-it", tags)
	assert.NotContains(t, err.Error(), "hello")
	_, err = reference.Find("hello", nil)
	assert.ErrorContains(t, err, "it has no tags")
	_, err = reference.Find(strings.Repeat("x", 1<<20), tags)
	assert.ErrorIs(t, err, reference.ErrUnknownTag)
}

// What parses is printed as what parses to the same, whatever the text.
func FuzzParse(f *testing.F) {
	for _, text := range []string{"hello", "[/srv/repo]hello:latest", "@sha256:" + hex, "[/a]@sha256:" + hex, "[", "[]", "[x]", "[/a][b]c", "100%/odd name", "@booted", "[/a]@0123456789ab"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := reference.Parse(text)
		if err != nil {
			if (r != reference.Reference{}) {
				t.Errorf("%q: a reference and an error", text)
			}
			return
		}
		if r.String() != text {
			t.Errorf("%q is printed as %q", text, r.String())
		}
		again, err := reference.Parse(r.String())
		if err != nil || again != r {
			t.Errorf("%q parses to %v, %v instead of %v", r.String(), again, err, r)
		}
		_, _ = reference.Find(text, []string{text, "localhost/" + text + ":latest"})
	})
}
