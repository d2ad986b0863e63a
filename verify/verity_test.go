package verify_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/repomaker"
	"github.com/skopeo-cfs/skopeo-cfs/internal/verity"
	"github.com/skopeo-cfs/skopeo-cfs/verify"
)

// Objects with fs-verity are measured by the kernel.
func TestMeasuredObjects(t *testing.T) {
	a := fsverity.SHA512
	m := newMade(t, a, repomaker.Options{})
	objects := verity.EnableObjects(t, m.Path(), a)
	report := check(t, m.Path(), nil)
	assert.Empty(t, report.Damages)
	assert.EqualValues(t, len(objects), report.Measured)
	assert.EqualValues(t, len(objects), report.Objects)

	// A file in another's place measures as what it is.
	first, second := m.objectOf(t, a, tool), m.objectOf(t, a, data)
	require.NoError(t, os.Remove(first))
	require.NoError(t, os.Link(second, first))
	report = check(t, m.Path(), nil)
	require.Len(t, report.Damages, 1)
	assert.Equal(t, verify.ObjectSwapped, report.Damages[0].Kind)
	assert.Equal(t, m.rel(first), report.Damages[0].Path)
}

// Where the repository demands fs-verity, an object without it is damaged, and what
// the report says mends it.
func TestObjectsWithoutVerity(t *testing.T) {
	a := fsverity.SHA512
	m := newMade(t, a, repomaker.Options{})
	verity.EnableObjects(t, m.Path(), a)
	verity.Enable(t, filepath.Join(m.Path(), "meta.json"), a)
	assert.Empty(t, check(t, m.Path(), nil).Damages)

	path := m.objectOf(t, a, data)
	require.NoError(t, os.Remove(path))
	write(t, path, data)
	report := check(t, m.Path(), nil)
	require.Len(t, report.Damages, 1)
	assert.Equal(t, verify.ObjectVerity, report.Damages[0].Kind)
	assert.Equal(t, []verify.Place{{Part: "layer", Name: m.app.Layers[1].Digest.String(), Images: []string{appTag}, Paths: []string{"/opt/data"}}}, report.Damages[0].Places)
	assert.Contains(t, report.Damages[0].Advice, "fsverity enable --hash-alg=sha512 --block-size=4096 "+path)
	verity.Enable(t, path, a)
	assert.Empty(t, check(t, m.Path(), nil).Damages)
}
