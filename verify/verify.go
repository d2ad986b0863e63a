// Package verify checks composefs repositories: whether each object is what its name
// says, whether streams and links lead to what is there, and whether the images that
// come out are those that were pulled, down to the digest of each layer. It says of each
// damage which images it touches, which of their files, and what to do.
//
// Each object is read once, on all cores, while the digests of the layers that it is a
// part of are computed, too; those that several layers have are read for each, but
// checked once. What is held of an object is some thirty bytes. Nothing in a repository
// is trusted, and nothing is written.
package verify

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"

	"github.com/skopeo-cfs/skopeo-cfs/bootc"
	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
)

// Options are optional.
type Options struct {
	// Images are what is checked, with all that they refer to. Without any, all of the
	// repository is.
	Images []Wanted
	// Host is the host that the repository is of, nil for none. Its deployments are
	// among the names of images, and each must have its EROFS image.
	Host *bootc.Host
	// Progress is told how many bytes were read, of how many that is known by then. It
	// is called by several goroutines at once.
	Progress func(done, total int64)
}

// Wanted is an image to be checked.
type Wanted struct {
	// Name is what reports call it.
	Name string
	// Digest is the one under which its manifest is stored, or else its config.
	Digest digest.Digest
}

// Repository checks a repository, or images of it. What is damaged is in the report; the
// error is that of ctx, soon after its end, or wraps composefsrepo.ErrNotFound where an
// image is not there.
func Repository(ctx context.Context, repo *composefsrepo.Repo, options *Options) (*Report, error) {
	c := newChecker(repo, options)
	for _, step := range []func(context.Context) error{
		c.readLinks,
		c.loadStreams,
		c.findImages,
		c.readImages,
		c.checkRefs,
		c.checkEROFS,
		c.countObjects,
		c.checkContents,
		c.checkRest,
		c.judgeLayers,
		c.judgeImages,
		c.locate,
	} {
		if err := step(ctx); err != nil {
			return nil, fmt.Errorf("checking %s: %w", repo.Path(), err)
		}
	}
	return c.report(), nil
}

// checker is a check under way.
type checker struct {
	Options
	repo  *composefsrepo.Repo
	cores int
	set   *set

	links   links
	streams map[fsverity.Digest]*stream
	images  []*image
	layers  map[fsverity.Digest]*layer // by their streams
	erofs   map[fsverity.Digest]*erofsImage
	parts   map[fsverity.Digest][]part // objects that are all of a part

	anyDamaged               atomic.Bool // an object is
	unreferenced             Unreferenced
	objects, bytes, measured atomic.Int64
	done, total              atomic.Int64
	examiners                sync.Pool // of *examiner
	findings
}

func newChecker(repo *composefsrepo.Repo, options *Options) *checker {
	c := &checker{
		repo:    repo,
		cores:   runtime.GOMAXPROCS(0),
		set:     newSet(),
		streams: map[fsverity.Digest]*stream{},
		layers:  map[fsverity.Digest]*layer{},
		erofs:   map[fsverity.Digest]*erofsImage{},
		parts:   map[fsverity.Digest][]part{},

		findings: newFindings(),
	}
	if options != nil {
		c.Options = *options
	}
	c.examiners.New = func() any { return newExaminer(repo.Algorithm()) }
	return c
}

// whole tells whether all of the repository is to be checked.
func (c *checker) whole() bool { return len(c.Images) == 0 }

// progress tells that bytes were read.
func (c *checker) progress(bytes int64) {
	if done := c.done.Add(bytes); c.Progress != nil {
		c.Progress(done, c.total.Load())
	}
}
