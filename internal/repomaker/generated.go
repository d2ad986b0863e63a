package repomaker

import (
	"github.com/skopeo-cfs/skopeo-cfs/internal/genimage"
)

// AddGenerated adds a generated image, and tags it unless tag is "".
func (r *Repo) AddGenerated(tag string, spec genimage.Spec, listing Listing) (Added, error) {
	layers, err := genimage.Generate(spec)
	if err != nil {
		return Added{}, err
	}
	image := Image{Listing: listing}
	for _, l := range layers {
		tar := l.Reader()
		defer tar.Close()
		image.Layers = append(image.Layers, Layer{Tar: tar})
	}
	return r.AddImage(tag, image)
}
