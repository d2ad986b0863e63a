package main

import (
	"fmt"

	"github.com/containers/image/v5/copy"
	"github.com/spf13/pflag"
)

// instanceOptions say which images of a source that is a list of them are copied.
// An image of a composefs repository is none.
type instanceOptions struct {
	all       bool
	multiArch string
}

func (o *instanceOptions) addFlags(flags *pflag.FlagSet) {
	flags.BoolVarP(&o.all, "all", "a", false, "copy all images if the source is a list")
	flags.StringVar(&o.multiArch, "multi-arch", "", "which images to copy if the source is a list: `system` (the image for this platform), all, or index-only (default: system)")
}

// selections are the values of --multi-arch.
var selections = map[string]copy.ImageListSelection{
	"":           copy.CopySystemImage,
	"system":     copy.CopySystemImage,
	"all":        copy.CopyAllImages,
	"index-only": copy.CopySpecificImages, // which are none
}

func (o *instanceOptions) apply(options *copy.Options) error {
	selection, ok := selections[o.multiArch]
	switch {
	case !ok:
		return fmt.Errorf("--multi-arch %q: must be system, all or index-only", o.multiArch)
	case o.all && o.multiArch != "":
		return fmt.Errorf("--all and --multi-arch can't be given together")
	case o.all:
		selection = copy.CopyAllImages
	}
	options.ImageListSelection = selection
	return nil
}
