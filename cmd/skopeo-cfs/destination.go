package main

import (
	"fmt"

	"github.com/containers/image/v5/copy"
	"github.com/containers/image/v5/docker/reference"
	"github.com/containers/image/v5/pkg/compression"
	"github.com/sirupsen/logrus"
	"github.com/spf13/pflag"
)

// destinationOptions say how a destination keeps an image, with skopeo's names.
type destinationOptions struct {
	compress, decompress bool
	compressFormat       string
	compressLevel        int
	forceCompressFormat  bool
	acceptUncompressed   bool
	precomputeDigests    bool
	additionalTags       []string
	flags                *pflag.FlagSet
}

func (o *destinationOptions) addFlags(flags *pflag.FlagSet) {
	o.flags = flags
	flags.BoolVar(&o.compress, "dest-compress", false, "compress layers (dir: only)")
	flags.BoolVar(&o.decompress, "dest-decompress", false, "decompress layers (dir: only)")
	flags.StringVar(&o.compressFormat, "dest-compress-format", "", "`format` to compress layers with: gzip, zstd or zstd:chunked")
	flags.IntVar(&o.compressLevel, "dest-compress-level", 0, "compression `level`; the range depends on the format")
	flags.BoolVar(&o.forceCompressFormat, "dest-force-compress-format", false, "do not reuse layers that are compressed in another format (default: true if --dest-compress-format is given)")
	flags.BoolVar(&o.acceptUncompressed, "dest-oci-accept-uncompressed-layers", false, "keep uncompressed layers uncompressed (oci: and oci-archive: only)")
	flags.BoolVar(&o.precomputeDigests, "dest-precompute-digests", false, "compute the digests of layers first, so that layers the registry has are not uploaded (docker: only)")
}

// addTagFlag adds the flag of a destination that has one image.
func (o *destinationOptions) addTagFlag(flags *pflag.FlagSet) {
	flags.StringArrayVar(&o.additionalTags, "additional-tag", nil, "another `tag` for the image (docker-archive: only); may be repeated")
}

// apply sets what the flags say for copies to a transport.
func (o *destinationOptions) apply(transport string, options *copy.Options) error {
	if o.compress && o.decompress {
		return fmt.Errorf("--dest-compress and --dest-decompress can't be given together")
	}
	sys := options.DestinationCtx
	sys.DirForceCompress, sys.DirForceDecompress = o.compress, o.decompress
	sys.OCIAcceptUncompressedLayers = o.acceptUncompressed
	sys.DockerRegistryPushPrecomputeDigests = o.precomputeDigests
	if err := o.applyCompression(transport, options); err != nil {
		return err
	}
	for _, text := range o.additionalTags {
		named, err := reference.ParseNormalizedNamed(text)
		if err != nil {
			return fmt.Errorf("--additional-tag %q: %w", text, err)
		}
		tagged, ok := reference.TagNameOnly(named).(reference.NamedTagged)
		if !ok {
			return fmt.Errorf("--additional-tag %q: must be a name with a tag", text)
		}
		sys.DockerArchiveAdditionalTags = append(sys.DockerArchiveAdditionalTags, tagged)
	}
	o.warn(transport)
	return nil
}

func (o *destinationOptions) applyCompression(transport string, options *copy.Options) error {
	if o.flags.Changed("dest-compress-level") {
		options.DestinationCtx.CompressionLevel = &o.compressLevel
	}
	if o.compressFormat == "" {
		if o.forceCompressFormat {
			return fmt.Errorf("--dest-force-compress-format needs --dest-compress-format")
		}
		return nil
	}
	format, err := compression.AlgorithmByName(o.compressFormat)
	if err != nil {
		return fmt.Errorf("--dest-compress-format %q: must be gzip, zstd or zstd:chunked", o.compressFormat)
	}
	if keepsUncompressed(transport) {
		return nil
	}
	options.DestinationCtx.CompressionFormat = &format
	options.ForceCompressionFormat = o.forceCompressFormat || !o.flags.Changed("dest-force-compress-format")
	return nil
}

// keepsUncompressed tells whether a transport keeps layers uncompressed, whatever is
// asked for.
func keepsUncompressed(transport string) bool {
	return transport == "containers-storage" || transport == "docker-archive" || transport == "docker-daemon"
}

// warn says which flags have no effect with a transport, as skopeo does.
func (o *destinationOptions) warn(transport string) {
	for _, f := range []struct {
		flag    string
		effects bool
	}{
		{"dest-compress", transport == "dir"},
		{"dest-decompress", transport == "dir"},
		{"dest-compress-format", !keepsUncompressed(transport)},
		{"dest-compress-level", !keepsUncompressed(transport)},
		{"dest-oci-accept-uncompressed-layers", transport == "oci" || transport == "oci-archive"},
		{"dest-precompute-digests", transport == "docker"},
		{"additional-tag", transport == "docker-archive"},
	} {
		if o.flags.Changed(f.flag) && !f.effects {
			logrus.Warnf("--%s has no effect with %s:", f.flag, transport)
		}
	}
}
