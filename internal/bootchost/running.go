package bootchost

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// mount makes source what is mounted at /.
func (h *Host) mount(t testing.TB, source string) {
	t.Helper()
	h.write(t, "proc/self/mountinfo", "1 1 0:2 / / rw - rootfs rootfs rw\n"+
		"24 29 0:22 / /proc rw,nosuid,nodev,noexec,relatime shared:5 - proc proc rw\n"+
		"29 1 0:25 / / ro,relatime shared:1 - overlay "+source+" ro,lowerdir+=/,datadir+=/\n"+
		"30 29 253:3 / /sysroot ro,relatime shared:2 - xfs /dev/vda3 ro,seclabel\n")
}

// Mount makes the system run the i-th deployment, as it is after a boot.
func (h *Host) Mount(t testing.TB, i int) {
	t.Helper()
	h.mount(t, "composefs:"+h.IDs[i])
}

// MountTransient makes the system run the i-th deployment with a root that
// forgets what is written to it.
func (h *Host) MountTransient(t testing.TB, i int) {
	t.Helper()
	h.mount(t, "transient:composefs="+h.IDs[i])
}

// MountAnother mounts something else at /, as in a container.
func (h *Host) MountAnother(t testing.TB) {
	t.Helper()
	h.mount(t, "overlay")
}

// CommandLine makes the i-th deployment the one that the kernel was started for;
// argument is composefs=%s or another way to say so.
func (h *Host) CommandLine(t testing.TB, argument string, i int) {
	t.Helper()
	h.write(t, "proc/cmdline", "root=UUID=0 rw "+fmt.Sprintf(argument, h.IDs[i])+" quiet\n")
}

// Boot makes the i-th deployment the one that was booted.
func (h *Host) Boot(t testing.TB, i int) {
	t.Helper()
	h.Mount(t, i)
	h.CommandLine(t, "composefs=%s", i)
}

// Stage stages the i-th deployment.
func (h *Host) Stage(t testing.TB, i int, locked bool) {
	t.Helper()
	h.write(t, "run/composefs/staged-deployment", fmt.Sprintf(`{"depl_id":%q,"finalization_locked":%v}`, h.IDs[i], locked))
}

// Menu writes boot entries in the order given, for GRUB or by unified kernel
// images in its user.cfg, to the boot partition of the physical root.
func (h *Host) Menu(t testing.TB, order ...int) {
	t.Helper()
	h.write(t, "sysroot/boot/grub2/grub.cfg", "blscfg\n")
	config := "if [ -f ${config_directory}/efiuuid.cfg ]; then\n\tsource ${config_directory}/efiuuid.cfg\nfi\n\n"
	for n, i := range order {
		if h.uki[i] {
			config += fmt.Sprintf("menuentry \"OS: (%s)\" {\n\tinsmod fat\n\tinsmod chain\n\tsearch --no-floppy --set=root --fs-uuid \"${EFI_PART_UUID}\"\n\tchainloader /EFI/Linux/bootc/bootc_composefs-%s.efi\n}\n", h.IDs[i], h.IDs[i])
			continue
		}
		h.write(t, fmt.Sprintf("sysroot/boot/loader/entries/bootc_os-42.%d-%d.conf", len(order)-n, len(order)-n), h.entry(i, n))
	}
	h.write(t, "sysroot/boot/grub2/user.cfg", config)
}

// EFIMenu writes boot entries in the order given, for systemd-boot, to an EFI
// partition that is mounted at a path below the root.
func (h *Host) EFIMenu(t testing.TB, path string, order ...int) {
	t.Helper()
	for n, i := range order {
		content := h.entry(i, n)
		if h.uki[i] {
			content = fmt.Sprintf("title OS\nversion 42\nsort-key bootc-os-%d\nefi /EFI/Linux/bootc/bootc_composefs-%s.efi\n", n, h.IDs[i])
		}
		// The names say the opposite, as nothing goes by them.
		h.write(t, filepath.Join(path, fmt.Sprintf("loader/entries/bootc_os-42-%d.conf", n)), content)
	}
}

// entry returns a boot entry of the n-th place.
func (h *Host) entry(i, n int) string {
	return fmt.Sprintf("title OS 42\nversion 42\nsort-key bootc-os-%d\nlinux /boot/bootc_composefs-%s/vmlinuz\ninitrd /boot/bootc_composefs-%s/initrd\noptions root=UUID=0 rw composefs=%s\n", n, h.IDs[i], h.IDs[i], h.IDs[i])
}

// Tag gives the i-th deployment's image the tag that bootc gives it.
func (h *Host) Tag(t testing.TB, i int) {
	t.Helper()
	must(t, os.Symlink("../../oci-manifest-"+h.Images[i].Manifest.String(),
		filepath.Join(h.Repository, "streams/refs/oci", "localhost%2Fbootc-"+h.Images[i].Manifest.String())))
}

// RemoveManifests removes all manifests and tags, as of a repository from before
// they were kept.
func (h *Host) RemoveManifests(t testing.TB) {
	t.Helper()
	RemoveManifests(t, h.Repository)
}

// EditImageInfo changes the manifest in the i-th deployment's .imginfo file.
func (h *Host) EditImageInfo(t testing.TB, i int, edit func(manifest map[string]any)) {
	t.Helper()
	path := filepath.Join(h.Sysroot, "state/deploy", h.IDs[i], h.IDs[i]+".imginfo")
	data, err := os.ReadFile(path)
	must(t, err)
	var info map[string]map[string]any
	must(t, json.Unmarshal(data, &info))
	edit(info["manifest"])
	data, err = json.Marshal(info)
	must(t, err)
	must(t, os.WriteFile(path, data, 0o644))
}

// RemoveManifests removes all manifests and tags of a repository.
func RemoveManifests(t testing.TB, repository string) {
	t.Helper()
	manifests, err := filepath.Glob(filepath.Join(repository, "streams/oci-manifest-*"))
	must(t, err)
	for _, m := range manifests {
		must(t, os.Remove(m))
	}
	must(t, os.RemoveAll(filepath.Join(repository, "streams/refs")))
}

// Collect removes the i-th deployment's image, as a collection of garbage does:
// its manifest, its config and what tags point to it.
func (h *Host) Collect(t testing.TB, i int) {
	t.Helper()
	streams := filepath.Join(h.Repository, "streams")
	must(t, os.Remove(filepath.Join(streams, "oci-manifest-"+h.Images[i].Manifest.String())))
	must(t, os.Remove(filepath.Join(streams, "oci-config-"+h.Images[i].Config.String())))
	tags, err := os.ReadDir(filepath.Join(streams, "refs/oci"))
	must(t, err)
	for _, tag := range tags {
		path := filepath.Join(streams, "refs/oci", tag.Name())
		target, err := os.Readlink(path)
		must(t, err)
		if filepath.Base(target) == "oci-manifest-"+h.Images[i].Manifest.String() {
			must(t, os.Remove(path))
		}
	}
}
