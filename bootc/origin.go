package bootc

import (
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
	"gopkg.in/ini.v1"
)

// Image is the name of an image as a deployment's origin has it.
type Image struct {
	// Transport is the one that the image was pulled through, by
	// containers/image's name: docker, containers-storage, oci and so on.
	Transport string
	// Name is what the transport knows the image by: quay.io/org/os:42, or
	// /path:tag for a layout.
	Name string
}

// BootType is how a deployment is booted.
type BootType string

// The boot types.
const (
	BLS BootType = "bls" // a kernel and an initrd, by an entry of the boot menu
	UKI BootType = "uki" // a unified kernel image
)

// origin is what an origin file says.
type origin struct {
	image          Image
	manifestDigest digest.Digest // "" in older ones
	bootType       BootType
	bootDigest     string
}

// parseOrigin decodes an origin file. What it could decode is returned beside
// the error, which wraps ErrOrigin.
func parseOrigin(data []byte) (origin, error) {
	var o origin
	// The values are taken as they are: names may have any of the characters
	// that other dialects of INI give a meaning to.
	file, err := ini.LoadSources(ini.LoadOptions{
		IgnoreContinuation:      true,
		IgnoreInlineComment:     true,
		KeyValueDelimiters:      "=",
		PreserveSurroundedQuote: true,
	}, data)
	if err != nil {
		return o, fmt.Errorf("%w: %.200q", ErrOrigin, err.Error())
	}
	value := func(section, key string) string {
		s, err := file.GetSection(section)
		if err != nil || !s.HasKey(key) {
			return ""
		}
		return s.Key(key).Value()
	}
	var errs []error
	if o.image, err = parseImage(value("origin", "container-image-reference")); err != nil {
		errs = append(errs, err)
	}
	if text := value("image", "manifest_digest"); text != "" {
		if o.manifestDigest, err = digest.Parse(text); err != nil {
			o.manifestDigest = ""
			errs = append(errs, fmt.Errorf("manifest digest %.200q: %w", text, err))
		}
	}
	switch t := BootType(value("boot", "boot_type")); t {
	case BLS, UKI, "":
		o.bootType = t
	default:
		errs = append(errs, fmt.Errorf("boot type %.60q", t))
	}
	o.bootDigest = value("boot", "digest")
	if len(errs) > 0 {
		return o, fmt.Errorf("%w: %w", ErrOrigin, errors.Join(errs...))
	}
	return o, nil
}

// transports are those whose names an image reference may begin with. registry
// is another name for docker.
var transports = []string{
	"docker", "registry", "containers-storage", "oci", "oci-archive", "docker-archive", "docker-daemon", "dir",
}

// parseImage returns the image that a container-image-reference of ostree's
// names, in any of the forms
//
//	ostree-unverified-image:TRANSPORT:NAME    ostree-unverified-registry:NAME
//	ostree-image-signed:TRANSPORT:NAME
//	ostree-remote-image:REMOTE:TRANSPORT:NAME ostree-remote-registry:REMOTE:NAME
//
// where TRANSPORT:NAME is docker://NAME for a registry's image. How the image
// was verified when it was pulled is of no interest here.
func parseImage(text string) (Image, error) {
	if text == "" {
		return Image{}, errors.New("it names no image")
	}
	fail := func(why string) (Image, error) {
		return Image{}, fmt.Errorf("image reference %.200q: %s", text, why)
	}
	kind, rest, _ := strings.Cut(text, ":")
	if kind == "ostree-remote-image" || kind == "ostree-remote-registry" {
		remote, image, ok := strings.Cut(rest, ":")
		if !ok || remote == "" {
			return fail("no remote")
		}
		rest = image
	}
	switch kind {
	case "ostree-unverified-registry", "ostree-remote-registry":
		rest = "registry:" + rest
	case "ostree-unverified-image", "ostree-image-signed", "ostree-remote-image":
	default:
		return fail("none of ostree's forms")
	}
	image, ok := ParseImage(rest)
	if !ok {
		return fail("no transport and name")
	}
	return image, nil
}

// ParseImage returns the image that TRANSPORT:NAME is, with one of the
// transports that an origin may have.
func ParseImage(text string) (image Image, ok bool) {
	transport, name, ok := strings.Cut(text, ":")
	if !ok {
		return Image{}, false
	}
	for _, known := range transports {
		if transport != known {
			continue
		}
		if known == "registry" {
			transport = "docker"
		}
		if transport == "docker" || transport == "docker-daemon" {
			name = strings.TrimPrefix(name, "//")
		}
		return Image{transport, name}, name != ""
	}
	return Image{}, false
}
