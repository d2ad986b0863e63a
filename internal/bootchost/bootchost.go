// Package bootchost makes bootc hosts for tests: a root directory with a physical
// root in sysroot, whose repository is one of the fixtures, and with the files in
// proc and run that describe the running system.
package bootchost

import (
	"context"
	"crypto/sha512"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
	"github.com/skopeo-cfs/skopeo-cfs/splitstream"
)

// Deployment is a deployment to lay out.
type Deployment struct {
	// Layout is the fixture layout that it was made of.
	Layout string
	// Name is the image's name in the origin, quay.io/org/LAYOUT:latest if "".
	Name string
	// Form is the reference in the origin with %s for the name, that of an
	// unverified image from a registry if "".
	Form string
	// Record is how the origin leads to the image.
	Record Record
	// Origin is the origin file's content instead of one made of the above.
	Origin string
	// UKI: it boots a unified kernel image.
	UKI bool
}

// Record is how a deployment leads to its image.
type Record int

// The records of newer and of older deployments.
const (
	ManifestDigest Record = iota // in the origin
	ImageInfo                    // an .imginfo beside the origin
	Nothing                      // only the ID itself, which a config refers to
)

// Host is a host that was laid out.
type Host struct {
	Root       string // where the running system has proc, run and sysroot
	Sysroot    string
	Repository string
	IDs        []string         // of the deployments, in the order given
	Images     []fixtures.Image // that they were made of
	uki        []bool
}

// New lays out a host with deployments and the fixture repository of a name, or
// without a repository if it is "", where no images are looked for. Nothing
// runs, is staged or has a boot entry yet.
func New(t testing.TB, fixture string, deployments ...Deployment) *Host {
	t.Helper()
	root, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	h := &Host{Root: root, Sysroot: filepath.Join(root, "sysroot")}
	h.Repository = filepath.Join(h.Sysroot, "composefs")
	must(t, os.MkdirAll(h.Sysroot, 0o755))
	var repo *composefsrepo.Repo
	if fixture != "" {
		must(t, fixtures.UnpackTo(h.Sysroot, fixture))
		must(t, os.Rename(filepath.Join(h.Sysroot, fixture), h.Repository))
		repo, err = composefsrepo.Open(context.Background(), h.Repository, nil)
		must(t, err)
		defer repo.Close()
	}
	for _, d := range deployments {
		h.deploy(t, repo, d)
	}
	h.write(t, "proc/cmdline", "BOOT_IMAGE=/vmlinuz root=UUID=0 rw quiet\n")
	h.mount(t, "/dev/vda3")
	return h
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// write writes a file below the root.
func (h *Host) write(t testing.TB, path, content string) {
	t.Helper()
	path = filepath.Join(h.Root, path)
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path, []byte(content), 0o644))
}

// deploy lays out a deployment.
func (h *Host) deploy(t testing.TB, repo *composefsrepo.Repo, d Deployment) {
	t.Helper()
	want := fixtures.Expected(t)[d.Layout]
	id := h.idOf(t, repo, want.Config, d.Layout)
	h.IDs, h.Images, h.uki = append(h.IDs, id), append(h.Images, want), append(h.uki, d.UKI)
	dir := filepath.Join("sysroot/state/deploy", id)
	must(t, os.MkdirAll(filepath.Join(h.Root, dir, "etc"), 0o755))
	must(t, os.Symlink("../../os/default/var", filepath.Join(h.Root, dir, "var")))
	if d.Record == ImageInfo {
		h.write(t, filepath.Join(dir, id+".imginfo"), imageInfo(t, repo, want.Manifest))
	}
	origin := d.Origin
	if origin == "" {
		origin = originOf(d, want)
	}
	h.write(t, filepath.Join(dir, id+".origin"), origin)
}

func originOf(d Deployment, image fixtures.Image) string {
	name, form, bootType := d.Name, d.Form, "bls"
	if name == "" {
		name = "quay.io/org/" + d.Layout + ":latest"
	}
	if form == "" {
		form = "ostree-unverified-image:docker://%s"
	}
	if d.UKI {
		bootType = "uki"
	}
	origin := "[origin]\ncontainer-image-reference=" + fmt.Sprintf(form, name) + "\n\n[boot]\nboot_type=" + bootType + "\ndigest=" + strings.Repeat("0b", 32) + "\n"
	if d.Record == ManifestDigest {
		origin += "\n[image]\nmanifest_digest=" + image.Manifest.String() + "\n"
	}
	return origin
}

// idOf returns the EROFS image that the config refers to; one of its own making
// for importers that wrote no such reference.
func (h *Host) idOf(t testing.TB, repo *composefsrepo.Repo, config digest.Digest, layout string) string {
	t.Helper()
	if repo != nil {
		for name, d := range h.references(t, repo, "oci-config-"+config.String()) {
			if strings.HasPrefix(name, "composefs.image") {
				return d.String()
			}
		}
	}
	return fmt.Sprintf("%x", sha512.Sum512([]byte("EROFS image of "+layout)))
}

// references returns the named references of a stream.
func (h *Host) references(t testing.TB, repo *composefsrepo.Repo, stream string) map[string]fsverity.Digest {
	t.Helper()
	f, err := os.Open(filepath.Join(h.Repository, "streams", stream))
	must(t, err)
	defer f.Close()
	info, err := f.Stat()
	must(t, err)
	s, err := splitstream.NewReader(f, info.Size(), repo.Algorithm())
	must(t, err)
	refs, err := s.NamedRefs()
	must(t, err)
	return refs
}

// imageInfo returns an .imginfo file: what a program makes of a manifest and a
// config that reads and writes them.
func imageInfo(t testing.TB, repo *composefsrepo.Repo, manifest digest.Digest) string {
	t.Helper()
	image, err := repo.ImageByDigest(context.Background(), manifest)
	must(t, err)
	var info struct {
		Config   map[string]any `json:"config"`
		Manifest map[string]any `json:"manifest"`
	}
	must(t, json.Unmarshal(image.Config, &info.Config))
	must(t, json.Unmarshal(image.Manifest, &info.Manifest))
	data, err := json.MarshalIndent(info, "", " ")
	must(t, err)
	return string(data)
}
