package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/genimage"
)

// bench is the place where all is measured.
type bench struct {
	options
	disk        *disk
	self        string // the path of this program, which plays some of the parts
	storageConf string // the path of a configuration that asks for nothing
	before      string // the path of the skopeo-cfs of the commit baseline, "" for none
	whyNoGroups error  // why memory is not counted in control groups, nil if it is
}

// diskSize is how often the image's size the disk has to hold: it and one of
// twice the size as repositories, and two or three more times what a way leaves
// behind on the way. Metadata come on top.
const (
	diskSize  = 6
	extraDisk = 1 << 30 // bytes
)

func newBench(ctx context.Context, o options) (_ *bench, err error) {
	b := &bench{options: o}
	if b.self, err = os.Executable(); err != nil {
		return nil, err
	}
	if b.command, err = filepath.Abs(o.command); err != nil {
		return nil, err
	}
	if _, err := os.Stat(b.command); err != nil {
		return nil, err
	}
	if b.disk, err = newDisk(ctx, o.dir, diskSize*o.spec.Bytes+extraDisk); err != nil {
		return nil, err
	}
	if b.disk.whyDir != nil {
		say("no filesystem of its own: %v", b.disk.whyDir)
	}
	if b.whyNoGroups = tryCgroup(); b.whyNoGroups != nil {
		say("memory is the largest resident set, for want of control groups: %v", b.whyNoGroups)
	}
	b.storageConf = filepath.Join(b.disk.work, "storage.conf")
	err = os.WriteFile(b.storageConf, []byte(fmt.Sprintf("[storage]\ndriver = \"overlay\"\nrunroot = %q\ngraphroot = %q\n",
		filepath.Join(b.disk.work, "run"), filepath.Join(b.disk.work, "root"))), 0o600)
	if err == nil && o.baseline != "" {
		b.before, err = buildRevision(ctx, o.baseline, b.disk.work)
	}
	if err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

func (b *bench) close() error { return b.disk.close() }

func (b *bench) results() *Results {
	return &Results{Cores: runtime.NumCPU(), Disk: b.disk.String(), Memory: b.memoryKind()}
}

// memoryKind says what is called memory.
func (b *bench) memoryKind() string {
	if b.whyNoGroups != nil {
		return "the largest resident set of a process"
	}
	return "what all processes use together, counted in a control group, without caches of files"
}

// say tells on standard error what is going on.
func say(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

// tag is what the image is called in a repository.
const tag = "localhost/generated:latest"

// repository is one with a generated image, on the disk.
type repository struct {
	path string
	spec genimage.Spec
}

// objects is the path of the list of the image's objects.
func (r repository) objects() string { return r.path + ".objects" }

// image returns how a copy names the image.
func (r repository) image() string { return "composefs:[" + r.path + "]" + tag }

func (r repository) remove() error {
	return errors.Join(os.RemoveAll(r.path), os.Remove(r.objects()))
}

// generate makes a repository. It and the image are read once, so that they are
// in the cache.
func (b *bench) generate(ctx context.Context, name string, spec genimage.Spec) (repository, error) {
	return b.generateBy(ctx, name, spec, fsverity.SHA512)
}

// generateBy is generate, of a repository whose objects are named by an algorithm.
func (b *bench) generateBy(ctx context.Context, name string, spec genimage.Spec, algorithm fsverity.Algorithm) (repository, error) {
	say("generating an image of %d files, %s", spec.Files, bytesText(spec.Bytes))
	r := repository{filepath.Join(b.disk.path, name), spec}
	_, err := b.measure(ctx, func(string) [][]string {
		return [][]string{
			{b.self, "generate", r.path, strconv.Itoa(spec.Files), strconv.FormatInt(spec.Bytes, 10), strconv.Itoa(spec.Layers), algorithm.String()},
			{b.self, "read-layers", r.path},
		}
	})
	return r, err
}

// twice returns a spec of an image of twice the size.
func twice(spec genimage.Spec) genimage.Spec {
	spec.Files *= 2
	spec.Bytes *= 2
	return spec
}
