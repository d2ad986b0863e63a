//go:build interop

package verify_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containers/image/v5/copy"
	"github.com/containers/image/v5/oci/layout"
	"github.com/containers/image/v5/signature"
	"github.com/containers/image/v5/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/damaged"
	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
	"github.com/skopeo-cfs/skopeo-cfs/internal/repomaker"
	"github.com/skopeo-cfs/skopeo-cfs/transport"
	"github.com/skopeo-cfs/skopeo-cfs/verify"
)

// The tests in this file run cfsctl, which composefs-rs makes repositories with.

// cfsctl runs cfsctl on a repository and returns what it printed.
func cfsctl(t *testing.T, repo string, args ...string) (string, error) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "cfsctl", append([]string{"--repo", repo}, args...)...).CombinedOutput()
	return string(out), err
}

// fsck tells whether one of cfsctl's checks finds something, and what they print.
func fsck(t *testing.T, repo string) (finds bool, out string) {
	t.Helper()
	whole, wholeErr := cfsctl(t, repo, "fsck")
	images, imagesErr := cfsctl(t, repo, "oci", "fsck")
	return wholeErr != nil || imagesErr != nil, whole + images
}

// What cfsctl finds is found, whatever it is.
func TestInteropFindsWhatCfsctlFinds(t *testing.T) {
	a := fsverity.SHA512
	finds, out := fsck(t, newMade(t, a, repomaker.Options{}).Path())
	require.False(t, finds, out)
	for name, spoil := range damages {
		t.Run(name, func(t *testing.T) {
			if name == "object a fifo" {
				t.Skip("cfsctl would wait for somebody who writes to it")
			}
			m := newMade(t, a, repomaker.Options{})
			spoil(t, m, a)
			finds, out := fsck(t, m.Path())
			t.Logf("cfsctl finds it: %v", finds)
			if finds {
				assert.True(t, check(t, m.Path(), nil).IsDamaged(), "cfsctl says: %s", out)
			}
		})
	}
}

// Files of a repository that an importer wrote are damaged, one at a time.
func TestInteropFixtures(t *testing.T) {
	path := fixtures.Unpack(t, "sha512")
	finds, out := fsck(t, path)
	require.False(t, finds, out)
	for _, pattern := range []string{"streams/oci-manifest-*", "streams/oci-config-*", "streams/oci-layer-*", "images/*"} {
		links, err := filepath.Glob(filepath.Join(path, pattern))
		require.NoError(t, err)
		for i, link := range links[:3] {
			target, err := os.Readlink(link)
			require.NoError(t, err)
			object, err := filepath.EvalSymlinks(link)
			require.NoError(t, err)
			before := read(t, object)
			require.NoError(t, os.Remove(object))
			switch i {
			case 0: // it is missing
			case 1:
				write(t, object, before[:len(before)/2])
			case 2:
				altered := slices.Clone(before)
				altered[len(altered)/3] ^= 4
				write(t, object, altered)
			}
			finds, _ := fsck(t, path)
			assert.True(t, finds)
			assert.True(t, check(t, path, nil).IsDamaged(), link)
			write(t, object, before)

			require.NoError(t, os.Remove(link))
			if finds, out := fsck(t, path); finds {
				assert.True(t, check(t, path, nil).IsDamaged(), out)
			}
			require.NoError(t, os.Symlink(target, link))
		}
	}
	assert.Empty(t, check(t, path, nil).Damages)
}

// What cfsctl does not find.
func TestInteropFindsCutLayers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "repository")
	damaged.Add(t, path, fsverity.SHA512, repomaker.Options{}, "hello", damaged.Cut(t, 0, damaged.BetweenEntries))
	finds, out := fsck(t, path)
	assert.False(t, finds, out)
	assert.True(t, check(t, path, nil).IsDamaged())
}

// export copies an image to an OCI layout.
func export(t *testing.T, m *made, tag string) (dir string) {
	t.Helper()
	policy, err := signature.NewPolicyContext(&signature.Policy{Default: signature.PolicyRequirements{signature.NewPRInsecureAcceptAnything()}})
	require.NoError(t, err)
	defer policy.Destroy()
	src, err := transport.Transport.ParseReference("[" + m.Path() + "]" + tag)
	require.NoError(t, err)
	dir = t.TempDir()
	dest, err := layout.NewReference(dir, "exported")
	require.NoError(t, err)
	_, err = copy.Image(context.Background(), policy, dest, src, &copy.Options{DestinationCtx: &types.SystemContext{OCIAcceptUncompressedLayers: true}})
	require.NoError(t, err)
	return dir
}

// Who does what the report says has a sound repository.
func TestInteropAdviceMends(t *testing.T) {
	for name, spoil := range damages {
		t.Run(name, func(t *testing.T) {
			a := fsverity.SHA512
			m := newMade(t, a, repomaker.Options{})
			// What cfsctl pulls has another manifest, of uncompressed layers.
			pull := map[string]string{appTag: export(t, m, appTag), otherTag: export(t, m, otherTag)}
			require.NoError(t, os.RemoveAll(m.Path()))
			initOut, err := exec.CommandContext(t.Context(), "cfsctl", "init", "--insecure", "--algorithm", a.String(), m.Path()).CombinedOutput()
			require.NoError(t, err, "%s", initOut)
			for tag, dir := range pull {
				out, err := cfsctl(t, m.Path(), "oci", "pull", "oci:"+dir+":exported", tag)
				require.NoError(t, err, out)
			}
			m.reread(t)
			require.Empty(t, check(t, m.Path(), nil).Damages)
			spoil(t, m, a)
			for range 2 { // what is behind a damage may be found when that is gone
				report := check(t, m.Path(), nil)
				t.Log(report.Damages)
				for _, d := range report.Damages {
					for _, path := range d.Remove {
						require.NoError(t, os.RemoveAll(filepath.Join(m.Path(), path)))
					}
				}
				for tag, dir := range pull {
					out, err := cfsctl(t, m.Path(), "oci", "pull", "oci:"+dir+":exported", tag)
					assert.NoError(t, err, out)
				}
			}
			assert.Empty(t, check(t, m.Path(), nil).Damages)
			finds, out := fsck(t, m.Path())
			assert.False(t, finds, out)
		})
	}
}

// The EROFS images of every version are read: what they refer to is found to be there,
// or missing.
func TestInteropEROFSImages(t *testing.T) {
	source := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(source, "usr"), 0o755)) // cfsctl wants it
	var files [][]byte
	for i := range 400 {
		dir := filepath.Join(source, fmt.Sprintf("dir %d/of/%s", i%7, strings.Repeat("a long name ", i%20)))
		require.NoError(t, os.MkdirAll(dir, 0o755))
		files = append(files, content(i, 70+i*i/10))
		write(t, filepath.Join(dir, fmt.Sprint(i)), files[i])
	}
	require.NoError(t, os.Symlink(strings.Repeat("far/", 800), filepath.Join(source, "link")))
	require.NoError(t, os.Link(filepath.Join(source, "dir 0/of/0"), filepath.Join(source, "hard link")))
	if os.Getuid() == 0 {
		require.NoError(t, unix.Mknod(filepath.Join(source, "whiteout"), unix.S_IFCHR, 0))
	}
	for version, a := range map[string]fsverity.Algorithm{"0": fsverity.SHA256, "1": fsverity.SHA512, "2": fsverity.SHA256} {
		path := filepath.Join(t.TempDir(), "repository")
		out, err := exec.CommandContext(t.Context(), "cfsctl", "init", "--insecure", "--algorithm", a.String(), path).CombinedOutput()
		require.NoError(t, err, "%s", out)
		text, err := cfsctl(t, path, "--erofs-version", version, "create-image", source, "some/name")
		require.NoError(t, err, text)
		report := check(t, path, nil)
		assert.Empty(t, report.Damages)
		assert.Equal(t, &verify.Unreferenced{}, report.Unreferenced)
		assert.EqualValues(t, len(files)+1, report.Objects)

		d, err := fsverity.Compute(a, bytes.NewReader(files[333]))
		require.NoError(t, err)
		require.NoError(t, os.Remove(filepath.Join(path, composefsrepo.ObjectPath(d))))
		finds, _ := fsck(t, path)
		assert.True(t, finds)
		report = check(t, path, nil)
		require.Len(t, report.Damages, 1)
		assert.Equal(t, verify.ObjectMissing, report.Damages[0].Kind)
		require.Len(t, report.Damages[0].Places, 1)
		assert.Equal(t, "EROFS image", report.Damages[0].Places[0].Part)
	}
}
