package transport_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containers/image/v5/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/bootc"
	"github.com/skopeo-cfs/skopeo-cfs/internal/bootchost"
	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
	"github.com/skopeo-cfs/skopeo-cfs/internal/needs"
	"github.com/skopeo-cfs/skopeo-cfs/internal/notice"
	"github.com/skopeo-cfs/skopeo-cfs/reference"
	"github.com/skopeo-cfs/skopeo-cfs/source"
	"github.com/skopeo-cfs/skopeo-cfs/transport"
)

// system is the running system of a host that was laid out.
func system(h *bootchost.Host) *types.SystemContext {
	return &types.SystemContext{RootForImplicitAbsolutePaths: h.Root}
}

// openOn opens an image on a host.
func openOn(t *testing.T, h *bootchost.Host, text string) (*source.Source, error) {
	t.Helper()
	src, err := parse(t, text).NewImageSource(t.Context(), system(h))
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { require.NoError(t, src.Close()) })
	return src.(*source.Source), nil
}

func newHost(t *testing.T, deployments ...bootchost.Deployment) *bootchost.Host {
	t.Helper()
	if len(deployments) == 0 {
		deployments = []bootchost.Deployment{
			{Layout: "hello", Name: "quay.io/org/os:42"}, {Layout: "kinds", Name: "quay.io/org/os:42"},
			{Layout: "sizes", Name: "quay.io/org/os:41", Form: "ostree-unverified-image:containers-storage:%s"}, {Layout: "many", Name: "quay.io/org/older:1"},
		}
	}
	h := bootchost.New(t, "sha512", deployments...)
	h.Boot(t, 0)
	if len(deployments) > 2 {
		h.Stage(t, 1, false)
		h.Menu(t, 0, 2)
	}
	return h
}

func TestDeploymentsAreNamed(t *testing.T) {
	needs.Root(t) // the default repository is another one without
	h := newHost(t)
	for text, i := range map[string]int{
		"@booted": 0, "@staged": 1, "@rollback": 2,
		"@" + h.IDs[0]: 0, "@" + h.IDs[3][:12]: 3,
		"[" + h.Repository + "]@booted": 0, "[" + h.Repository + "]@" + h.IDs[1]: 1,
		"quay.io/org/os:42": 0, "os:42": 0, "[" + h.Repository + "]quay.io/org/os:41": 2, "os:41": 2, "quay.io/org/older:1": 3,
	} {
		t.Run(text, func(t *testing.T) {
			src, err := openOn(t, h, text)
			require.NoError(t, err)
			assert.Equal(t, h.Images[i].Config, src.Image().ConfigDescriptor.Digest)
			assert.Equal(t, h.Images[i].Manifest, src.Image().ManifestDigest)
			assert.Equal(t, "["+h.Repository+"]@"+h.Images[i].Manifest.String(), src.Reference().StringWithinTransport())
		})
	}
}

// A tag comes before the image of a deployment.
func TestTagBeforeDeployment(t *testing.T) {
	needs.Root(t) // the default repository is another one without
	h := newHost(t, bootchost.Deployment{Layout: "kinds", Name: "quay.io/org/app:1.0"}, bootchost.Deployment{Layout: "sizes"})
	src, err := openOn(t, h, "quay.io/org/app:1.0")
	require.NoError(t, err)
	assert.Equal(t, fixtures.Expected(t)["hello"].Manifest, src.Image().ManifestDigest)
	assert.Equal(t, "quay.io/org/app:1.0", src.Reference().DockerReference().String())
}

func TestOneOfSeveralIsSaid(t *testing.T) {
	needs.Root(t) // the default repository is another one without
	h := newHost(t)
	var log strings.Builder
	notice.Handle(func(text string) { log.WriteString(text) })
	t.Cleanup(func() { notice.Handle(func(string) {}) })
	_, err := openOn(t, h, "quay.io/org/os:41")
	require.NoError(t, err)
	assert.Empty(t, log.String())
	_, err = openOn(t, h, "quay.io/org/os:42")
	require.NoError(t, err)
	assert.Contains(t, log.String(), h.IDs[0])
	assert.NotContains(t, log.String(), h.IDs[1])
}

// A scope on the name of an image can't be evaded by naming its deployment.
func TestPolicyHoldsForDeployments(t *testing.T) {
	h := newHost(t)
	h.Tag(t, 0)
	repository := "[" + h.Repository + "]"
	names := []string{repository + "@" + h.IDs[0], repository + "@" + h.IDs[0][:20], repository + bootc.TagOf(h.Images[0].Manifest), repository + "quay.io/org/older:1"}
	for name, test := range map[string]struct {
		scope              string
		allowed, forbidden []string
	}{
		"bootc's tag":    {h.Repository + ":" + bootc.TagOf(h.Images[0].Manifest), names[3:], names[:3]},
		"the digest":     {h.Repository + ":@" + h.Images[3].Manifest.String(), names[:3], names[3:]},
		"the repository": {h.Repository, nil, names},
	} {
		t.Run(name, func(t *testing.T) {
			policy := policyWith(t, test.scope, "reject", "insecureAcceptAnything")
			for _, text := range test.allowed {
				assert.True(t, isAllowed(t, policy, text), text)
			}
			for _, text := range test.forbidden {
				assert.False(t, isAllowed(t, policy, text), text)
			}
		})
	}
	for _, name := range []string{"@booted", "@rollback", "@" + h.IDs[0]} {
		err := transport.Transport.ValidatePolicyConfigurationScope("/sysroot/composefs:" + name)
		assert.ErrorContains(t, err, "localhost/bootc-sha256:", name)
	}
}

func TestResolvedReferenceOfADeploymentOpensItsImage(t *testing.T) {
	for name, test := range map[string]struct {
		record  bootchost.Record
		prepare func(h *bootchost.Host)
		want    func(h *bootchost.Host) string
	}{
		"bootc's tag":  {bootchost.ManifestDigest, func(h *bootchost.Host) { h.Tag(t, 0) }, func(h *bootchost.Host) string { return bootc.TagOf(h.Images[0].Manifest) }},
		"a manifest":   {bootchost.ManifestDigest, func(*bootchost.Host) {}, func(h *bootchost.Host) string { return "@" + h.Images[0].Manifest.String() }},
		"EROFS image":  {bootchost.Nothing, func(*bootchost.Host) {}, func(h *bootchost.Host) string { return "@" + h.Images[0].Manifest.String() }},
		"no manifests": {bootchost.ImageInfo, func(h *bootchost.Host) { h.RemoveManifests(t) }, func(h *bootchost.Host) string { return "@" + h.Images[0].Config.String() }},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, bootchost.Deployment{Layout: "hello", Record: test.record}, bootchost.Deployment{Layout: "kinds"})
			test.prepare(h)
			src, err := openOn(t, h, "@booted")
			require.NoError(t, err)
			text := src.Reference().StringWithinTransport()
			assert.Equal(t, "["+h.Repository+"]"+test.want(h), text)
			again, err := openOn(t, h, text)
			require.NoError(t, err)
			assert.Equal(t, h.Images[0].Config, again.Image().ConfigDescriptor.Digest)
		})
	}
}

func TestErrorsOfDeployments(t *testing.T) {
	needs.Root(t) // the default repository is another one without
	h := newHost(t)
	h.Collect(t, 3)
	bare := fixtures.Unpack(t, "sha512")
	for text, test := range map[string]struct {
		want error
		text string
	}{
		"@000000000000":            {bootc.ErrNotFound, "@" + h.IDs[0][:12]},
		"@" + h.IDs[3]:             {bootc.ErrImageGone, "garbage"},
		"[" + bare + "]@booted":    {bootc.ErrNotBootc, filepath.Dir(bare)},
		"[" + bare + "]os:42":      {reference.ErrUnknownTag, "os:42"},
		"quay.io/org/nothing:like": {reference.ErrUnknownTag, "quay.io/org/older:1"},
	} {
		_, err := openOn(t, h, text)
		require.Error(t, err, text)
		assert.ErrorIs(t, err, test.want)
		assert.ErrorContains(t, err, test.text)
	}
	empty := &bootchost.Host{Root: t.TempDir()}
	_, err := openOn(t, empty, "@booted")
	assert.ErrorIs(t, err, bootc.ErrNotBootc)
	require.NoError(t, os.MkdirAll(filepath.Join(empty.Root, "sysroot/ostree/repo"), 0o755))
	_, err = openOn(t, empty, "@booted")
	assert.ErrorIs(t, err, bootc.ErrOSTree)
}

// Without the repository of the running system beside it, a host has nothing
// booted.
func TestHostBesideAnotherRepository(t *testing.T) {
	h := newHost(t)
	other := newHost(t)
	_, err := openOn(t, other, "["+h.Repository+"]@booted")
	assert.ErrorIs(t, err, bootc.ErrNotFound)
	src, err := openOn(t, other, "["+h.Repository+"]@"+h.IDs[2])
	require.NoError(t, err)
	assert.Equal(t, h.Images[2].Manifest, src.Image().ManifestDigest)
}
