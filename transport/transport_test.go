package transport_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/containers/image/v5/image"
	"github.com/containers/image/v5/signature"
	"github.com/containers/image/v5/transports"
	"github.com/containers/image/v5/transports/alltransports"
	"github.com/containers/image/v5/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
	"github.com/skopeo-cfs/skopeo-cfs/reference"
	"github.com/skopeo-cfs/skopeo-cfs/transport"
)

func parse(t *testing.T, text string) types.ImageReference {
	t.Helper()
	ref, err := alltransports.ParseImageName("composefs:" + text)
	require.NoError(t, err)
	return ref
}

func openSource(t *testing.T, text string) types.ImageSource {
	t.Helper()
	src, err := parse(t, text).NewImageSource(t.Context(), nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, src.Close()) })
	return src
}

func TestTransportIsRegistered(t *testing.T) {
	assert.Equal(t, transport.Transport, transports.Get("composefs"))
	_, err := alltransports.ParseImageName("composefs:[/srv/repo")
	assert.ErrorIs(t, err, reference.ErrInvalid)
}

func TestReferencesRoundTrip(t *testing.T) {
	for _, text := range []string{
		"hello", "[/srv/repo]quay.io/org/app:1.0", "[/srv/repo]100%/odd name",
		"@sha256:c0a62f56137b0a5aa908d520815a8218ec58472826badadbddd45dfc24fddc3e",
		"@booted", "[/sysroot/composefs]@rollback", "@0123456789ab",
	} {
		ref := parse(t, text)
		again, err := ref.Transport().ParseReference(ref.StringWithinTransport())
		require.NoError(t, err)
		assert.Equal(t, ref, again)
	}
}

func TestDockerReferenceIsTheFullTag(t *testing.T) {
	for text, want := range map[string]string{
		"[/r]localhost/hello:latest":      "localhost/hello:latest",
		"[/r]localhost:5000/a/b/c:latest": "localhost:5000/a/b/c:latest",
		"quay.io/org/app:1.0":             "quay.io/org/app:1.0",
		"[/r]hello":                       "",
		"[/r]quay.io/org/app":             "",
		"[/r]100%/odd name":               "",
		"[/r]plain":                       "",
		"[/r]quay.io/org/app:1.0@sha256:c0a62f56137b0a5aa908d520815a8218ec58472826badadbddd45dfc24fddc3e": "",
		"[/r]@sha256:c0a62f56137b0a5aa908d520815a8218ec58472826badadbddd45dfc24fddc3e":                    "",
	} {
		named := parse(t, text).DockerReference()
		if want == "" {
			assert.Nil(t, named, text)
		} else if assert.NotNil(t, named, text) {
			assert.Equal(t, want, named.String())
		}
	}
}

func TestTransportIsReadOnly(t *testing.T) {
	ref := parse(t, "[/srv/repo]hello")
	_, err := ref.NewImageDestination(t.Context(), nil)
	assert.ErrorIs(t, err, transport.ErrReadOnly)
	assert.ErrorIs(t, ref.DeleteImage(t.Context(), nil), transport.ErrReadOnly)
	assert.ErrorContains(t, err, "read-only")
}

func TestScopesAreJudged(t *testing.T) {
	for scope, good := range map[string]bool{
		"/srv/repo":                            true,
		"/srv":                                 true,
		"/srv/repo:localhost/hello:latest":     true,
		"/srv/repo:100%/odd name":              true,
		"/srv/repo:@sha256:" + helloDigest[7:]: true,
		"/":                                    false,
		"/:hello":                              false,
		"srv/repo":                             false,
		"localhost/hello:latest":               false,
		"/srv/":                                false,
		"/srv/../repo:hello":                   false,
		"/srv/repo:":                           false,
		"/srv/a:b/c":                           true, // the tag b/c of /srv/a
		":/srv/repo":                           false,
		"/srv/repo:@latest":                    false,
		"/srv//repo:localhost/hello:latest@x":  false,
	} {
		err := transport.Transport.ValidatePolicyConfigurationScope(scope)
		assert.Equal(t, good, err == nil, "%s: %v", scope, err)
	}
}

const (
	helloDigest = "sha256:c0a62f56137b0a5aa908d520815a8218ec58472826badadbddd45dfc24fddc3e"
	helloConfig = "sha256:fb2ac53b70d375cdcc5868388ea2dcdb839bcc0d23a7c508cf635b728cdb271c"
)

func TestSourceHasTheResolvedReference(t *testing.T) {
	repo := fixtures.Unpack(t, "sha256")
	link := filepath.Join(t.TempDir(), "link")
	require.NoError(t, os.Symlink(repo, link))
	t.Chdir(filepath.Dir(repo))
	for _, text := range []string{
		"[" + repo + "]localhost/hello:latest", "[" + repo + "]hello", "[" + link + "]localhost/hello",
		"[sha256]hello:latest", "[./sha256/../sha256/]hello",
	} {
		ref := openSource(t, text).Reference()
		assert.Equal(t, "["+repo+"]localhost/hello:latest", ref.StringWithinTransport(), text)
		assert.Equal(t, repo+":localhost/hello:latest", ref.PolicyConfigurationIdentity())
		assert.Equal(t, "localhost/hello:latest", ref.DockerReference().String())
		assert.Equal(t, []string{repo, filepath.Dir(repo)}, ref.PolicyConfigurationNamespaces()[:2])
		assert.NotContains(t, ref.PolicyConfigurationNamespaces(), "/")
	}
	for _, d := range []string{helloDigest, helloConfig} {
		assert.Equal(t, repo+":@"+d, openSource(t, "["+link+"]@"+d).Reference().PolicyConfigurationIdentity())
	}
}

// A colon in a repository's path would make one image's identity that of another:
// /srv/a:b:c is c of /srv/a:b as well as b:c of /srv/a. Such a repository is refused,
// whichever way its path comes about.
func TestPathWithAColonIsRefused(t *testing.T) {
	dir := t.TempDir()
	odd := filepath.Join(dir, "odd:home")
	link := filepath.Join(dir, "link")
	require.NoError(t, os.MkdirAll(filepath.Join(odd, ".var/lib"), 0o755))
	require.NoError(t, os.Rename(fixtures.Unpack(t, "sha256"), filepath.Join(odd, ".var/lib/composefs")))
	require.NoError(t, os.Symlink(filepath.Join(odd, ".var/lib/composefs"), link))
	_, err := transport.ParseReference("[" + odd + "/.var/lib/composefs]hello")
	assert.ErrorIs(t, err, reference.ErrColon)
	assert.ErrorIs(t, err, reference.ErrInvalid)

	t.Chdir(odd)
	t.Setenv("HOME", odd)
	t.Setenv("_CONTAINERS_ROOTLESS_UID", "1000") // another user than root, whose default is elsewhere
	for _, text := range []string{"[" + link + "]hello", "[.var/lib/composefs]hello", "hello", "@" + helloDigest} {
		ref := parse(t, text)
		_, err := ref.NewImageSource(t.Context(), nil)
		assert.ErrorIs(t, err, reference.ErrColon, text)
		assert.ErrorContains(t, err, "odd:home", text)
		assert.Empty(t, ref.PolicyConfigurationIdentity(), text)
		assert.Empty(t, ref.PolicyConfigurationNamespaces(), text)
	}
}

func TestIdentityOfWhatIsNotThereHasItsPath(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	t.Chdir(dir)
	assert.Equal(t, dir+"/a/b:hello", parse(t, "[a/b]hello").PolicyConfigurationIdentity())
	assert.Equal(t, dir+"/a:hello", parse(t, "[a]hello").PolicyConfigurationIdentity())
}

// A policy holds for an image whichever way it is named, as far as names go; an
// image has other names by its digests, which a scope on the repository covers.
func TestPolicyHoldsHoweverTheNameIsTyped(t *testing.T) {
	repo := fixtures.Unpack(t, "sha256")
	link := filepath.Join(t.TempDir(), "link")
	require.NoError(t, os.Symlink(repo, link))
	t.Chdir(filepath.Dir(repo))
	hello := []string{"[" + repo + "]localhost/hello:latest", "[" + repo + "]hello", "[" + link + "]hello:latest", "[sha256]hello"}
	others := []string{"[" + repo + "]kinds", "[" + link + "]plain"}
	for name, test := range map[string]struct {
		scope              string
		allowed, forbidden []string
	}{
		"the tag":             {repo + ":localhost/hello:latest", others, hello},
		"the repository":      {repo, nil, append(hello, others...)},
		"a parent":            {filepath.Dir(repo), nil, append(hello, others...)},
		"what was typed":      {repo + ":hello", append(hello, others...), nil},
		"another repository":  {repo + "2", append(hello, others...), nil},
		"the link, not taken": {link, append(hello, others...), nil},
		"a digest":            {repo + ":@" + helloDigest, hello, []string{"[" + link + "]@" + helloDigest}},
	} {
		t.Run(name, func(t *testing.T) {
			policy := policyWith(t, test.scope, "reject", "insecureAcceptAnything")
			reversed := policyWith(t, test.scope, "insecureAcceptAnything", "reject")
			for _, text := range test.allowed {
				assert.True(t, isAllowed(t, policy, text), text)
				assert.False(t, isAllowed(t, reversed, text), text)
			}
			for _, text := range test.forbidden {
				assert.False(t, isAllowed(t, policy, text), text)
				assert.True(t, isAllowed(t, reversed, text), text)
			}
		})
	}
}

// policyWith returns a policy with one requirement for a composefs scope and
// another for all else, read from JSON as policies are.
func policyWith(t *testing.T, scope, requirement, otherwise string) *signature.PolicyContext {
	t.Helper()
	type requirements []map[string]string
	data, err := json.Marshal(map[string]any{
		"default": requirements{{"type": otherwise}},
		"transports": map[string]any{
			"composefs": map[string]requirements{scope: {{"type": requirement}}},
		},
	})
	require.NoError(t, err)
	policy, err := signature.NewPolicyFromBytes(data)
	require.NoError(t, err)
	context, err := signature.NewPolicyContext(policy)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, context.Destroy()) })
	return context
}

func isAllowed(t *testing.T, policy *signature.PolicyContext, text string) bool {
	t.Helper()
	allowed, _ := policy.IsRunningImageAllowed(t.Context(), image.UnparsedInstance(openSource(t, text), nil))
	return allowed
}

func TestNewImageReadsTheImage(t *testing.T) {
	img, err := parse(t, "["+fixtures.Unpack(t, "old-sha512")+"]hello").NewImage(t.Context(), nil)
	require.NoError(t, err)
	defer img.Close()
	assert.Equal(t, helloConfig, img.ConfigInfo().Digest.String())
	info, err := img.Inspect(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "hello", info.Labels["org.example.fixture"])
}

func TestErrorsSayWhatWasWrong(t *testing.T) {
	repo := fixtures.Unpack(t, "sha256")
	tagDir := filepath.Join(repo, "streams/refs/oci")
	require.NoError(t, os.Symlink("../../oci-manifest-"+helloDigest, filepath.Join(tagDir, "quay.io%2Fx%2Fkinds:latest")))
	for text, test := range map[string]struct {
		want error
		text string
	}{
		"[" + repo + "-not]hello": {os.ErrNotExist, repo + "-not"},
		"[" + repo + "]helo":      {reference.ErrUnknownTag, "localhost/hello:latest"},
		"[" + repo + "]kinds":     {reference.ErrAmbiguous, `"localhost/kinds:latest", "quay.io/x/kinds:latest"`},
		"[" + repo + "]@sha256:0000000000000000000000000000000000000000000000000000000000000000": {composefsrepo.ErrNotFound, "sha256:0000"},
		"[" + tagDir + "]hello": {composefsrepo.ErrNotRepository, tagDir},
	} {
		_, err := parse(t, text).NewImageSource(t.Context(), nil)
		require.Error(t, err, text)
		assert.ErrorIs(t, err, test.want)
		assert.ErrorContains(t, err, test.text)
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := parse(t, "["+repo+"]hello").NewImageSource(canceled, nil)
	assert.ErrorIs(t, err, context.Canceled)
}
